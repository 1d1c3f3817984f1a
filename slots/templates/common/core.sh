# What every verb stands on: answers, records, claims, the start and the end of a script.
# Functions return in variables of their own name, since a `$( )` costs a fork and hides a refusal.
NL='
'
TAB=$(printf '\t')
ZERO_HEAD=de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31
begun='' unheard='' child='' watcher='' feeders='' limited_first=: limited_group='' own_lock='' own_token='' own_writer='' undo='' scratch=''

say() { # KEY VALUE: one line of the answer
    say_value=$2
    case $say_value in
        *"$NL"*) say_value=$(printf '%s' "$say_value" | tr '\n' ' ') ;;
    esac
    printf '%s=%s\n' "$1" "$say_value" >&4 || [ -n "$unheard" ]
}
stop() { # STATUS TEXT
    say error "$2"
    exit "$1"
}
refuse() { stop 20 "$1"; }     # a rule is broken, nothing was changed
fail() { stop 21 "$1"; }
occupied() { # by a live holder
    say hint '`deploy unlock` ends a holder that hangs'
    stop 22 "$1"
}
mismatch() { stop 23 "$1"; }
lost() { # the lock: nothing more may be changed under it
    say hint 'deploy again'
    stop 24 "$1"
}

guard_has_fired() { # of this set; $got is the slot that it goes back to
    get firing back || get fired back
}
guard_fired() { # instead of a confirmation that was made in time
    guard_has_fired || got='the other one'
    say hint 'see what kept it from being confirmed, then deploy again'
    stop 25 "the guard flips back to slot $got: nobody confirmed in time"
}

did() { # behind a verb that another follows: its answer is whole, and what it held is let go
    [ -z "$own_writer" ] || release "$own_writer"
    own_writer=''
    rm -f -- "$scratch".*
    say did yes
}

take() { # BYTES: exactly so many of the payload, if they come, to stdout
    [ "$1" -lt 65536 ] || dd bs=65536 count="$(($1 / 65536))" iflag=fullblock <&3
    [ "$(($1 % 65536))" -eq 0 ] || dd bs="$(($1 % 65536))" count=1 iflag=fullblock <&3
}

try() { # COMMAND...: what it said is in $said
    said=$("$@" 2>&1 </dev/null 3<&- 4>&-)
}

# --- start and end -----------------------------------------------------------------------------
flipslot_main() {
    # 3 is the payload, 4 the answer; children get neither stdin nor a way into the answer.
    exec 3<&0 4>&1 </dev/null >&2
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    printf '\nflipslot %s begin\n' "$NONCE" >&4
    set -eu
    LC_ALL=C
    export LC_ALL PATH
    unset BLOCKSIZE QUOTING_STYLE POSIXLY_CORRECT CDPATH
    umask 022
    cd /
    scratch=$RECORDS/.$SET.$$
    begun=yes
    need_rights
    flipslot_call
    exit 0
}

finish() { # STATUS
    trap '' HUP INT PIPE TERM
    trap - EXIT
    set +e
    # A child that a signal meets too early still has its parent's traps: the end is not its business.
    [ -n "$begun" ] && [ "$(exec /bin/sh -c 'echo "$PPID"')" = "$$" ] || exit "$1"
    finish_status=$1
    [ -z "$undo" ] || undo_mounts
    end_children
    [ -z "$own_writer" ] || release "$own_writer"
    [ -z "$own_lock" ] || release "$RECORDS/$SET.lock"
    rm -f -- "$scratch".*
    case $finish_status in
        0 | 20 | 21 | 22 | 23 | 24 | 25) ;;
        129 | 130 | 141 | 143)
            say error "ended by a signal ($((finish_status - 128)))"
            finish_status=21
            ;;
        *)
            say error "a command of the verb ended with status $finish_status"
            finish_status=21
            ;;
    esac
    ended "$finish_status"
}

ended() { # STATUS
    printf 'flipslot %s end %s\n' "$NONCE" "$1" >&4
    exit "$1"
}

apart() { # COMMAND...: a verb that may fail; $apart is its status, what it mounted in vain is undone
    set +e
    (
        trap '[ -z "$undo" ] || undo_mounts; [ -z "$own_writer" ] || release "$own_writer"' EXIT
        set -e
        "$@"
    )
    apart=$?
    set -e
}

step_apart() { # COMMAND...: the same, where nothing can go on without it
    apart "$@"
    [ "$apart" -eq 0 ] || exit "$apart"
}

end_children() {
    [ -z "$watcher" ] || end_watcher
    # shellcheck disable=SC2086 # a number a word
    [ -z "$feeders" ] || kill -TERM $feeders 2>/dev/null || :
    [ -n "$child" ] || return 0
    end_tries=0
    # A child that cannot die (a write that hangs) keeps its claim: the next writer must see it.
    while [ "$end_tries" -lt 10 ] && running "$child"; do
        kill -TERM "$limited_group$child" 2>/dev/null
        sleep 0.1
        end_tries=$((end_tries + 1))
    done
    running "$child" && own_writer=
    return 0
}

end_watcher() {
    end_surely "$watcher"
    watcher=''
}

end_surely() { # PID of a child, again and again: a subshell that has just begun loses a signal
    while running "$1"; do
        kill -TERM "$1" 2>/dev/null || :
        sleep 0.02
    done
    wait "$1" || :
}

limited() { # SECONDS OUTPUT-FILE COMMAND...: its status, or 124 when the time was up
    limited_s=$1
    limited_output=$2
    shift 2
    rm -f "$scratch.late"
    # Where nothing can be kept of what it says it is run all the same.
    { true >"$limited_output"; } 2>/dev/null || limited_output=/dev/null
    (
        trap - EXIT HUP INT PIPE TERM
        "$limited_first"
        exec "$@"
    ) >"$limited_output" 2>&1 3<&- 4>&- 5>&- &
    child=$!
    (
        trap - EXIT HUP INT PIPE
        trap 'kill "${nap:-}" 2>/dev/null; exit 0' TERM
        sleep "$limited_s" &
        nap=$!
        wait "$nap"
        { true >"$scratch.late"; } 2>/dev/null || :
        kill -TERM "$limited_group$child" 2>/dev/null || :
        sleep 2 &
        nap=$!
        wait "$nap"
        kill -KILL "$limited_group$child" 2>/dev/null || :
    ) >/dev/null 2>&1 3<&- 4>&- 5>&- &
    watcher=$!
    limited_status=0
    wait "$child" || limited_status=$?
    while [ "$limited_status" -gt 128 ] && running "$child"; do # a signal that is caught ended the wait
        limited_status=0
        wait "$child" || limited_status=$?
    done
    [ -z "$limited_group" ] || kill -KILL "-$child" 2>/dev/null || :
    child=''
    end_watcher
    if [ -e "$scratch.late" ]; then
        rm -f "$scratch.late"
        return 124
    fi
    return "$limited_status"
}

# --- the set ------------------------------------------------------------------------------------
choose() { # A|B: sets SLOT DEVICE MOUNT TARGET
    case $1 in
        A) DEVICE=$DEVICE_A MOUNT=$MOUNT_A TARGET=$TARGET_A ;;
        B) DEVICE=$DEVICE_B MOUNT=$MOUNT_B TARGET=$TARGET_B ;;
        *) refuse "there is no slot '$1'" ;;
    esac
    SLOT=$1
}

real_path() { # DIR: $real_path, empty if there is no such directory
    real_path=$(cd -P -- "$1" 2>/dev/null && pwd -P) || real_path=
}

is_active() { # does the link name the chosen slot, by its text or by where it leads?
    [ -L "$LINK" ] || return 1
    is_active_text=$(readlink -- "$LINK") || return 1
    [ "$is_active_text" != "$TARGET" ] && [ "$is_active_text" != "$MOUNT" ] || return 0
    real_path "$LINK"
    is_active_real=$real_path
    real_path "$MOUNT"
    [ -n "$real_path" ] && [ "$real_path" = "$is_active_real" ]
}

# --- records: each written beside, made durable, renamed ------------------------------------------
need_records() {
    [ -d "$RECORDS" ] && return 0
    try mkdir -p -- "$RECORDS" || {
        records_hint
        fail "cannot make the folder of records: $said"
    }
    durable "${RECORDS%/*}/"
}

records_hint() {
    say hint "records lie in $RECORDS: make that possible, or name another folder (records) in the inventory"
}

unwritten() { # PATH: fail, with the system's reason; shells say only that it did not work
    if try dd if=/dev/zero of="$1" bs=4096 count=1; then
        said='it failed for a moment'
    else
        said=${said%%"$NL"*}
        said=${said##*: }
    fi
    rm -f -- "$1"
    records_hint
    fail "cannot write $1: $said"
}

put() { # NAME LINE...
    put_path=$RECORDS/$SET.$1
    shift
    { printf '%s\n' "$@" >"$put_path.partial"; } 2>/dev/null \
        && durable "$put_path.partial" \
        && mv -f -- "$put_path.partial" "$put_path" \
        && durable "$RECORDS" \
        || unwritten "$put_path.partial"
}

drop() { # NAME...
    for drop_name in "$@"; do
        rm -f -- "$RECORDS/$SET.$drop_name" || fail "cannot remove the record $SET.$drop_name"
    done
    durable "$RECORDS"
}

get() { # NAME KEY: $got; status 1 if there is none
    got=''
    [ -f "$RECORDS/$SET.$1" ] || return 1
    while IFS='=' read -r get_key get_value; do
        if [ "$get_key" = "$2" ]; then
            got=$get_value
            return 0
        fi
    done <"$RECORDS/$SET.$1"
    return 1
}

# --- claims: files that name a live process; made whole in one step by ln --------------------------
read_claim() { # PATH: sets claim_*; status 1 if there is none
    claim_holder='' claim_token='' claim_pid='' claim_start='' claim_boot='' claim_since=''
    claim_child='' claim_child_start=''
    [ -f "$1" ] || return 1
    while IFS='=' read -r claim_key claim_value; do
        case $claim_key in
            holder) claim_holder=$claim_value ;;
            token) claim_token=$claim_value ;;
            pid) claim_pid=$claim_value ;;
            start) claim_start=$claim_value ;;
            boot_id) claim_boot=$claim_value ;;
            since) claim_since=$claim_value ;;
            child) claim_child=$claim_value ;;
            child_start) claim_child_start=$claim_value ;;
        esac
    done <"$1"
}

claim_lives() { # of the claim that was read
    alive "$claim_pid" "$claim_start" "$claim_boot" && return 0
    alive "$claim_child" "$claim_child_start" "$claim_boot"
}

write_claim() { # PATH TOKEN HOLDER
    boot_id
    started "$$"
    {
        printf 'holder=%s\ntoken=%s\npid=%s\n' "$3" "$2" "$$" \
            && printf 'start=%s\nboot_id=%s\nsince=%s\n' "$started" "$boot_id" "$(date +%s)"
    } 2>/dev/null >"$1" || spare_claim "$1" "$2" || unwritten "$1"
}

spare_claim() { # PATH TOKEN: what this process wrote while there was room
    read_claim "$RECORDS/$SET.spare" || return 1
    [ "$claim_token" = "$2" ] && [ "$claim_pid" = "$$" ] || return 1
    rm -f -- "$1"
    try ln -- "$RECORDS/$SET.spare" "$1"
}

claim() { # PATH TOKEN HOLDER: status 1 if a live process has it (claim_* say which)
    write_claim "$scratch.claim" "$2" "$3"
    claim_tries=0
    while [ "$claim_tries" -lt 30 ]; do
        if try ln -- "$scratch.claim" "$1"; then
            rm -f "$scratch.claim"
            return 0
        fi
        if read_claim "$1"; then
            ! claim_lives || return 1
            take_over "$1"
        elif [ -e "$1" ]; then
            fail "$1 is in the way: not a file"
        fi
        claim_tries=$((claim_tries + 1))
    done
    fail "cannot make $1: $said"
}

# The right to remove a dead claim is a folder named by that claim's token: one process gets it,
# and it may remove that claim alone, never one that came after.
take_over() { # PATH, read into claim_*
    take_over_token=$claim_token
    if ! mkdir -- "$1.dead.$take_over_token" 2>/dev/null; then
        sleep 0.2
        [ "$claim_tries" -lt 25 ] || rmdir -- "$1.dead.$take_over_token" 2>/dev/null || :
        return 0
    fi
    if read_claim "$1" && [ "$claim_token" = "$take_over_token" ]; then
        rm -f -- "$1"
        say notice "took over from $claim_holder (pid $claim_pid), who is gone"
    fi
    rmdir -- "$1.dead.$take_over_token" || :
}

release() { # PATH: if it is ours
    read_claim "$1" && [ "$claim_pid" = "$$" ] && [ "$claim_token" = "$own_token" ] || return 0
    rm -f -- "$1"
}

claimed() { # who has the lock, and for how long
    case $claim_since in
        '' | *[!0-9]*) claim_age='' ;;
        *) claim_age=", for $(($(date +%s) - claim_since)) s" ;;
    esac
    echo "set $SET is locked by $claim_holder (pid $claim_pid$claim_age)"
}

need_lock() { # TOKEN
    if ! read_claim "$RECORDS/$SET.lock"; then
        taken_away "$1"
    elif [ "$claim_token" != "$1" ]; then
        fired_on "$1"
        ! claim_lives || occupied "$(claimed)"
        taken_away "$1"
    fi
    claim_lives || lost "the lock of set $SET ended: process $claim_pid, which held it, died"
    own_token=$1
}

fired_for() { # TOKEN: did the guard of this work go off? It takes the lock from whoever has it
    for fired_record in firing fired; do
        ! get "$fired_record" token || [ "$got" != "$1" ] || return 0
    done
    return 1
}

fired_on() { # TOKEN: what its guard takes back goes on no further
    ! fired_for "$1" || guard_fired
}

taken_away() { # TOKEN
    fired_on "$1"
    lost "the lock of set $SET was taken away (did someone run \`deploy unlock\`?)"
}
