# Linux: who uses a slot.
# By device number, since a path says nothing inside a chroot or after a lazy umount. A filesystem
# that is also mounted outside the slot (a bind) is told by mount id and path instead.
users() { # $users: lines PID COMMAND
    users=''
    [ "$HERE" = yes ] || return 0
    real_path "$MOUNT"
    as_mountinfo "$real_path"
    users_devices=" $device_id " users_shared=''
    while read -r users_id _ users_device _ users_point _; do
        case $users_point in
            "$as_mountinfo"/*)
                if users_outside "$users_device"; then
                    users_shared="$users_shared $users_id:$users_point"
                else
                    users_devices="$users_devices$users_device "
                fi
                ;;
        esac
    done </proc/self/mountinfo
    users_pids=$({
        users_by_device
        users_by_map
        for users_one in $users_shared; do
            users_by_mount "${users_one%%:*}" "${users_one#*:}"
        done
    } | sort -n -u)
    for users_pid in $users_pids; do
        [ "$users_pid" != "$$" ] || continue
        { read -r users_comm <"/proc/$users_pid/comm"; } 2>/dev/null || continue
        users=${users:+$users$NL}$users_pid\ $users_comm
    done
}

users_outside() { # MAJOR:MINOR: is it mounted outside the slot as well?
    while read -r _ _ outside_device _ outside_point _; do
        [ "$outside_device" = "$1" ] || continue
        case $outside_point in
            "$as_mountinfo"/*) ;;
            *) return 0 ;;
        esac
    done </proc/self/mountinfo
    return 1
}

users_by_device() { # one stat for hundreds of paths: a fork for each would take seconds
    users_numbers=''
    for users_device in $users_devices; do
        users_major=${users_device%:*} users_minor=${users_device#*:}
        users_numbers="$users_numbers|$((users_major << 8 | users_minor & 0xff | (users_minor & 0xfff00) << 12))"
    done
    printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/exe /proc/[0-9]*/fd/[0-9]* \
        | xargs stat -L -c '%d %n' 2>/dev/null \
        | sed -n -E "s,^(${users_numbers#?}) /proc/([0-9]+)/.*,\\2,p"
}

users_by_map() { # maps prints device numbers in hexadecimal
    users_numbers=''
    for users_device in $users_devices; do
        users_numbers="$users_numbers|$(printf '%02x:%02x' "${users_device%:*}" "${users_device#*:}")"
    done
    printf '%s\n' /proc/[0-9]*/maps \
        | xargs grep -l -s -E " (${users_numbers#?}) " 2>/dev/null | cut -d/ -f3 || :
}

users_by_mount() { # MOUNT-ID POINT
    from_mountinfo "$2"
    printf '%s\n' /proc/[0-9]*/fdinfo/[0-9]* \
        | xargs grep -l -s -E "^mnt_id:[[:space:]]*$1\$" 2>/dev/null | cut -d/ -f3 || :
    printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd \
        | QUOTING_STYLE=literal xargs stat -c %N 2>/dev/null | sed "s,'*\$,/," \
        | grep -F -e "-> '$from_mountinfo/" -e "-> $from_mountinfo/" | cut -d/ -f3 || :
}
