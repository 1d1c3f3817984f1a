# Linux: who uses a slot. By device number, since a path says nothing inside a chroot or after a lazy
# umount. What is also mounted outside the slot (a bind) is told by mount id and path instead.
users() { # $users: lines PID USER SINCE HOLDS COMMAND
    users=''
    [ -n "$device_id" ] || return 0
    users_mounts
    name_users "$({
        users_by_device
        users_by_map
        users_by_mount
        users_by_socket
    } | sort -u -k1,1n -k2,2)"
}

# A copy of the mounts in another mount namespace has the same devices under other mount ids.
users_mounts() { # sets users_devices, and of what is also mounted outside: users_ids, users_points
    users_inside='' users_outside=' '
    users_read /proc/self/mountinfo
    users_here=$(stat -L -c %i /proc/self/ns/mnt 2>/dev/null) || users_here=
    users_tables=$(printf '%s\n' /proc/[0-9]*/mountinfo | xargs grep -l -s -F " $device_id " \
        | sed 's,mountinfo$,ns/mnt,' | xargs stat -L -c '%i %n' 2>/dev/null | sort -u -k1,1) || :
    while read -r users_namespace users_table; do
        [ -z "$users_table" ] || [ "$users_namespace" = "$users_here" ] \
            || users_read "${users_table%ns/mnt}mountinfo"
    done <<END
$users_tables
END
    users_devices=" $device_id " users_ids='' users_points=''
    while read -r users_device users_id users_point; do
        case $users_outside in
            *" $users_device "*)
                users_ids="$users_ids|$users_id"
                from_mountinfo "$users_point"
                users_points=$users_points$from_mountinfo$NL
                ;;
            *) users_devices="$users_devices$users_device " ;;
        esac
    done <<END
${users_inside:-$device_id}
END
    users_ids=${users_ids#?}
}

users_read() { # MOUNTINFO: what is mounted inside the slot is told by its parents, whatever its path
    read_inside=' '
    # shellcheck disable=SC2094 # read alone
    while read -r read_id read_parent read_device _ read_point _; do
        if [ "$read_device" = "$device_id" ]; then
            read_inside="$read_inside$read_id "
            continue
        fi
        case $read_inside in
            *" $read_parent "*)
                read_inside="$read_inside$read_id "
                users_inside=$users_inside"$read_device $read_id $read_point"$NL
                ;;
            *) users_outside="$users_outside$read_device " ;;
        esac
    done <<END
$(cat -- "$1" 2>/dev/null)
END
}

users_by_device() { # one stat for hundreds of paths: a fork for each would take seconds
    by_numbers=''
    for by_device in $users_devices; do
        by_major=${by_device%:*} by_minor=${by_device#*:}
        by_numbers="$by_numbers|$((by_major << 8 | by_minor & 0xff | (by_minor & 0xfff00) << 12))"
    done
    # Without asking a server that may be gone: what is known of a file will do.
    by_stat='stat --cached=always'
    $by_stat / >/dev/null 2>&1 || by_stat=stat
    # shellcheck disable=SC2086 # a command and its option
    printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/exe /proc/[0-9]*/fd/[0-9]* \
        | xargs $by_stat -L -c '%d %n' 2>/dev/null \
        | sed -E -e "s,^(${by_numbers#?}) /proc/([0-9]+)/([a-z]+).*,\\2 \\3," -e t -e d \
        | sed -e 's/exe$/text/' -e 's/fd$/file/'
}

users_by_map() { # maps has device numbers in hexadecimal, and paths as this process would see them
    by_numbers=''
    for by_device in $users_devices; do
        by_numbers="$by_numbers|$(printf '%02x:%02x' "${by_device%:*}" "${by_device#*:}")"
    done
    by_pattern="^[^ ]+ [^ ]+ [^ ]+ (${by_numbers#?}) "
    [ -z "$users_points" ] || by_pattern=$by_pattern$NL$(printf %s "$users_points" \
        | sed -e 's/[][\\.*^$+?(){}|]/\\&/g' -e 's,.*,^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [0-9]+ +&/,')
    printf '%s\n' /proc/[0-9]*/maps | xargs grep -l -s -E -e "$by_pattern" 2>/dev/null \
        | sed -e 's,^/proc/,,' -e 's,/maps$, map,' || :
}

users_by_mount() { # root, cwd and text have no mount id: by path
    [ -n "$users_ids" ] || return 0
    printf '%s\n' /proc/[0-9]*/fdinfo/[0-9]* \
        | xargs grep -l -s -E "^mnt_id:[[:space:]]*($users_ids)\$" 2>/dev/null \
        | sed -e 's,^/proc/,,' -e 's,/.*, file,' || :
    by_pattern=$(printf %s "$users_points" | sed -e "s,.*,-> '&/,p" -e "s,^-> ',-> ,")
    printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/exe \
        | QUOTING_STYLE=literal xargs stat -c %N 2>/dev/null | sed "s,'*\$,/," \
        | grep -F -e "$by_pattern" | cut -d' ' -f1 \
        | sed -e "s,^'*/proc/,," -e "s,'\$,," -e 's,/, ,' -e 's/exe$/text/' || :
}

# A socket keeps the mount that it was bound in, and no open file tells that: ss alone knows its device.
users_by_socket() {
    command -v ss >/dev/null 2>&1 || return 0
    by_numbers=''
    for by_device in $users_devices; do # the kernel's own number, which ss takes for a program's
        by_number=$((${by_device%:*} << 20 | ${by_device#*:}))
        by_numbers="$by_numbers|$((by_number >> 8 & 0xfff))/$((by_number & 0xff | by_number >> 12 & 0xfff00))"
    done
    by_pattern=" dev:(${by_numbers#?})( |\$)"
    ! ss -H -x -a -e 2>/dev/null | grep -q -E -e "$by_pattern" \
        || ss -H -x -a -e -p 2>/dev/null | grep -E -e "$by_pattern" | grep -o 'pid=[0-9]*' \
        | sed -e 's/^pid=//' -e 's/$/ socket/' || :
}

# As long as anything has the slot mounted, be it lazily unmounted or in another mount namespace, an
# exclusive open fails. dd and mkfs write all the same. wipefs opens so, and without acting reads alone.
prove_free() {
    if command -v wipefs >/dev/null 2>&1; then
        set -- wipefs --all --no-act -- "$DEVICE"
    elif command -v perl >/dev/null 2>&1; then
        set -- perl -e 'use Fcntl; sysopen(F, $ARGV[0], O_RDWR | O_EXCL) or die "$!\n"' "$DEVICE"
    elif command -v python3 >/dev/null 2>&1; then
        set -- python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_EXCL)' "$DEVICE"
    else
        say notice "slot $SLOT: nothing here opens a device exclusively (wipefs, perl, python3): not proven free"
        return 0
    fi
    free_tries=0
    until try "$@"; do
        case $free_tries$said in
            [0-4]*busy*) sleep 0.2 ;; # a probe of the device that saw it change, such as udev's
            *busy*)
                look
                users
                refuse "slot $SLOT: $DEVICE is held open${users:+ by $(shown_users)}${ELSEWHERE:+: mounted at$ELSEWHERE}"
                ;;
            *)
                say notice "slot $SLOT: not proven free: $said"
                return 0
                ;;
        esac
        free_tries=$((free_tries + 1))
    done
}
