# Linux: what changes the host.
bypass_caches() { # sets DIRECT for read_slot; what was written is asked from the disk, not from memory
    DIRECT=iflag=direct
    ! dd if="$DEVICE" of=/dev/null bs="$PAGE_BYTES" count=1 "$DIRECT" 2>/dev/null || return 0
    DIRECT=''
    try blockdev --flushbufs "$DEVICE" || fail "slot $SLOT: no way past the caches of $DEVICE: $said"
}

# What is written past the page cache is copied once less, and pushes nothing out of it that is
# served. Whether device and dd can do that, and end with a short block, is tried
# within the head, which is erased already.
pick_large_writes() { # $large_writes for receive, empty: none
    large_writes=''
    ! try dd if=/dev/zero of="$DEVICE" ibs=100 obs="$PAGE_BYTES" count=81 seek=0 conv=notrunc \
        oflag=direct,seek_bytes || large_writes=yes
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
