# FreeBSD: what a probe asks.
PLATFORM=FreeBSD
SLOT_KIND=device
NEEDED="cat chmod cp cut daemon date dd devfs df diskinfo fstat fsync fuser glabel grep gzip kldload \
kldstat ln mkdir mkfifo mount mv od ps readlink rm rmdir sed sha256 sleep sort stat sysctl tail tee \
tr umount wc"

need_rights() {
    [ "$(id -u)" -eq 0 ] || refuse "this needs root on the host"
}

boot_id='' # the second of the boot, asked once: `{ sec = N, usec = M } Thu ...`
boot_id() { # $boot_id
    [ -z "$boot_id" ] || return 0
    boot_id=$(sysctl -n kern.boottime)
    boot_id=${boot_id#*sec = }
    boot_id=${boot_id%%,*}
}

uptime_s() { # $uptime_s: a step of the clock moves both alike
    uptime_s=$(sysctl -n kern.boottime)
    uptime_s=${uptime_s#*sec = }
    uptime_s=$(($(date +%s) - ${uptime_s%%,*}))
}

# A step of the clock moves kern.boottime and the start times of processes alike, so that the
# seconds from the boot to a start stay the same: by them a process is known, not by boot_id.
# ps takes all that follows a `=` for a heading: each column needs a -o of its own.
started() { # PID: $started; `-`: it is swapped out; empty: no such process, or only its zombie
    started_ps=$(ps -o state= -o etimes= -p "$1" 2>/dev/null) || started_ps=
    started=${started_ps##* }
    case $started_ps in
        '' | Z*) started='' ;;
        *-) ;; # up to FreeBSD 14 the kernel knows no times of what is swapped out
        *)
            boot_id
            started=$(($(date +%s) - started - boot_id))
            ;;
    esac
}

running() { # PID: and not a zombie
    started "$1"
    [ -n "$started" ]
}

alive() { # PID START BOOT-ID: is this very process still there?
    [ -n "$1" ] && [ -n "$2" ] || return 1
    started "$1"
    case $started:$2 in
        :*) return 1 ;;
        -:* | *:-) return 0 ;; # rather a claim too many than a second writer
    esac
    [ "$((started - $2))" -le 2 ] && [ "$(($2 - started))" -le 2 ]
}

sha256() { # of stdin
    command sha256 -q
}

device_kind() { # $device_kind: disks are character devices here
    device_kind=$(stat -L -f %HT "$DEVICE" 2>/dev/null) || device_kind=
    case $device_kind in
        'Character Device')
            device_kind=device
            device_size
            [ "$device_size" != 0 ] || device_kind=other # /dev/null and the like
            ;;
        'Regular File') device_kind="file" ;;
        '') device_kind=missing ;;
        *) device_kind=other ;;
    esac
}

device_size() { # $device_size, bytes
    device_size=$(diskinfo "$DEVICE" 2>/dev/null | cut -f3) || device_size=
    device_size=${device_size:-0}
}

device_sector() { # $device_sector: a disk answers whole ones alone
    device_sector=$(diskinfo "$DEVICE" 2>/dev/null | cut -f2) || device_sector=
    device_sector=${device_sector:-512}
}

device_id() { # $device_id: a node's number may change when GEOM tastes again, its name does not
    device_size
    device_id=$DEVICE:$device_size
}

device_writes() { device_writes=''; } # nothing in base counts them for one partition

device_names() { # $device_names: the device as labels and partition know it, a blank around each
    device_names=" ${DEVICE#/dev/} "
    device_provider=${DEVICE#/dev/}
    for device_pass in 1 2; do
        while read -r device_label _ device_under; do
            device_under=${device_under%.uzip} # an image's volume id is a label of what it lies on
            if [ "$device_label" = "$device_provider" ] && [ "$device_pass" = 1 ]; then
                device_provider=$device_under
                device_names="$device_names$device_under "
            else
                case $device_names in
                    *" $device_under "*) device_names="$device_names$device_label " ;;
                esac
            fi
        done <<END
$(glabel status -s 2>/dev/null)
END
    done
}

# A mount opens the provider for reading alone: nothing but this look keeps a dd off a mounted slot.
look() { # sets HERE (yes|no), NOTE (what is wrong), ELSEWHERE (where the device is mounted too)
    HERE=no NOTE='' ELSEWHERE='' MOUNT_ID='' look_top='' look_seen=''
    device_names
    real_path "$MOUNT"
    look_table=$(mount -p)
    while read -r look_special look_node _; do
        look_name=${look_special#/dev/}
        look_ours=no
        case $device_names in *" ${look_name%.uzip} "*) look_ours=yes ;; esac
        if [ -n "$real_path" ] && [ "$look_node" = "$real_path" ]; then
            look_top=$look_special
            [ "$look_ours" = no ] || look_seen=$look_special
        elif [ "$look_ours" = yes ]; then
            ELSEWHERE="$ELSEWHERE $look_node"
        fi
    done <<END
$look_table
END
    [ -n "$look_top" ] || return 0
    if [ -z "$look_seen" ]; then
        NOTE="another device ($look_top) is mounted at $MOUNT"
        return 0
    fi
    look_id=$(stat -f %d "$MOUNT" 2>/dev/null) || look_id=
    if [ "$look_top" != "$look_seen" ] \
        || [ "$look_id" != "$(stat -L -f %r "$look_seen" 2>/dev/null)" ]; then
        NOTE="another mount lies over $MOUNT, or its device was written to"
    else
        # The number of the node that is mounted is the first half of a filesystem's fsid.
        HERE=yes MOUNT_ID=$look_id
    fi
}

is_mounted() { # DIR: is it a mount point itself?
    real_path "$1"
    [ -n "$real_path" ] || return 1
    is_table=$(mount -p)
    while read -r _ is_node _; do
        [ "$is_node" != "$real_path" ] || return 0
    done <<END
$is_table
END
    return 1
}

formats() { # says each image format that this kernel mounts, or has a module for
    if kldstat -q -m g_uzip || [ -e /boot/kernel/geom_uzip.ko ]; then
        say format uzip
    fi
    say format iso9660
}
