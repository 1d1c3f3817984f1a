# FreeBSD: what changes the host.
durable() { # PATH...: files and folders
    fsync "$@"
}

detach() { # COMMAND...: on its own, with nothing of this session
    daemon -f "$@" 3<&- 4>&- 5>&-
}

rename_link() { # FROM TO: -h makes it one rename, where plain mv would move into the live slot
    mv -fh "$1" "$2"
}

bypass_caches() { # disks are character devices: there is no cache
    DIRECT=''
}

pick_large_writes() { # nor one for what is written
    large_writes=''
}

mount_image() { # FORMAT
    mount_special=$DEVICE
    if [ "$1" = uzip ]; then
        # A raised securelevel forbids kldload even what is there already.
        kldstat -q -m g_uzip || try kldload -n geom_uzip || fail "cannot load geom_uzip: $said"
        await_uzip
        mount_special=$DEVICE.uzip
    fi
    mount_tries=0
    # A node that was tasted a moment ago may still go and come back.
    until try mount -t cd9660 -o ro "$mount_special" "$MOUNT"; do
        mount_tries=$((mount_tries + 1))
        case $mount_tries$said in
            [123]*'Device not configured'* | [123]*'No such file'*) sleep 0.5 ;;
            *) fail "slot $SLOT: cannot mount $mount_special at $MOUNT: $said" ;;
        esac
    done
}

# GEOM tastes a provider after its last close for writing, in its own time; until then the old
# node may linger. Asking for conftxt waits for that queue; the size tells the new from the old.
await_uzip() {
    await_size=$(dd if="$DEVICE" bs="$PAGE_BYTES" count=1 2>/dev/null | od -An -v -tu1 -j128 -N8)
    # shellcheck disable=SC2086 # eight numbers: cluster size and count, big-endian
    set -- $await_size
    await_size=$((($1 << 24 | $2 << 16 | $3 << 8 | $4) * ($5 << 24 | $6 << 16 | $7 << 8 | $8)))
    sysctl -n kern.geom.conftxt >/dev/null
    await_tries=0
    while [ "$await_tries" -lt 60 ]; do
        sysctl -n kern.geom.conftxt >/dev/null
        await_got=$(diskinfo "$DEVICE.uzip" 2>/dev/null | cut -f3) || await_got=
        [ "$await_got" != "$await_size" ] || return 0
        # Opening for writing and closing makes GEOM taste once more.
        [ "$await_tries" -ne 30 ] || try dd if=/dev/zero of="$DEVICE" count=0 conv=notrunc || :
        sleep 0.1
        await_tries=$((await_tries + 1))
    done
    fail "slot $SLOT: geom_uzip does not offer $DEVICE.uzip with $await_size bytes"
}

settle() { :; }

mounts_inside() { # $mounts_inside: paths, newest first
    mounts_inside=''
    real_path "$MOUNT"
    inside_table=$(mount -p)
    while read -r _ inside_node _; do
        case $inside_node in
            "$real_path"/*) mounts_inside=$inside_node$NL$mounts_inside ;;
        esac
    done <<END
$inside_table
END
}

unmount_one() { # PATH
    try umount "$1"
}

# KIND AT SOURCE SIZE MODE ro|rw [NAME SOURCE]...; add_point is the directory
inner_devfs() { # ruleset 4: null, zero, random and the like; until it is applied all is visible
    try mount -t devfs devfs "$add_point" || fail "cannot mount /$2: $said"
    undo=$add_point$NL$undo
    try devfs -m "$add_point" ruleset 4 && try devfs -m "$add_point" rule applyset \
        || fail "cannot hide the host's devices in /$2: $said"
    [ ! -e "$add_point/mem" ] || fail "/$2 still shows the host's devices: rc.d/devfs has no ruleset 4"
    undo=${undo#*"$NL"}
}
inner_tmpfs() {
    try mount -t tmpfs -o "mode=${5:-1777}${4:+,size=$4}" tmpfs "$add_point" \
        || fail "cannot mount /$2: $said"
}
inner_bind() {
    try mount -t nullfs -o "$6" "$3" "$add_point" || fail "cannot bind $3 to /$2: $said"
}
inner_nfs() {
    try mount -t nfs -o "$6" "$3" "$add_point" || fail "cannot mount $3 at /$2: $said"
}
inner_files() {
    inner_at=$2
    try mount -t tmpfs -o "mode=755,size=${4:-1m}" tmpfs "$add_point" || fail "cannot mount /$2: $said"
    undo=$add_point$NL$undo
    shift 6
    copy_files "$add_point" "$@" || fail "cannot copy to /$inner_at: $said"
    undo=${undo#*"$NL"}
}
