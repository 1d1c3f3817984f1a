#!/bin/sh
# pid 1 of a machine whose power is cut. Serves what the link names, then plays the deployer: the
# next version into the other slot, again and again. Each line for the test begins with "@ ".
#
#   /scripts/NAME  the verbs as slots/scripts.py renders them     /payloads/NAME  what follows them
#   /slotctl       as `deploy provision` installs it
#   /modules/N-*   kernel modules in order                        way=whole|pack, deploys=N: from the kernel's line
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

off() { # WHY
    echo "@ $*"
    busybox poweroff -f
    busybox sleep 600
}

run() { # STEP SCRIPT [PAYLOAD]: one verb, as a frontend's shell runs it
    echo "@ begin $1"
    /bin/sh -c 'eval "$(cat "$0")"' "/scripts/$2" <"${3:-/dev/null}" >/tmp/answer 2>/tmp/said || :
    case $(tail -n 1 /tmp/answer) in
        "flipslot "*" end 0") echo "@ done $1" ;;
        *)
            cat /tmp/answer /tmp/said
            off "failed $1"
            ;;
    esac
}

lock() { # held by a shell that waits for its stdin's end
    mkfifo /tmp/hold
    /bin/sh -c 'eval "$(cat "$0")"' /scripts/lock </tmp/hold >/tmp/locked 2>&1 &
    exec 9>/tmp/hold
    until grep -q '^locked=' /tmp/locked; do sleep 0.02; done
}

active() { # $active, $other, $version: what serves; all empty before the first deploy
    active='' other=A version=''
    [ -L /state/cgi ] || return 0
    case $(readlink /state/cgi) in
        cgi1) active=A other=B ;;
        cgi2) active=B other=A ;;
        *) off "failed link names nothing" ;;
    esac
}

slotctl() { # STEP VERB: as the boot hook calls it
    echo "@ begin $1"
    /bin/sh /slotctl "$2" >/tmp/answer 2>&1 || {
        cat /tmp/answer
        off "failed $1"
    }
    grep -e 'is proven' -e 'was cut' /tmp/answer | sed 's/^/@ told /'
    echo "@ done $1"
}

serve() { # after a boot: the hook proves, goes back where a switch was cut, mounts
    active
    [ -n "$active" ] || return 0
    slotctl serve boot
    active
    echo "@ linked $active"
    version=$(cat /state/cgi/version) || off "failed version cannot be read"
    cat /state/cgi/usr/share/payload >/dev/null || off "failed payload cannot be read"
    echo "@ served $version"
}

deploy() { # the version behind the one that serves into the other slot
    active
    [ -z "$active" ] || version=$(cat /state/cgi/version)
    case $version in 1) next=2 ;; 2) next=3 ;; *) next=1 ;; esac
    echo "@ deploy $next to $other"
    run unmount "$other-unmount"
    run erase "$other-erase"
    if [ "$way" = pack ] && [ -n "$active" ]; then
        run stage "stage-$next" "/payloads/$next.pack"
        run patch "$other-patch-$next"
    else
        run fill "$other-fill-$next" "/payloads/$next.body"
    fi
    run seal "$other-seal-$next" "/payloads/$next.head"
    run prove "$other-prove-$next"
    run mount "$other-mount"
    [ -z "$active" ] || run arm "$other-arm" "/payloads/$other.guard"
    run flip "$other-flip"
    [ -z "$active" ] || run confirm confirm
    run judge "$other-judge"
    [ "$(cat /state/cgi/version)" = "$next" ] || off "failed another version serves"
    echo "@ deployed $next"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
for module in /modules/*; do
    busybox insmod "$module" || off "failed insmod $module"
done
way=whole deploys=1
# shellcheck disable=SC2013 # words of its one line
for word in $(cat /proc/cmdline); do
    case $word in
        way=*) way=${word#*=} ;;
        deploys=*) deploys=${word#*=} ;;
    esac
done
mount -t ext4 /dev/vda3 /state || off "failed mount of the state"
echo "@ up"
serve
lock
while [ "$deploys" -gt 0 ]; do
    deploy
    deploys=$((deploys - 1))
done
slotctl stop stop
mount -o remount,ro /state 2>/dev/null || sync
off "over"
