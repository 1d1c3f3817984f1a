# Linux: what a probe asks.
PLATFORM=Linux
SLOT_KIND=device
NEEDED="blockdev cat chmod cp cut date dd df grep gzip ln mkdir mkfifo mknod mount mv od readlink rm \
rmdir sed setsid sha256sum sleep sort stat sync tail tee tr umount wc xargs"

need_rights() {
    [ "$(id -u)" -eq 0 ] || refuse "this needs root on the host"
}

device_id() { # $device_id: MAJOR:MINOR, as mountinfo has it
    device_id=$(stat -L -c '%t %T' -- "$DEVICE" 2>/dev/null) || device_id=
    [ -n "$device_id" ] || return 0
    device_id=$((0x${device_id% *})):$((0x${device_id#* }))
}

device_sector() { device_sector=512; } # a block device answers any length, through its cache

device_size() { # $device_size, bytes
    device_size=$(blockdev --getsize64 "$DEVICE" 2>/dev/null) || device_size=0
}

device_writes() { # $device_writes: sectors that were ever written to it; a mount's id comes again, this does not
    device_writes=''
    { read -r _ _ _ _ _ _ device_writes _ <"/sys/dev/block/$device_id/stat"; } 2>/dev/null || :
}

directory_device() { # DIR: $directory_device, MAJOR:MINOR of the filesystem that a path lookup meets
    directory_device=$(stat -c %d -- "$1" 2>/dev/null) || directory_device=
    [ -n "$directory_device" ] || return 0
    directory_device=$((directory_device >> 8 & 0xfff)):$((directory_device & 0xff | directory_device >> 12 & 0xfff00))
}

as_mountinfo() { # PATH: $as_mountinfo, as the kernel writes it there
    as_mountinfo=$1
    case $1 in
        *[" \\$TAB$NL"]*)
            as_mountinfo=$(printf '%s.' "$1" | sed -e 's/\\/\\134/g' -e 's/ /\\040/g' \
                -e "s/$TAB/\\\\011/g" -e ':a' -e '$!N' -e '$!ba' -e 's/\n/\\012/g')
            as_mountinfo=${as_mountinfo%.}
            ;;
    esac
}

from_mountinfo() { # TEXT: $from_mountinfo, the path that it stands for
    from_mountinfo=$1
    case $1 in
        *\\*)
            # shellcheck disable=SC2059 # its octal escapes are a format's
            from_mountinfo=$(printf "$(printf '%s' "$1" | sed 's/%/%%/g')."); from_mountinfo=${from_mountinfo%.}
            ;;
    esac
}

# By device number, in the kernel's own table: names of devices lie, and /etc/mtab too.
look() { # sets HERE (yes|no), NOTE (what is wrong), ELSEWHERE (where the device is mounted too)
    HERE=no NOTE='' ELSEWHERE='' MOUNT_ID='' look_top='' look_seen=''
    device_id
    real_path "$MOUNT"
    as_mountinfo "$real_path"
    while read -r look_id _ look_device look_root look_point _; do
        if [ -n "$as_mountinfo" ] && [ "$look_point" = "$as_mountinfo" ]; then
            look_top=$look_device
            [ "$look_device" != "$device_id" ] || [ "$look_root" != / ] || look_seen=$look_id
        fi
        [ "$look_device" = "$device_id" ] || continue
        [ "$look_point" = "$as_mountinfo" ] || ELSEWHERE="$ELSEWHERE $look_point"
    done </proc/self/mountinfo
    look_other_namespaces
    [ -n "$look_top" ] || return 0
    directory_device "$MOUNT"
    if [ -n "$look_seen" ] && [ "$look_top" = "$device_id" ] && [ "$directory_device" = "$device_id" ]; then
        HERE=yes MOUNT_ID=$look_seen
    elif [ -n "$look_seen" ]; then
        NOTE="another mount lies over $MOUNT (device $directory_device)"
    else
        NOTE="another device ($look_top) is mounted at $MOUNT"
    fi
}

look_other_namespaces() { # a slot mounted where this shell cannot see it
    [ -n "$device_id" ] && [ -z "$ELSEWHERE$look_seen" ] || return 0
    look_file=$(printf '%s\n' /proc/[0-9]*/mountinfo \
        | xargs grep -l -s -F " $device_id " 2>/dev/null | sed -n 1p) || look_file=
    [ -z "$look_file" ] || {
        look_file=${look_file#/proc/}
        ELSEWHERE=" (in the mount namespace of pid ${look_file%%/*})"
    }
}

is_mounted() { # DIR: is it a mount point itself?
    real_path "$1"
    [ -n "$real_path" ] || return 1
    as_mountinfo "$real_path"
    while read -r _ _ _ _ is_point _; do
        [ "$is_point" != "$as_mountinfo" ] || return 0
    done </proc/self/mountinfo
    return 1
}

formats() { # says each image format that this kernel mounts, or has a module for
    for formats_name in erofs squashfs iso9660; do
        if grep -q "[[:space:]]$formats_name\$" /proc/filesystems \
            || modprobe -n -q "fs-$formats_name" 2>/dev/null; then
            say format "$formats_name"
        fi
    done
}
