# The sandbox: who uses a slot.
users() { # $users: lines PID COMMAND; by path, of the processes that this user may look at
    users=''
    [ "$HERE" = yes ] || return 0
    real_path "$MOUNT"
    users_pids=$({
        printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/exe /proc/[0-9]*/fd/[0-9]* \
            | QUOTING_STYLE=literal xargs stat -c %N 2>/dev/null | sed "s,'*\$,/," \
            | grep -F -e "-> '$real_path/" -e "-> $real_path/" | cut -d/ -f3 || :
        printf '%s\n' /proc/[0-9]*/maps | xargs grep -l -s -F " $real_path/" 2>/dev/null \
            | cut -d/ -f3 || :
    } | sort -n -u)
    for users_pid in $users_pids; do
        [ "$users_pid" != "$$" ] || continue
        { read -r users_comm <"/proc/$users_pid/comm"; } 2>/dev/null || continue
        users=${users:+$users$NL}$users_pid\ $users_comm
    done
}
