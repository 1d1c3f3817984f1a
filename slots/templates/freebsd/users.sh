# FreeBSD: who uses a slot. fuser and fstat compare device numbers: asked for a folder that is no mount
# point they name every process of the root filesystem, so only proven mounts are asked.
users() { # $users: lines PID USER SINCE HOLDS COMMAND
    users=''
    [ "$HERE" = yes ] || return 0
    mounts_inside
    users_pids='' users_rows=''
    while IFS= read -r users_point; do
        [ -n "$users_point" ] || continue
        users_pids="$users_pids $(fuser -cm "$users_point" 2>/dev/null || :)"
        users_rows=$users_rows$(fstat -f -m "$users_point" 2>/dev/null || :)$NL
    done <<END
$MOUNT
$mounts_inside
END
    # shellcheck disable=SC2086 # one number a word
    users_pids=$(printf '%s\n' $users_pids | sort -n -u | tr '\n' ',')
    users_pids=${users_pids#,}
    [ -n "$users_pids" ] || return 0
    users_now=$(date +%s)
    boot_id
    users_list=$(ps -o pid= -o user= -o etimes= -o comm= -p "${users_pids%,}" 2>/dev/null) || :
    while read -r users_pid users_user users_age users_comm; do
        [ -n "$users_pid" ] && [ "$users_pid" != "$$" ] || continue
        users_holds
        case $users_age in
            -) users_since=$boot_id ;; # swapped out: for long, nobody knows for how long
            *) users_since=$((users_now - users_age)) ;;
        esac
        users=${users:+$users$NL}"$users_pid $users_user $users_since $users_holds $users_comm"
    done <<END
$users_list
END
}

users_holds() { # of users_pid: $users_holds; a command may hold blanks, so the number is what is sought
    users_holds=$(printf '%s' "$users_rows" | sed -E \
        -e "s/^.{8} .* $users_pid +(text|wd|root|tr|mmap|jail|ctty|[0-9]+)[*]? .*/\\1/" -e t -e d \
        | sed -E -e 's/^wd$/cwd/' -e 's/^mmap$/map/' -e 's/^[0-9]+$/file/' | sort -u | tr '\n' ',')
    users_holds=${users_holds%,}
    users_holds=${users_holds:-?}
}

prove_free() { :; } # nothing in base opens a device exclusively; a mount holds it for reading alone
