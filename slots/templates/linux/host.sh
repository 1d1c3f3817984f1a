# Linux: what changes the host.
bypass_caches() { # sets DIRECT for read_slot; what was written is asked from the disk, not from memory
    DIRECT=iflag=direct
    ! dd if="$DEVICE" of=/dev/null bs="$PAGE_BYTES" count=1 "$DIRECT" 2>/dev/null || return 0
    DIRECT=''
    try blockdev --flushbufs "$DEVICE" || fail "slot $SLOT: no way past the caches of $DEVICE: $said"
}

mount_image() { # FORMAT
    try mount -t "$1" -o ro -- "$DEVICE" "$MOUNT" || fail \
        "slot $SLOT: cannot mount $DEVICE as $1 at $MOUNT: $said"
}

settle() { :; }

mounts_inside() { # $mounts_inside: paths, newest first
    mounts_inside=''
    real_path "$MOUNT"
    as_mountinfo "$real_path"
    while read -r _ _ _ _ inside_point _; do
        case $inside_point in
            "$as_mountinfo"/*)
                from_mountinfo "$inside_point"
                mounts_inside=$from_mountinfo$NL$mounts_inside
                ;;
        esac
    done </proc/self/mountinfo
}

unmount_one() { # PATH
    try umount -- "$1"
}

# KIND AT SOURCE SIZE MODE ro|rw [NAME SOURCE]...; add_point is the directory
inner_devfs() {
    try mount -t tmpfs -o "mode=0755,nosuid,noexec,size=${4:-64k}" tmpfs "$add_point" \
        || fail "cannot mount /$2: $said"
    undo=$add_point$NL$undo
    for inner_node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
        # shellcheck disable=SC2086 # three words
        set -- $inner_node
        try mknod -m 0666 "$add_point/$1" c "$2" "$3" || fail "cannot make $add_point/$1: $said"
    done
    for inner_link in 'fd /proc/self/fd' 'stdin fd/0' 'stdout fd/1' 'stderr fd/2'; do
        ln -s "${inner_link#* }" "$add_point/${inner_link%% *}" || fail "cannot fill $add_point"
    done
    undo=${undo#*"$NL"}
}
inner_tmpfs() {
    try mount -t tmpfs -o "nosuid,nodev,mode=${5:-1777}${4:+,size=$4}" tmpfs "$add_point" \
        || fail "cannot mount /$2: $said"
}
inner_bind() {
    try mount --bind "$3" "$add_point" || fail "cannot bind $3 to /$2: $said"
    undo=$add_point$NL$undo
    try mount --make-private "$add_point" || fail "cannot make /$2 private: $said"
    [ "$6" = rw ] || try mount -o remount,bind,ro "$add_point" || fail "cannot make /$2 read-only: $said"
    undo=${undo#*"$NL"}
}
inner_nfs() {
    try mount -t nfs -o "$6,nosuid,nodev" "$3" "$add_point" || fail "cannot mount $3 at /$2: $said"
}
inner_files() {
    inner_at=$2
    try mount -t tmpfs -o "nosuid,nodev,noexec,mode=0755,size=${4:-1m}" tmpfs "$add_point" \
        || fail "cannot mount /$2: $said"
    undo=$add_point$NL$undo
    shift 6
    copy_files "$add_point" "$@" || fail "cannot copy to /$inner_at: $said"
    try mount -o remount,ro "$add_point" || fail "cannot make /$inner_at read-only: $said"
    undo=${undo#*"$NL"}
}

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
