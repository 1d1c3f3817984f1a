# The sandbox: slots are plain files, a mount is an unpacked folder. No root; Linux's /proc.
PLATFORM=sandbox
SLOT_KIND="file"
NEEDED="cat chmod cp cut date dd df grep gzip ln mkdir mkfifo mv od readlink rm rmdir sed setsid \
sha256sum sleep sort stat sync tail tee tr wc xargs"

need_rights() { :; }

device_id() { # $device_id: the file itself
    device_id=$(stat -L -c '%d:%i' -- "$DEVICE" 2>/dev/null) || device_id=
}

device_sector() { device_sector=512; }

device_size() { # $device_size, bytes
    device_size=$(stat -L -c %s -- "$DEVICE" 2>/dev/null) || device_size=0
}

device_writes() { device_writes=''; }

look() { # a mount is the folder and the record that it was made whole
    HERE=no NOTE='' ELSEWHERE='' MOUNT_ID=''
    get "$SLOT.mounted" device || return 0
    device_id
    [ "$got" = "$device_id" ] && [ -d "$MOUNT" ] || return 0
    HERE=yes MOUNT_ID=$(stat -c '%d:%i' -- "$MOUNT")
}

is_mounted() { # inner mounts are made with the folder
    [ "$HERE" = yes ]
}

formats() {
    if command -v image >/dev/null 2>&1; then
        say format uzip
        say format iso9660
    fi
    ! command -v unsquashfs >/dev/null 2>&1 || say format squashfs
}
