# The verbs. Each can be run twice; each refuses by itself what must never happen.

# --- who is at work -------------------------------------------------------------------------------
verb_lock() { # TOKEN HOLDER
    take_lock "$1" "$2"
    hold_lock
}

take_lock() { # TOKEN HOLDER
    need_records
    own_token=$1
    claim "$RECORDS/$SET.lock" "$1" "$2" || occupied "$(claimed)"
    own_lock=yes
    say locked "$1"
}

hold_lock() { # until stdin ends
    cat <&3 >/dev/null 4>&- &
    child=$!
    wait "$child" || :
    child=''
}

verb_unlock() {
    # The lock first: who claims to write or to flip looks at it once more.
    for unlock_name in lock A.writer B.writer switch; do
        unlock_path=$RECORDS/$SET.$unlock_name
        read_claim "$unlock_path" || continue
        unlock_holder=$claim_holder
        end_process "$claim_child" "$claim_child_start"
        end_process "$claim_pid" "$claim_start"
        for unlock_folder in "$unlock_path".dead.*; do
            [ ! -d "$unlock_folder" ] || rmdir -- "$unlock_folder" || :
        done
        rm -f -- "$unlock_path" || fail "cannot remove $unlock_path"
        [ "$unlock_name" != lock ] || say unlocked "$unlock_holder"
    done
}

end_process() { # PID START
    alive "$1" "$2" "$claim_boot" || return 0
    for end_signal in TERM KILL; do
        kill "-$end_signal" "$1" 2>/dev/null || :
        end_tries=0
        while [ "$end_tries" -lt 20 ]; do
            if ! alive "$1" "$2" "$claim_boot"; then
                say ended "$1"
                return 0
            fi
            sleep 0.1
            end_tries=$((end_tries + 1))
        done
    done
    fail "process $1 does not end, even by KILL: it waits for its disk"
}

# --- writing an image: head zeroed, body, head last ---------------------------------------------------
verb_erase() { # TOKEN A|B [HEAD-SHA256 SECONDS RATE URL...]: not if no mirror has what shall follow
    own_slot "$1" "$2" "$HEAD_BYTES"
    prove_free
    [ "$#" -eq 2 ] || {
        shift 2
        need_offer "$@"
    }
    head_sha256
    # What a cut transfer left is gone on from, as long as nothing else was written since.
    [ "$head_sha256" = "$ZERO_HEAD" ] && get "$SLOT.writing" written || note_written '' "$HEAD_BYTES"
    drop "$SLOT.image" "$SLOT.proof" "$SLOT.verdict" "$SLOT.kept"
    # The pages that hold a magic first: however the rest is torn, nothing mounts it.
    copy_pages /dev/zero 0 1
    copy_pages /dev/zero 8 1
    copy_pages /dev/zero 0 16
    say erased "$SLOT"
}

verb_fill() { # TOKEN A|B SIZE SHA256 OFFSET: payload = the image from OFFSET to SIZE
    own_slot "$1" "$2" "$3"
    need_erased
    need_written "$4" "$5"
    receive_body "$3" "$5" "$4" || fail "slot $SLOT: $why_not"
    say filled "$(($3 - $5))"
}

need_erased() {
    head_sha256
    [ "$head_sha256" = "$ZERO_HEAD" ] || refuse "slot $SLOT: its head is not zero: erase it first"
}

need_written() { # SHA256 OFFSET: so much of that image is in the slot
    written "$1"
    [ "$2" -le "$written" ] || refuse "slot $SLOT: $written bytes of the image are there, not $2"
}

verb_seal() { # TOKEN A|B RELEASE FORMAT SIZE SHA256 HEAD_SHA256: payload = the first 64 KiB, gzipped
    own_slot "$1" "$2" "$5"
    { gzip -dc <&3 | dd ibs="$PAGE_BYTES" obs="$HEAD_BYTES" count=16 iflag=fullblock; } \
        >"$scratch.head" 2>/dev/null \
        || fail "slot $SLOT: cannot keep the head in $RECORDS"
    payload_ended || fail "slot $SLOT: $why_not"
    [ "$(sha256 <"$scratch.head")" = "$7" ] || mismatch \
        "slot $SLOT: the head that came is not the image's: nothing was written"
    # Two pages last, each one write that no disk tears: before them nothing mounts, after them all is there.
    copy_pages "$scratch.head" 1 7
    copy_pages "$scratch.head" 9 7
    copy_pages "$scratch.head" 8 1
    copy_pages "$scratch.head" 0 1
    head_sha256
    [ "$head_sha256" = "$7" ] || mismatch "slot $SLOT: the head reads back different from what was written"
    note_image "$3" "$4" "$5" "$6" "$7"
    drop "$SLOT.writing"
    drop_packs
    say sealed "$head_sha256"
}

verb_prove() { # TOKEN A|B RELEASE FORMAT SIZE SHA256 HEAD_SHA256
    need_lock "$1"
    choose "$2"
    right_kind
    big_enough "$5"
    bypass_caches
    look
    device_writes
    drop "$SLOT.proof"
    prove_got=$({ { read_slot "$5" 2>"$scratch.dd" || echo unreadable >&5; } | slot_sha256; } 5>&1)
    case $prove_got in
        unreadable*) fail "slot $SLOT: cannot read $DEVICE: $(cat "$scratch.dd")" ;;
    esac
    # Both are kept where they differ: so the next plan knows what is damaged, and by how much.
    note_image "$3" "$4" "$5" "$6" "$7"
    note_proof "$prove_got" "$(date +%s)"
    if [ "$prove_got" != "$6" ]; then
        say actual "$prove_got"
        if is_active; then
            say hint "deploy to the other slot: $LINK names this one"
        else
            say hint "deploy it again to slot $SLOT"
        fi
        mismatch "slot $SLOT is damaged: $DEVICE has the digest $prove_got, not $6 of $3"
    fi
    say proved "$6"
}

note_image() { # RELEASE FORMAT SIZE SHA256 HEAD_SHA256: unless the record says just that
    set -- "release=$1" "format=$2" "size=$3" "sha256=$4" "head_sha256=$5"
    [ "$(cat -- "$RECORDS/$SET.$SLOT.image" 2>/dev/null)" = "$1$NL$2$NL$3$NL$4$NL$5" ] \
        || put "$SLOT.image" "$@"
}

# --- mounts ---------------------------------------------------------------------------------------
mount_at_boot=''
verb_mount() { # TOKEN A|B FORMAT
    need_lock "$1"
    choose "$2"
    right_kind
    inspect
    [ "$head_format" = "$3" ] || refuse \
        "slot $SLOT: $DEVICE holds no $3 image${head_format:+ but $head_format}"
    need_mount_point
    look
    [ -z "$NOTE" ] || refuse "slot $SLOT: $NOTE"
    [ -z "$ELSEWHERE" ] || refuse "slot $SLOT: $DEVICE is mounted at$ELSEWHERE"
    each_inner check_inner
    mount_proof=''
    if [ "$HERE" = no ]; then
        # Until they are restarted, services run from elsewhere: a cut must leave that to be done.
        # At boot none runs yet.
        [ -n "$mount_at_boot" ] || ! is_active || drop "$SLOT.verdict"
        ! proof_holds || mount_proof=yes
        mount_image "$3"
        mounted_now "$MOUNT"
    fi
    each_inner add_inner
    settle
    undo=''
    [ -z "$mount_proof" ] || keep_proof
}

keep_proof() { # what was proven before it was mounted is what is mounted
    look
    get "$SLOT.proof" sha256 || return 0
    mount_proof=$got
    get "$SLOT.proof" at || return 0
    note_proof "$mount_proof" "$got"
}

need_mount_point() {
    [ -d "$MOUNT" ] && return 0
    [ ! -e "$MOUNT" ] || refuse "slot $SLOT: its mount point $MOUNT is not a directory"
    try mkdir -p -- "$MOUNT" || fail "slot $SLOT: cannot make its mount point: $said"
    durable "${MOUNT%/*}/"
    say notice "made the mount point $MOUNT"
}

mounted_now() { # PATH
    undo=$1$NL$undo
    say mounted "$1"
}

undo_mounts() { # what this call mounted, newest first
    while IFS= read -r undo_path; do
        [ -n "$undo_path" ] || continue
        if unmount_one "$undo_path"; then
            say unmounted "$undo_path"
        else
            say notice "$undo_path stays mounted: $said"
        fi
    done <<END
$undo
END
    undo=''
}

check_inner() { # KIND AT SOURCE SIZE MODE ro|rw [NAME SOURCE]...: before anything is mounted
    case $1 in
        bind) [ -d "$3" ] || refuse "the host has no directory $3 to bind to $2" ;;
        files)
            check_at=$2
            shift 6
            while [ "$#" -gt 1 ]; do
                [ -r "$2" ] || refuse "the host has no readable file $2 for $check_at/$1"
                shift 2
            done
            ;;
        devfs | tmpfs | nfs) ;;
        *) refuse "unknown kind of mount: $1" ;;
    esac
}

add_inner() { # as check_inner
    add_point=$MOUNT/$2
    is_mounted "$add_point" && return 0
    [ -d "$add_point" ] || fail \
        "slot $SLOT: the image has no directory /$2 (mount_points of the recipe makes it)"
    real_path "$MOUNT"
    add_real=$real_path/$2
    real_path "$add_point"
    # A symlink in the image must not lead a mount out of the slot, onto the host.
    [ "$real_path" = "$add_real" ] || fail "slot $SLOT: /$2 of the image leads through a symlink"
    "inner_$1" "$@"
    mounted_now "$add_point"
}

copy_files() { # DIRECTORY [NAME SOURCE]...
    copy_to=$1
    shift
    while [ "$#" -gt 1 ]; do
        try cp -- "$2" "$copy_to/$1" || return 1
        try chmod 0444 "$copy_to/$1" || return 1
        shift 2
    done
}

verb_unmount() { # TOKEN A|B clean|force
    need_lock "$1"
    choose "$2"
    ! is_active || refuse "slot $SLOT is active: $LINK names it"
    look
    if [ "$HERE" = no ] && [ -n "$NOTE" ]; then refuse "slot $SLOT: $NOTE"; fi
    [ "$HERE" = yes ] || return 0
    users
    if [ -n "$users" ] && [ "$3" = force ]; then
        end_all_users
    fi
    [ -z "$users" ] || {
        say hint 'end it, then deploy again (--force-unmount ends it for you)'
        refuse "slot $SLOT: $MOUNT is in use by $(shown_users)"
    }
    mounts_inside
    while IFS= read -r unmount_path; do
        [ -z "$unmount_path" ] || unmount_or_fail "$unmount_path"
    done <<END
$mounts_inside
END
    unmount_or_fail "$MOUNT"
    prove_free
}

end_all_users() { # of the chosen slot: asked for, never by itself
    say notice "slot $SLOT: ended $(shown_users)"
    # shellcheck disable=SC2046 # one number a word
    end_pids "$END_S" $(printf '%s\n' "$users" | cut -d' ' -f1)
    look
    users
}

unmount_or_fail() { # PATH: never forced, never lazy
    if unmount_one "$1"; then
        say unmounted "$1"
        return 0
    fi
    unmount_said=$said
    users
    fail "slot $SLOT: cannot unmount $1: $unmount_said${users:+ (in use by $(shown_users))}"
}

# --- the switch -----------------------------------------------------------------------------------
verb_flip() { # TOKEN A|B
    need_lock "$1"
    claim "$RECORDS/$SET.switch" "$1" "flip to slot $2" || occupied \
        "set $SET is just being flipped (pid $claim_pid)"
    own_writer=$RECORDS/$SET.switch
    need_lock "$1" # it may have been taken away meanwhile: then nothing may be flipped any more
    choose "$2"
    [ -L "$LINK" ] || [ ! -e "$LINK" ] || refuse "$LINK is not a symlink"
    right_kind
    look
    [ "$HERE" = yes ] || refuse "slot $SLOT is not mounted from $DEVICE at $MOUNT${NOTE:+: $NOTE}"
    flip_folder=${LINK%/*}
    flip_folder=${flip_folder:-/}
    flip_temporary=$flip_folder/.${LINK##*/}.flip
    flip_previous=''
    [ ! -L "$LINK" ] || flip_previous=$(readlink -- "$LINK")
    rm -f -- "$flip_temporary".*
    if [ "$flip_previous" != "$TARGET" ]; then
        # First: a cut from here on must leave an active slot that nobody has judged yet.
        drop "$SLOT.verdict" state
        try ln -s -- "$TARGET" "$flip_temporary.$$" || fail "cannot make a symlink in $flip_folder: $said"
        try rename_link "$flip_temporary.$$" "$LINK" || {
            flip_said=$said
            rm -f -- "$flip_temporary.$$"
            fail "cannot rename over $LINK: $flip_said"
        }
    fi
    durable "$flip_folder"
    flip_now=$(readlink -- "$LINK") || flip_now=
    [ "$flip_now" = "$TARGET" ] || fail "$LINK reads back as '$flip_now', not '$TARGET'"
    release "$own_writer"
    own_writer=''
    say previous "$flip_previous"
    say link "$flip_now"
}

verb_check() { # SECONDS COMMAND...
    check_s=$1
    shift
    check_status=0
    [ -d "$RECORDS" ] || scratch=${TMPDIR:-/tmp}/.flipslot.$SET.$$
    limited "$check_s" "$scratch.check" "$@" || check_status=$?
    tail -n 20 "$scratch.check" | cut -c1-500 >"$scratch.tail"
    while IFS= read -r check_line || [ -n "$check_line" ]; do
        say output "$check_line"
    done <"$scratch.tail"
    say exit "$check_status"
    case $check_status in
        0) ;;
        124) fail "$1: no end within $check_s s" ;;
        *) fail "$1: exit status $check_status" ;;
    esac
}

verb_judge() { # TOKEN A|B good|bad
    need_lock "$1"
    choose "$2"
    get "$SLOT.image" sha256 || refuse "slot $SLOT: no record says which image it holds"
    put "$SLOT.verdict" "verdict=$3" "sha256=$got" "at=$(date +%s)"
    say judged "$3"
}
