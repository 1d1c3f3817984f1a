# slotctl: the verbs for whoever sits at the frontend. Plain words go to stdout, errors to stderr.
slotctl_help() {
sed 's/^|//' <<END
slotctl - the slots of this frontend: $SETS

slotctl status [SET]      what the slots hold, and which of them serves
slotctl verify [SET]      reads both slots whole and compares them with their records
slotctl flip SET A|B      proves that slot, tries it, serves it, restarts and drains by the rules, checks;
|                          what fails a required check is taken back
slotctl rollback [SET]    the same with the slot that does not serve, unless it was judged bad
|    --confirm-within N    of these two: back again by itself unless \`slotctl confirm\` comes within N s
slotctl confirm [SET]     what serves is to stay: stops the guard
slotctl guard [SET]       waits like a guard whose process was killed, then goes back
slotctl boot [SET]        at boot, before the services: proves, mounts, serves
slotctl stop [SET]        at a clean shutdown

SET may be left out where there is one; status, verify, boot and stop then do all of them.

0 done, 2 refused, 3 failed, 5 taken back (a check failed, or the guard was first), 7 locked,
8 a slot is damaged or none is valid
END
}

slotctl_main() { # VERB [SET] [A|B] [--confirm-within N]
    confirm_s='' main_words=$#
    while [ "$main_words" -gt 0 ]; do # rotated, without the option
        case $1 in
            --confirm-within)
                confirm_s=${2:-none}
                if [ "$main_words" -gt 1 ]; then
                    shift
                    main_words=$((main_words - 1))
                fi
                ;;
            --confirm-within=*) confirm_s=${1#*=} ;;
            *) set -- "$@" "$1" ;;
        esac
        shift
        main_words=$((main_words - 1))
    done
    case ${1:-}:$confirm_s in
        *:) ;;
        flip:0* | rollback:0* | flip:*[!0-9]* | rollback:*[!0-9]* | *:??????*) set -- wrong ;;
        flip:* | rollback:*) ;;
        *) set -- wrong ;;
    esac
    case ${1:-} in
        -h | --help | help)
            slotctl_help
            exit 0
            ;;
        status | verify | boot | stop) ;;
        flip | rollback | confirm | guard) ;;
        wrong | '')
            slotctl_help >&2
            exit 2
            ;;
        *)
            echo "slotctl: there is no command '$1' (slotctl --help)" >&2
            exit 2
            ;;
    esac
    set -eu
    # 4 is where the answer goes; this program's children get nothing of it.
    exec 3</dev/null 4>&1 5>&2 </dev/null >&2
    if [ "$#" -eq 1 ]; then
        slotctl_all "$1"
    else
        slotctl_one "$@"
    fi
}

slotctl_all() { # VERB: for each set in a process of its own; the worst status
    case $1$SETS in
        flip* | *' '*) ;;
        *) slotctl_one "$1" "$SETS" ;;
    esac
    case $1 in
        status | verify | boot | stop) ;;
        *)
            printf 'slotctl: which set (%s)%s?\n' "$SETS" "$([ "$1" != flip ] || echo ', which slot')" >&5
            exit 2
            ;;
    esac
    all_statuses=' '
    for all_set in $SETS; do
        all_status=0
        /bin/sh "$0" "$1" "$all_set" >&4 2>&5 3<&- || all_status=$?
        all_statuses="$all_statuses$all_status "
    done
    for all_status in 1 2 7 8 5 3; do
        case $all_statuses in *" $all_status "*) exit "$all_status" ;; esac
    done
    exit 0
}

slotctl_one() { # VERB SET [A|B]
    SET=$2 slotctl_own='' own_token=''
    case $1:$# in
        flip:3 | [!f]*:2) ;;
        *)
            slotctl_help >&5
            exit 2
            ;;
    esac
    LC_ALL=C
    export LC_ALL PATH
    unset BLOCKSIZE QUOTING_STYLE POSIXLY_CORRECT CDPATH
    umask 022
    scratch=/nonexistent/slotctl
    begun=yes
    trap 'finish "$?"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    choose_set "$2"
    case $0 in /*) slotctl_path=$0 ;; *) slotctl_path=$PWD/$0 ;; esac
    cd /
    scratch=$RECORDS/.$SET.$$
    need_rights
    "slotctl_$1" ${3:+"$3"}
    exit 0
}

# --- plain words instead of lines for a deployer -----------------------------------------------------
slotctl_plain=yes
say() { # KEY VALUE
    if [ -z "$slotctl_plain" ]; then
        printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')" >&4
        return 0
    fi
    case $1 in
        error) printf 'slotctl: %s: %s\n' "$SET" "$2" >&5 ;;
        hint) printf 'slotctl: %s: (%s)\n' "$SET" "$2" >&5 ;;
        notice) printf '%s: %s\n' "$SET" "$2" >&4 ;;
        previous | actual | locked | unlocked) ;;
        link) printf '%s: serves slot %s\n' "$SET" "$SLOT" >&4 ;;
        judged) printf '%s: slot %s is judged %s\n' "$SET" "$SLOT" "$2" >&4 ;;
        armed) printf '%s: a guard waits %s s for the confirmation\n' "$SET" "$2" >&4 ;;
        confirmed | disarmed) printf '%s: no guard goes back any more\n' "$SET" >&4 ;;
        proved) printf '%s: slot %s is proven, %s\n' "$SET" "$SLOT" "$2" >&4 ;;
        drained) ;;
        kept) printf '%s: %s: nothing to restart\n' "$SET" "$2" >&4 ;;
        *) printf '%s: %s %s\n' "$SET" "$1" "$2" >&4 ;;
    esac || : # whoever listened may be gone: the work goes on
}

ended() { # STATUS of a verb: the product's own
    case $1 in
        0) exit 0 ;;
        20) exit 2 ;;
        22) exit 7 ;;
        23) exit 8 ;;
        25) exit 5 ;;
        *) if [ -n "$own_token" ] && fired_for "$own_token"; then exit 5; else exit 3; fi ;;
    esac
}

new_token() { # $new_token, for a claim of one's own
    new_token=$(od -An -v -tx1 -N16 /dev/urandom | tr -d ' \n')
}

slotctl_lock() { # FOR: as any deployer, for as long as this process lives
    need_records
    new_token
    own_token=$new_token
    claim "$RECORDS/$SET.lock" "$own_token" "slotctl $1" || occupied "$(claimed)"
    own_lock=yes
}

# --- the verbs -----------------------------------------------------------------------------------------
slotctl_status() {
    status_link=nothing
    [ ! -L "$LINK" ] || status_link=$(readlink -- "$LINK")
    printf '%s: %s -> %s\n' "$SET" "$LINK" "$status_link" >&4
    for status_slot in A B; do
        choose "$status_slot"
        STATE='' head_sha256='' HERE=no NOTE='' ELSEWHERE=''
        device_kind
        if [ "$device_kind" = "$SLOT_KIND" ]; then
            inspect
            look
        fi
        status_of
        printf '  slot %s: %s\n' "$SLOT" "$status_text" >&4
    done
    if read_claim "$RECORDS/$SET.lock" && claim_lives; then
        printf '  locked by %s (pid %s)\n' "$claim_holder" "$claim_pid" >&4
    fi
    status_guard
    if get state text; then printf '  at boot: %s\n' "$got" >&4; fi
}

status_of() { # the chosen slot: $status_text
    status_text=${STATE:-no slot: $DEVICE is $device_kind}
    if [ "$STATE" = ready ]; then
        status_text='an image that no record names'
        if image_of && [ "$image_head" = "$head_sha256" ]; then
            status_text="$image_release ($head_format)"
            verdict_of "$image_sha256"
            status_text="$status_text${verdict:+, judged $verdict}"
            status_proof
        fi
    fi
    [ "$HERE" = no ] || status_text="$status_text, mounted"
    ! is_active || status_text="$status_text, serves"
    [ -z "$NOTE$ELSEWHERE" ] || status_text="$status_text; $NOTE${ELSEWHERE:+ mounted at$ELSEWHERE}"
}

status_proof() {
    if ! proof_holds; then
        status_text="$status_text, not proven since the boot"
    elif get "$SLOT.proof" sha256 && [ "$got" = "$image_sha256" ]; then
        status_text="$status_text, proven"
    else
        status_text="$status_text, DAMAGED"
    fi
}

status_guard() {
    see_guard || return 0
    case $seen_state:$seen_alive in
        fired:*)
            printf '  the guard went back to slot %s: %s%s\n' \
                "$seen_back" "$seen_why" "${seen_error:+; failed: $seen_error}"
            ;;
        *:no)
            printf '  a guard was to go back to slot %s, and its process is gone\n' "$seen_back"
            printf '    (slotctl confirm %s: what serves stays; slotctl guard %s: waits in its place)\n' "$SET" "$SET"
            ;;
        firing:*) printf '  the guard is going back to slot %s\n' "$seen_back" ;;
        *)
            printf '  a guard goes back to slot %s in %s s, unless: slotctl confirm %s\n' \
                "$seen_back" "${seen_left:-some}" "$SET"
            ;;
    esac >&4
}

slotctl_verify() {
    slotctl_lock verify
    verify_status=0
    for verify_slot in A B; do
        choose "$verify_slot"
        inspect
        if [ "$STATE" != ready ]; then
            say notice "slot $SLOT: $STATE"
            continue
        fi
        apart prove_recorded
        [ "$apart" -eq 0 ] || [ "$verify_status" -eq 23 ] || verify_status=$apart
    done
    finish "$verify_status"
}

prove_recorded() { # the chosen slot, against its record
    image_of || refuse "slot $SLOT: no record says which image it holds"
    verb_prove "$own_token" "$SLOT" "$image_release" "$image_format" "$image_size" "$image_sha256" \
        "$image_head"
}

image_of() { # the chosen slot's record: image_*; status 1 if there is none
    image_release='' image_format='' image_size='' image_sha256='' image_head=''
    [ -f "$RECORDS/$SET.$SLOT.image" ] || return 1
    while IFS='=' read -r image_key image_value; do
        case $image_key in
            release) image_release=$image_value ;;
            format) image_format=$image_value ;;
            size) image_size=$image_value ;;
            sha256) image_sha256=$image_value ;;
            head_sha256) image_head=$image_value ;;
        esac
    done <"$RECORDS/$SET.$SLOT.image"
    [ -n "$image_sha256" ]
}

leave_slot() { # A|B: by the rules; who stays is named
    verb_restart "$own_token" "$1" "$RESTART_TIMEOUT_S" "$UNCOVERED"
    verb_drain "$own_token" "$1" "$DRAIN_S"
    [ -z "$users" ] || fail "slot $1 is still used by $(shown_users)"
}

slotctl_confirm() {
    slotctl_lock confirm
    verb_confirm "$own_token"
    [ -n "$disarmed" ] || say notice 'nothing waits to be confirmed'
}

slotctl_guard() {
    need_records
    for guard_path in "$RECORDS/$SET".armed.*; do
        [ -f "$guard_path" ] || continue
        read_claim "$RECORDS/$SET.guardian" && claim_lives && occupied "its guard lives (pid $claim_pid)"
        guard_token=${guard_path##*.armed.}
        slotctl_plain=''
        new_token
        verb_guard "$guard_token" "$new_token"
        guard_ended
    done
    say notice 'nothing is armed'
}

guard_ended() { # of this call's guard: its answer went to its log
    slotctl_plain=yes
    exec 4>/dev/null
    get fired token && [ "$got" = "$guard_token" ] || exit 0
    get fired back || :
    printf 'slotctl: %s: nobody confirmed: back to slot %s\n' "$SET" "$got" >&5
    ! get fired error || [ -z "$got" ] || printf 'slotctl: %s: %s\n' "$SET" "$got" >&5
    finish 25
}

guard_services() { leave_slot "$guard_other"; }
