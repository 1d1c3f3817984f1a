# The sandbox: what changes the host.
bypass_caches() { # a plain file has no way past the page cache that works everywhere
    DIRECT=iflag=direct
    dd if="$DEVICE" of=/dev/null bs="$PAGE_BYTES" count=1 "$DIRECT" 2>/dev/null || DIRECT=
}

pick_large_writes() { # a plain file is written through it
    large_writes=''
}

mount_image() { # FORMAT
    [ -z "$(ls -A -- "$MOUNT")" ] || { get "$SLOT.folder" path && [ "$got" = "$MOUNT" ]; } \
        || refuse "slot $SLOT: $MOUNT holds files that no mount made"
    put "$SLOT.folder" "path=$MOUNT"
    remove_tree "$MOUNT.partial"
    case $1 in
        squashfs) try unsquashfs -no-progress -no-xattrs -ignore-errors -d "$MOUNT.partial" "$DEVICE" ;;
        *) try mkdir -- "$MOUNT.partial" && try image extract "$DEVICE" "$MOUNT.partial" ;;
    esac || {
        mount_said=$said
        remove_tree "$MOUNT.partial"
        fail "slot $SLOT: cannot unpack $DEVICE as $1: $mount_said"
    }
    remove_tree "$MOUNT"
    try chmod u+w "$MOUNT.partial" || :
    try mv -- "$MOUNT.partial" "$MOUNT" || fail "slot $SLOT: cannot make $MOUNT: $said"
}

remove_tree() { # DIR: read-only folders and all; its symlinks are not followed
    [ -e "$1" ] || return 0
    find "$1" -type d ! -perm -0700 -exec chmod u+rwx {} + 2>/dev/null || :
    try rm -rf -- "$1" || fail "cannot remove $1: $said"
}

settle() { # the record comes last: a folder without it is no mount
    [ "$HERE" = no ] || return 0
    find "$MOUNT" ! -type l -perm /0222 -exec chmod a-w {} + 2>/dev/null \
        || fail "slot $SLOT: cannot make $MOUNT read-only"
    each_inner open_inner
    device_id
    put "$SLOT.mounted" "device=$device_id" "head_sha256=$head_sha256"
}

open_inner() { # KIND AT ... MODE
    [ "$1" != tmpfs ] || chmod "${5:-1777}" "$MOUNT/$2"
}

mounts_inside() { mounts_inside=; }

unmount_one() { # PATH: what is inside goes with the folder
    [ "$1" = "$MOUNT" ] || return 0
    drop "$SLOT.mounted"
    try mv -- "$MOUNT" "$MOUNT.gone" || return 1
    remove_tree "$MOUNT.gone"
    try mkdir -- "$MOUNT"
}

inner_devfs() {
    try chmod u+w "$add_point" || fail "cannot fill /$2: $said"
    for inner_node in null zero full random urandom tty; do
        try ln -sf "/dev/$inner_node" "$add_point/$inner_node" || fail "cannot fill /$2: $said"
    done
    say notice "sandbox: /$2 holds symlinks to the host's devices"
}
inner_tmpfs() {
    say notice "sandbox: /$2 is a plain folder"
}
inner_bind() {
    add_parent=${add_point%/*}
    try chmod u+w "$add_parent" && try rmdir -- "$add_point" && try ln -s -- "$3" "$add_point" \
        || fail "cannot bind $3 to /$2: $said"
    say notice "sandbox: /$2 is a symlink to $3"
}
inner_nfs() {
    refuse "sandbox: no NFS mounts (/$2)"
}
inner_files() {
    inner_at=$2
    shift 6
    try chmod u+w "$add_point" || fail "cannot fill /$inner_at: $said"
    copy_files "$add_point" "$@" || fail "cannot copy to /$inner_at: $said"
    say notice "sandbox: /$inner_at holds copies"
}
