# What is told of a process that uses a slot, for the platform Linux and for the sandbox.
name_users() { # LINES (PID HOLD): $users, one line for each process that still is
    users=''
    [ -n "$1" ] || return 0
    name_boot=$(sed -n 's/^btime //p' /proc/stat)
    name_pids=$(printf '%s\n' "$1" | cut -d' ' -f1 | sort -n -u)
    # shellcheck disable=SC2086 # one number a word
    name_owners=$NL$(printf '/proc/%s\n' $name_pids | xargs stat -c '%n %U' 2>/dev/null)$NL || :
    name_pid='' name_holds=''
    while read -r name_next name_hold; do
        if [ "$name_next" = "$name_pid" ]; then
            name_holds=$name_holds,$name_hold
        else
            name_user
            name_pid=$name_next name_holds=$name_hold
        fi
    done <<END
$1
END
    name_user
}

name_user() { # of name_pid and name_holds
    [ -n "$name_pid" ] && [ "$name_pid" != "$$" ] || return 0
    { read -r name_comm <"/proc/$name_pid/comm"; } 2>/dev/null || return 0
    started "$name_pid"
    name_owner=${name_owners#*"$NL/proc/$name_pid "}
    [ -n "$started" ] && [ "$name_owner" != "$name_owners" ] || return 0
    # Ticks of a hundredth of a second, as every Linux shows them to programs.
    users=${users:+$users$NL}"$name_pid ${name_owner%%"$NL"*} $((name_boot + started / 100)) $name_holds ${name_comm:-?}"
}
