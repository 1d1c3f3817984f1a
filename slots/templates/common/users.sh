# Who uses a slot, and what is done about it.
verb_users() { # A|B
    choose "$1"
    look
    users
    say_users user
}

say_users() { # KEY: a line each
    [ -n "$users" ] || return 0
    while IFS= read -r say_line; do
        say "$1" "$say_line"
    done <<END
$users
END
}

shown_users() { # the first few of $users, on one line
    printf '%s\n' "$users" | sed -n -e '1,5s/^/pid /p' -e '6s/.*/.../p' | tr '\n' ',' \
        | sed -e 's/,$//' -e 's/,/, /g'
}

verb_restart() { # TOKEN A|B SECONDS: those of each_service that use this slot
    need_lock "$1"
    choose "$2"
    restart_s=$3
    restart_failed=''
    look
    users
    each_service restart_one
    restart_tries=0
    while look && users && [ -n "$users" ] && [ "$restart_tries" -lt 10 ]; do
        sleep 0.3
        restart_tries=$((restart_tries + 1))
    done
    say_users straggler
    [ -z "$restart_failed" ] || fail "not restarted: $restart_failed"
}

restart_one() { # NAME always|if-used COUNT PROCESS... COMMAND...
    restart_name=$1
    restart_why=$2
    restart_count=$3
    shift 3
    restart_used=no
    while [ "$restart_count" -gt 0 ]; do
        # The kernel keeps the first 15 (Linux) or 19 (FreeBSD) bytes of a command's name.
        for restart_comm in "$1" "$(printf '%.15s' "$1")" "$(printf '%.19s' "$1")"; do
            case $users$NL in *" $restart_comm$NL"*) restart_used=yes ;; esac
        done
        restart_count=$((restart_count - 1))
        shift
    done
    if [ "$restart_used$restart_why" = noif-used ]; then
        say kept "$restart_name"
        return 0
    fi
    [ "$#" -gt 0 ] || refuse "service $restart_name has no restart command on this platform"
    restart_status=0
    limited "$restart_s" "$scratch.restart" "$@" || restart_status=$?
    if [ "$restart_status" -eq 0 ]; then
        say restarted "$restart_name"
        return 0
    fi
    [ "$restart_status" -ne 124 ] || echo "no end within $restart_s s" >>"$scratch.restart"
    restart_said=$(tail -n 1 "$scratch.restart" | cut -c1-300)
    restart_failed="${restart_failed:+$restart_failed; }$restart_name: status $restart_status"
    restart_failed=$restart_failed${restart_said:+: $restart_said}
    say failed "$restart_name status $restart_status: $(tail -n 5 "$scratch.restart")"
}
