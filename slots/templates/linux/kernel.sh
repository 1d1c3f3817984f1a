# What any Linux kernel says, for the platform Linux and for the sandbox.
boot_id() { # $boot_id
    read -r boot_id </proc/sys/kernel/random/boot_id
}

uptime_s() { # $uptime_s: no step of the clock moves it
    read -r uptime_s _ </proc/uptime
    uptime_s=${uptime_s%%.*}
}

started() { # PID: $started, in ticks since boot; empty if there is no such process
    started=''
    [ -r "/proc/$1/stat" ] || return 0
    { read -r started_line <"/proc/$1/stat"; } 2>/dev/null || return 0
    # shellcheck disable=SC2086 # fields, after a name that may hold blanks and brackets
    set -- ${started_line##*) }
    started=${20}
}

running() { # PID: and not a zombie
    [ -r "/proc/$1/stat" ] || return 1
    { read -r running_line <"/proc/$1/stat"; } 2>/dev/null || return 1
    case ${running_line##*) } in Z* | X*) return 1 ;; esac
}

alive() { # PID START BOOT-ID: is this very process still there?
    [ -n "$1" ] && [ -n "$2" ] || return 1
    boot_id
    [ "$3" = "$boot_id" ] || return 1
    running "$1" || return 1
    started "$1"
    [ "$started" = "$2" ]
}

sha256() { # of stdin
    sha256sum | cut -c1-64
}

device_kind() { # $device_kind
    if [ -b "$DEVICE" ]; then
        device_kind=device
    elif [ -f "$DEVICE" ]; then
        device_kind="file"
    elif [ -e "$DEVICE" ] || [ -L "$DEVICE" ]; then
        device_kind=other
        [ -e "$DEVICE" ] || device_kind=missing
    else
        device_kind=missing
    fi
}
