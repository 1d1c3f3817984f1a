# The slot as it lies on its device.
HEAD_BYTES=65536
PAGE_BYTES=4096

right_kind() { # refuse what is not a slot
    device_kind
    [ "$device_kind" = "$SLOT_KIND" ] && return 0
    case $device_kind in
        missing) refuse "slot $SLOT: there is no $DEVICE" ;;
        file) refuse "slot $SLOT: $DEVICE is a plain file, not a device" ;;
        *) refuse "slot $SLOT: $DEVICE is not what a slot lies on" ;;
    esac
}

big_enough() { # BYTES
    device_size
    # Some shells count with 32 bits: lengths tell most sizes apart, the rest is refused there.
    [ "${#device_size}" -le "${#1}" ] || return 0
    case $1 in
        ??????????*) [ "$((2147483647 + 1))" = 2147483648 ] || refuse "/bin/sh here cannot count to $1" ;;
    esac
    [ "$device_size" -ge "$1" ] || refuse \
        "slot $SLOT: $DEVICE has $device_size bytes, the image $1"
}

# The guards of everything that writes: they look at the device itself, whatever the plan thought.
own_slot() { # TOKEN A|B BYTES
    need_lock "$1"
    choose "$2"
    right_kind
    ! is_active || refuse "slot $SLOT is active: $LINK names it"
    look
    [ "$HERE" = no ] || refuse "slot $SLOT: $DEVICE is mounted at $MOUNT"
    [ -z "$ELSEWHERE" ] || refuse "slot $SLOT: $DEVICE is mounted at$ELSEWHERE"
    big_enough "$3"
    own_slot_path=$RECORDS/$SET.$SLOT.writer
    claim "$own_slot_path" "$1" "writer of slot $SLOT" || occupied \
        "slot $SLOT: another writer is at work (pid $claim_pid${claim_child:+, its dd is $claim_child})"
    own_writer=$own_slot_path
    need_lock "$1" # it may have been taken away meanwhile
}

note_child() { # the writer's claim lives as long as its dd, even if this shell is killed
    started "$child"
    cat -- "$own_writer" >"$scratch.note" 2>/dev/null \
        && printf 'child=%s\nchild_start=%s\n' "$child" "$started" >>"$scratch.note" \
        && mv -f -- "$scratch.note" "$own_writer" \
        || unwritten "$scratch.note"
}

head_sha256() { # $head_sha256, empty if the head cannot be read
    head_sha256=$(dd if="$DEVICE" bs="$HEAD_BYTES" count=1 2>"$HEAD_ERRORS" | sha256) || head_sha256=
    [ "$head_sha256" != e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ] \
        || head_sha256=
}
HEAD_ERRORS=/dev/null

head_format() { # $head_format: which image's head this is, by its magic; empty: none
    head_format=$(
        for head_page in 0 8; do # a disk may answer whole sectors of 4,096 bytes alone
            dd if="$DEVICE" bs="$PAGE_BYTES" skip="$head_page" count=1 2>/dev/null
        done | od -An -v -tx1 | tr -d ' \n' | cut -c1-18,2049-2056,8195-8204
    ) || head_format=
    case $head_format in
        23212f62696e2f7368*) head_format=uzip ;;
        68737173*) head_format=squashfs ;;
        ??????????????????e2e1f5e0*) head_format=erofs ;;
        *4344303031) head_format=iso9660 ;;
        *) head_format= ;;
    esac
}

inspect() { # sets STATE, head_sha256, head_format
    STATE=empty head_format=
    head_sha256
    if [ "$head_sha256" = "$ZERO_HEAD" ]; then
        [ ! -f "$RECORDS/$SET.$SLOT.writing" ] || STATE=writing
    elif [ -n "$head_sha256" ]; then
        head_format
        [ -z "$head_format" ] || STATE=ready
    fi
}

# To open one end waits for the other, and in busybox and mksh a child that ends meanwhile breaks
# that off: so both ends are open before anybody is born who uses them.
open_pipe() { # NAME: a pipe that nobody uses; 6 reads from it, 7 writes into it
    [ -p "$scratch.$1" ] || mkfifo -- "$scratch.$1" || fail "cannot make a pipe in $RECORDS"
    exec 8<>"$scratch.$1"
    exec 6<"$scratch.$1"
    exec 7>"$scratch.$1" 8<&-
}

# A dd may outlive its script, and then the writer's claim must name it. So it begins at a word that
# comes once it is named; if the script dies before, the pipe ends without one, and nothing is written.
write_slot() { # DD-OPERANDS...: from the payload, unless they say if=; what dd said is in $scratch.dd
    open_pipe gate
    (
        trap - EXIT HUP INT PIPE TERM
        exec 7>&- # behind the list mksh would keep a copy of it, and wait for itself
        IFS= read -r gate_word <&6 && [ "$gate_word" = named ] || exit 1
        exec dd "$@" conv=notrunc,fsync of="$DEVICE" 6<&-
    ) <&3 2>"$scratch.dd" 4>&- &
    child=$!
    note_child
    echo named >&7
    exec 6<&- 7>&-
    write_status=0
    wait "$child" || write_status=$?
    child=''
    return "$write_status"
}

copy_pages() { # SOURCE SKIP COUNT: pages of a head to the same place of the slot
    write_slot if="$1" bs="$PAGE_BYTES" skip="$2" seek="$2" count="$3" \
        || fail "slot $SLOT: cannot write $DEVICE: $(cat "$scratch.dd")"
}

receive() { # BLOCK-BYTES COUNT AT: exactly so much of the payload into the slot; or why_not
    received=0 # blocks that came whole, and are on the disk
    [ "$2" -gt 0 ] || return 0
    receive_to="obs=$1 seek=$(($3 / $1))"
    [ "$1" != "$HEAD_BYTES" ] || [ -z "$large_writes" ] \
        || receive_to="obs=$LARGE_BYTES seek=$3 oflag=direct,seek_bytes"
    # shellcheck disable=SC2086 # words
    write_slot ibs="$1" $receive_to count="$2" iflag=fullblock || {
        why_not="cannot write $DEVICE: $(cat "$scratch.dd")"
        return 1
    }
    ! grep -q "^$2+0 records in" "$scratch.dd" || return 0
    received=$(sed -n 's/^\([0-9]*\)+[01] records in.*/\1/p' "$scratch.dd")
    why_not="the payload was cut behind block ${received:-0} of $2"
    return 1
}

SEGMENT_BYTES=33554432
LARGE_BYTES=4194304 # a wait for the disk each: at 1 MiB they begin to show
receive_body() { # SIZE OFFSET [SHA256]: the payload is the image from there on; or why_not
    pick_large_writes
    body_at=$2
    body_step=$(($1 - body_at))
    # A named image is written in segments, and how far it got is noted behind each of them.
    [ -z "${3:-}" ] || body_step=$SEGMENT_BYTES
    note_written "${3:-}" "$body_at"
    while [ "$body_at" -lt "$1" ]; do
        [ "$body_step" -le "$(($1 - body_at))" ] || body_step=$(($1 - body_at))
        body_blocks=$((body_step / HEAD_BYTES)) body_step=$((body_step % HEAD_BYTES)) body_cut=''
        receive "$HEAD_BYTES" "$body_blocks" "$body_at" || body_cut=yes body_blocks=${received:-0}
        body_at=$((body_at + body_blocks * HEAD_BYTES))
        [ -n "$body_cut" ] || receive "$PAGE_BYTES" "$((body_step / PAGE_BYTES))" "$body_at" || body_cut=yes
        # Of the pages behind the last whole block all are there, or none counts.
        [ -n "$body_cut" ] || body_at=$((body_at + body_step))
        [ -z "${3:-}" ] || note_written "$3" "$body_at"
        [ -z "$body_cut" ] || return 1
        body_step=$SEGMENT_BYTES
        [ -z "${3:-}" ] || say written "$body_at"
    done
}

payload_ended() { # or why_not
    why_not='more came than the image holds'
    [ "$(dd bs=1 count=1 <&3 2>/dev/null | wc -c)" -eq 0 ]
}

note_written() { # SHA256 BYTES: so much of that image is on the disk; empty: nothing to go on from
    put "$SLOT.writing" "token=$own_token" "since=$(date +%s)" "sha256=$1" "written=$2"
}

written() { # SHA256: $written, up to where the slot holds that image behind its zeroed head
    written=$HEAD_BYTES
    [ "$head_sha256" = "$ZERO_HEAD" ] || return 0
    get "$SLOT.writing" sha256 && [ "$got" = "$1" ] && get "$SLOT.writing" written || return 0
    case $got in '' | *[!0-9]*) ;; *) written=$got ;; esac
}

# A proof is of one boot, of one device and of one mount: what was unmounted in between, somebody
# may have written to.
proof_holds() { # of the chosen slot, after look
    boot_id
    device_id
    get "$SLOT.proof" boot_id && [ "$got" = "$boot_id" ] || return 1
    get "$SLOT.proof" device && [ "$got" = "$device_id" ] || return 1
    get "$SLOT.proof" mount || :
    [ "$got" = "$MOUNT_ID" ] || return 1
    device_writes
    get "$SLOT.proof" writes || :
    [ "$got" = "$device_writes" ]
}

note_proof() { # SHA256 AT: for the slot as it was looked at, and $device_writes when that began
    boot_id
    device_id
    put "$SLOT.proof" "sha256=$1" "boot_id=$boot_id" "device=$device_id" "mount=$MOUNT_ID" \
        "writes=$device_writes" "at=$2"
}

# shellcheck disable=SC2086,SC2017 # DIRECT is one word or none; whole megabytes are meant
read_slot() { # BYTES: to stdout, past every cache
    { [ "$(($1 / 1048576))" -eq 0 ] \
        || dd if="$DEVICE" bs=1048576 count="$(($1 / 1048576))" $DIRECT; } \
        && { [ "$(($1 % 1048576))" -eq 0 ] \
            || dd if="$DEVICE" bs="$PAGE_BYTES" skip="$(($1 / 1048576 * 256))" \
                count="$(($1 % 1048576 / PAGE_BYTES))" $DIRECT; }
}

SHA256_OF_NOTHING=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

# OpenSSL uses the processor's instructions for SHA-256 and takes a fraction of the time; not every
# host has it, and not every one that has it lets it: so it is tried on nothing first.
slot_sha256() { # of stdin
    case $(openssl dgst -sha256 -r </dev/null 2>/dev/null) in
        "$SHA256_OF_NOTHING "*) openssl dgst -sha256 -r | cut -c1-64 ;;
        *) sha256 ;;
    esac
}
