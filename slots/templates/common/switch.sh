# slotctl's flip and rollback: a deploy's way, as far as the host can go it alone.
slotctl_flip() { # A|B
    slotctl_lock flip
    choose "$1"
    switch_to
}

slotctl_rollback() {
    slotctl_lock rollback
    choose A
    if is_active; then choose B; fi
    choose_beside=$SLOT
    slot_beside
    choose "$slot_beside"
    is_active || refuse "$LINK names no slot: say which one (slotctl flip $SET A|B)"
    choose "$choose_beside"
    if get "$SLOT.verdict" verdict && [ "$got" = bad ]; then
        say hint "slotctl flip $SET $SLOT serves it all the same"
        refuse "slot $SLOT: its image was judged bad"
    fi
    switch_to
}

switch_to() { # the chosen slot: proven, tried, served, checked; or back again
    switch_slot=$SLOT
    slot_beside
    switch_left=$slot_beside
    verb_disarm "$own_token"
    prove_recorded
    switch_release=$image_release switch_format=$image_format
    find_way_back
    [ -z "$confirm_s" ] || [ -n "$switch_back" ] || refuse \
        "slot $switch_left holds nothing to go back to: --confirm-within is of no use"
    checks_failing=' '
    verb_mount "$own_token" "$switch_slot" "$switch_format"
    if ! is_active; then
        verb_preflight "$own_token" "$switch_slot"
        ! served_by "$switch_left" || before_the_flip
    fi
    if [ -n "$confirm_s" ]; then
        choose "$switch_back"
        arm "$own_token" "$confirm_s" "$switch_release" /bin/sh "$slotctl_path" guard "$SET"
    fi
    # Whoever asked may be cut off: half a switch would serve without restart and checks.
    trap : HUP PIPE
    verb_flip "$own_token" "$switch_slot"
    settle_switch
}

before_the_flip() {
    [ "$UNCOVERED" != stop ] || verb_cover "$own_token" "$switch_left"
    checks_before
}

served_by() { # A|B
    choose "$1"
    is_active
}

find_way_back() { # $switch_back: the other slot, if it served until now or holds what may serve
    switch_back='' switch_good=no
    choose "$switch_left"
    device_kind
    [ "$device_kind" = "$SLOT_KIND" ] || return 0
    inspect
    look
    [ "$HERE" = yes ] || return 0
    way_known=no way_verdict=''
    if image_of && [ "$image_head" = "$head_sha256" ]; then
        way_known=yes
        verdict_of "$image_sha256"
        way_verdict=$verdict
        [ "$way_verdict" != good ] || switch_good=yes
        ! proof_holds || ! get "$SLOT.proof" sha256 || [ "$got" = "$image_sha256" ] || way_verdict=bad
    fi
    if is_active || [ "$way_known:$way_verdict" = yes: ] || [ "$switch_good" = yes ]; then
        switch_back=$SLOT
    fi
}

settle_switch() { # what used the other slot moves, and what serves now is checked
    choose "$switch_left"
    apply_each "$RESTART_TIMEOUT_S" "$UNCOVERED"
    [ -z "$apply_failed" ] || take_back "not restarted: $apply_failed"
    verb_drain "$own_token" "$switch_left" "$DRAIN_S"
    switch_stragglers=''
    [ -z "$users" ] || switch_stragglers=$(shown_users)
    checks_after
    [ -z "$checks_missed" ] || take_back "$checks_missed"
    if [ -n "$confirm_s" ]; then
        need_lock "$own_token"
        guard_left "armed.$own_token"
        say notice "within ${guard_left:-$confirm_s} s: slotctl confirm $SET, or slot $switch_back serves again"
    fi
    [ -z "$switch_stragglers" ] || fail \
        "slot $switch_slot serves $switch_release, but slot $switch_left is still used by $switch_stragglers"
}

take_back() { # WHY: it does not do
    need_lock "$own_token" # the guard may have been faster
    [ -n "$switch_back" ] || fail \
        "slot $switch_slot serves $switch_release but failed: $1; there is nothing to go back to"
    say notice "$switch_release failed: $1; going back"
    verb_flip "$own_token" "$switch_back"
    verb_judge "$own_token" "$switch_slot" bad
    choose "$switch_slot"
    apply_each "$RESTART_TIMEOUT_S" "$UNCOVERED"
    back_trouble=${apply_failed:+; and then not restarted: $apply_failed}
    verb_drain "$own_token" "$switch_slot" "$DRAIN_S"
    [ -z "$users" ] || back_trouble="$back_trouble; and then slot $switch_slot is still used by $(shown_users)"
    checks_after
    back_trouble=$back_trouble${checks_missed:+; and then $checks_missed}
    [ "$switch_good:$back_trouble" != yes: ] || verb_judge "$own_token" "$switch_back" good
    verb_disarm "$own_token"
    stop 25 "$switch_release failed: $1; taken back, slot $switch_back serves again$back_trouble"
}

# --- health: the checks of the inventory that run on the host; each_check has the required ones first --
# required|wanted SECONDS COMMAND...
CHECK_ATTEMPT_S=5

checks_before() { # once each, while the old slot serves: what fails now is not the new image's doing
    check_number=0
    each_check check_before
}

check_before() {
    check_number=$((check_number + 1))
    check_s=$2
    shift 2
    [ "$check_s" -le "$CHECK_ATTEMPT_S" ] || check_s=$CHECK_ATTEMPT_S
    check_once "$check_s" "$@"
    [ -n "$check_why" ] || return 0
    checks_failing="$checks_failing$check_number "
    say notice "before the flip already: $check_why"
}

checks_after() { # each until it passes or its time is up: $checks_missed, of required ones
    check_number=0 checks_missed=''
    each_check check_after
}

check_after() {
    check_number=$((check_number + 1))
    check_level=$1 check_s=$2 check_also=''
    shift 2
    case $checks_failing in *" $check_number "*) check_also=' (it failed before the flip too)' ;; esac
    # What decides nothing and failed before is not awaited.
    case $check_level$check_also in
        wanted?*) [ "$check_s" -le "$CHECK_ATTEMPT_S" ] || check_s=$CHECK_ATTEMPT_S ;;
    esac
    check_until "$@"
    if [ -z "$check_why" ]; then
        say passed "$*"
    elif [ "$check_level" = required ]; then
        checks_missed="${checks_missed:+$checks_missed; }$check_why$check_also"
    else
        say notice "wanted, but $check_why$check_also"
    fi
}

check_until() { # COMMAND...: again and again for $check_s
    uptime_s
    check_end=$((uptime_s + check_s))
    check_left=$check_s
    while :; do
        check_once "$check_left" "$@"
        [ -n "$check_why" ] || return 0
        sleep 0.5
        uptime_s
        check_left=$((check_end - uptime_s))
        [ "$check_left" -gt 0 ] || break
    done
    check_why="$check_why (tried for $check_s s)"
}

check_once() { # SECONDS COMMAND...: $check_why, empty if it succeeds
    check_limit=$1 check_status=0 check_why=''
    shift
    limited "$check_limit" "$scratch.check" "$@" || check_status=$?
    case $check_status in
        0) return 0 ;;
        124) check_why="no end within $check_limit s" ;;
        *) check_why="exit status $check_status" ;;
    esac
    check_said=$(tail -n 1 "$scratch.check" | tr -d '\000\r' | cut -c1-300)
    check_why="\`$*\` failed: $check_why${check_said:+ ($check_said)}"
}
