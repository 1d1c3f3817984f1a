# The dead man's switch: unless somebody confirms in time, the host itself goes back.
# Who renames the record SET.armed.TOKEN decides: confirm and guard both try, one of them gets it.
verb_arm() { # TOKEN A|B SECONDS RELEASE: the slot to go back to; payload = the guard, gzipped
    need_lock "$1"
    choose "$2"
    arm_path=$RECORDS/$SET.guard
    rm -f -- "$arm_path.partial"
    umask 077 # commands of rules may be secret
    { gzip -dc <&3 >"$arm_path.partial"; } 2>/dev/null || fail "the guard did not come whole"
    umask 022
    durable "$arm_path.partial"
    mv -f -- "$arm_path.partial" "$arm_path"
    arm "$1" "$3" "$4" /bin/sh "$arm_path"
}

arm() { # TOKEN SECONDS RELEASE COMMAND...: the command is a guard that goes back to the chosen slot
    arm_token=$1 arm_s=$2 arm_release=$3
    shift 3
    disarm
    drop firing fired
    boot_id
    uptime_s
    slot_beside
    put "armed.$arm_token" "token=$arm_token" "back=$SLOT" "target=$slot_beside" "seconds=$arm_s" \
        "release=$arm_release" "boot_id=$boot_id" "at=$(date +%s)" "up=$uptime_s"
    detach "$@"
    arm_tries=0
    until read_claim "$RECORDS/$SET.guardian" && [ "$claim_token" = "$arm_token" ]; do
        arm_tries=$((arm_tries + 1))
        if [ "$arm_tries" -gt 150 ]; then
            drop "armed.$arm_token"
            fail "the guard does not start: $(tail -n 1 "$RECORDS/$SET.guard.log" 2>/dev/null || :)"
        fi
        sleep 0.1
    done
    say armed "$arm_s"
}

verb_confirm() { # TOKEN: the slot that serves is to stay
    need_lock "$1"
    disarm
    [ -n "$disarmed" ] || ! guard_has_fired || guard_fired
    [ -z "$disarmed" ] || say confirmed "$disarmed"
}

verb_disarm() { # TOKEN: before other work begins, or when the way back was gone by the deployer
    need_lock "$1"
    disarm
    drop firing fired
    [ -z "$disarmed" ] || say disarmed "$disarmed"
}

slot_beside() { # $slot_beside, of the chosen one
    case $SLOT in
        A) slot_beside=B ;;
        *) slot_beside=A ;;
    esac
}

disarm() { # $disarmed: the token of what was armed, empty if nothing was
    disarmed=''
    for disarm_path in "$RECORDS/$SET".armed.*; do
        [ -f "$disarm_path" ] || continue
        try mv -f -- "$disarm_path" "$RECORDS/$SET.confirmed" || guard_fired
        disarmed=${disarm_path##*.armed.}
    done
    [ -n "$disarmed" ] || return 0
    durable "$RECORDS"
    # It would see by itself that its record is gone; nobody need wait for that.
    if read_claim "$RECORDS/$SET.guardian" && claim_lives; then
        kill -TERM "$claim_pid" 2>/dev/null || :
    fi
    rm -f -- "$RECORDS/$SET.confirmed"
}

# --- the guard itself: a process of its own, with nothing of the session that started it ------------
verb_guard() { # TOKEN OWN-TOKEN: waits for its time; guard_services restarts what used the slot
    exec 4>"$RECORDS/$SET.guard.log" 2>&4
    unheard=fine # what it has to do it does, although its disk be full by then
    trap : HUP INT PIPE
    nap=''
    trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null; exit 143' TERM
    guard_armed=armed.$1
    get "$guard_armed" seconds || return 0
    guard_s=$got
    get "$guard_armed" back
    guard_back=$got
    uptime_s
    guard_end=$((uptime_s + guard_s))
    own_token=$2
    write_claim "$scratch.claim" "$2" "the guard of set $SET"
    mv -f -- "$scratch.claim" "$RECORDS/$SET.spare"
    write_claim "$scratch.claim" "$1" "the guard of set $SET"
    mv -f -- "$scratch.claim" "$RECORDS/$SET.guardian"
    while [ -f "$RECORDS/$SET.$guard_armed" ]; do
        uptime_s
        if [ "$uptime_s" -ge "$guard_end" ]; then
            guard_fires "not confirmed within $guard_s s"
            return 0
        fi
        sleep 1 &
        nap=$!
        wait "$nap" || :
        nap=''
    done
}

guard_fires() { # WHY: if nobody confirms at this very moment
    try mv -f -- "$RECORDS/$SET.$guard_armed" "$RECORDS/$SET.firing" || return 0
    trap : TERM
    durable "$RECORDS"
    say fired "$1"
    own_lock=yes # finish lets it go, if it was got
    set +e # in a list such as `( ... ) || ...` the shell would go on behind what fails
    (
        set -e
        guard_takes_lock
        guard_goes_back
    )
    guard_status=$?
    set -e
    guard_note "$1"
}

guard_takes_lock() { # from whoever has it: a deployer that hangs must not go on
    lock_tries=0
    (verb_unlock) || :
    until claim "$RECORDS/$SET.lock" "$own_token" "the guard of set $SET"; do
        lock_tries=$((lock_tries + 1))
        [ "$lock_tries" -lt 10 ] || fail "$claim_holder (pid $claim_pid) holds the lock"
        (verb_unlock) || :
    done
}

guard_goes_back() {
    choose "$guard_back"
    slot_beside
    guard_other=$slot_beside
    if is_active; then
        choose "$guard_other"
        look
        users
        if [ -z "$users" ]; then
            say unneeded "slot $guard_back serves"
            return 0
        fi
    else
        serve_slot "$own_token"
    fi
    guard_services
}

serve_slot() { # TOKEN: the chosen slot, mounted if it is not, becomes what the link names
    look
    if [ "$HERE" = no ]; then
        get "$SLOT.image" format || fail "slot $SLOT is not mounted, and no record says what it holds"
        step_apart verb_mount "$1" "$SLOT" "$got"
    fi
    step_apart verb_flip "$1" "$SLOT"
}

guard_note() { # WHY: what was done, for the next probe; nothing where nothing had been flipped
    if [ "$guard_status" -eq 0 ] && grep -q '^unneeded=' "$RECORDS/$SET.guard.log"; then
        drop firing
        return 0
    fi
    guard_error=$(sed -n 's/^error=//p' "$RECORDS/$SET.guard.log" | tail -n 1)
    if {
        cat -- "$RECORDS/$SET.firing" \
            && printf 'why=%s\nfired_at=%s\nerror=%s\n' "$1" "$(date +%s)" "$guard_error"
    } >"$scratch.fired"; then
        durable "$scratch.fired"
        mv -f -- "$scratch.fired" "$RECORDS/$SET.fired"
        drop firing
    else # no room to say more than that it was done
        mv -f -- "$RECORDS/$SET.firing" "$RECORDS/$SET.fired"
        durable "$RECORDS"
    fi
}
