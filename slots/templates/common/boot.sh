# At boot, before the services: what a cut left behind is found, and the slot that the link names serves.
# A slot is trusted unread only with the record SET.A.kept: it was like this at a clean stop. An erase
# drops that, so what was filled since is proven again, and lost records mean the same.
slotctl_boot() {
    need_records
    boot_id
    boot_claims
    slotctl_lock boot
    mount_at_boot=yes
    boot_slot A
    boot_found_A=$boot_found
    boot_slot B
    boot_found_B=$boot_found
    boot_guard
    boot_serve
    boot_beside
    boot_fired
    boot_note
}

boot_claims() { # of an earlier boot: whatever their numbers name now, it is not them
    for boot_name in lock A.writer B.writer switch guardian; do
        read_claim "$RECORDS/$SET.$boot_name" || continue
        [ "$claim_boot" = "$boot_id" ] || rm -f -- "$RECORDS/$SET.$boot_name"
    done
}

boot_slot() { # A|B: $boot_found, what is known of it
    choose "$1"
    boot_found=empty
    device_kind
    if [ "$device_kind" != "$SLOT_KIND" ]; then
        boot_found="not there ($DEVICE: $device_kind)"
        return 0
    fi
    inspect
    [ "$STATE" = ready ] || return 0
    look
    boot_found=unrecorded
    image_of || return 0
    boot_found=damaged
    [ "$image_head" = "$head_sha256" ] || return 0
    if proof_holds; then
        get "$SLOT.proof" sha256 || :
        [ "$got" != "$image_sha256" ] || boot_found=proven
    elif get "$SLOT.kept" sha256 && [ "$got" = "$image_sha256" ]; then
        boot_found=kept
    else
        say notice "slot $SLOT was not there at a clean stop: it is proven"
        boot_prove
    fi
}

boot_prove() { # the chosen slot
    boot_found=damaged
    apart prove_recorded
    [ "$apart" -eq 0 ] || return 0
    boot_found=proven
    image_of
    put "$SLOT.kept" "sha256=$image_sha256"
}

boot_guard() { # $boot_back, if the power went while a guard waited or went back
    boot_back='' boot_was=''
    for boot_path in "$RECORDS/$SET.firing" "$RECORDS/$SET".armed.*; do
        [ -f "$boot_path" ] || continue
        boot_name=${boot_path#"$RECORDS/$SET."}
        get "$boot_name" boot_id || :
        [ "$got" != "$boot_id" ] || continue # it is at work
        get "$boot_name" back || :
        case $got in A | B) ;; *) continue ;; esac
        if [ "$boot_name" != firing ]; then
            try mv -f -- "$boot_path" "$RECORDS/$SET.firing" || continue
            durable "$RECORDS"
        fi
        say notice "a switch that nobody confirmed was cut: slot $got is to serve"
        boot_back=$got boot_was=${boot_was:-${boot_name%%.*}}
    done
}

boot_serve() { # $boot_served, and $boot_why it is not the wanted one
    boot_active='' boot_served='' boot_why=''
    for boot_one in A B; do
        choose "$boot_one"
        ! is_active || boot_active=$boot_one
    done
    if [ -z "$boot_active" ]; then
        boot_why="$LINK names no slot"
        boot_is_blank || return 0
        boot_why=''
        return 0
    fi
    boot_wanted=${boot_back:-$boot_active}
    boot_try "$boot_wanted" wanted
    [ -z "$boot_served" ] || return 0
    choose "$boot_wanted"
    slot_beside
    boot_try "$slot_beside" instead
}

boot_is_blank() { # of a set that was never served here, such as a second one beside the first
    [ ! -e "$LINK" ] && [ ! -L "$LINK" ] || return 1
    case $boot_found_A:$boot_found_B in
        empty:empty | empty:'not there'* | 'not there'*:empty | 'not there'*:'not there'*) ;;
        *) return 1 ;;
    esac
}

boot_found_of() { # the chosen slot
    case $SLOT in
        A) boot_found=$boot_found_A ;;
        *) boot_found=$boot_found_B ;;
    esac
}

boot_try() { # A|B wanted|instead: only a proven slot stands in for another
    choose "$1"
    boot_found_of
    case $boot_found:$2 in
        kept:instead) boot_prove ;;
        unrecorded:wanted) say notice "slot $SLOT: no record says what it holds, it is served unproven" ;;
    esac
    case $boot_found:$2 in
        proven:* | kept:* | unrecorded:wanted) ;;
        *)
            boot_why="${boot_why:+$boot_why; }slot $SLOT is $boot_found"
            return 0
            ;;
    esac
    apart boot_mount
    if [ "$apart" -ne 0 ]; then
        boot_why="${boot_why:+$boot_why; }slot $SLOT cannot be mounted"
    elif is_active; then
        boot_served=$SLOT
        say link "$TARGET"
    else
        apart verb_flip "$own_token" "$SLOT"
        if [ "$apart" -eq 0 ]; then
            boot_served=$SLOT
        else
            boot_why="${boot_why:+$boot_why; }$LINK cannot be set to slot $SLOT"
        fi
    fi
}

boot_mount() { # the chosen slot, as its head says: the verb reads the head whole
    head_format
    verb_mount "$own_token" "$SLOT" "$head_format"
}

boot_beside() { # the way back, ready; without it the other one serves all the same
    [ -n "$boot_served" ] || return 0
    choose "$boot_served"
    slot_beside
    choose "$slot_beside"
    boot_found_of
    case $boot_found in
        proven | kept) apart boot_mount ;;
    esac
}

boot_fired() { # what a guard would have noted; nothing where nothing had been flipped
    [ -n "$boot_back" ] || return 0
    guard_status=0
    if [ "$boot_served" != "$boot_back" ]; then
        guard_status=21
        echo "error=$boot_why"
    elif [ "$boot_was$boot_active" = "armed$boot_back" ]; then
        echo "unneeded=slot $boot_back serves"
    fi >"$RECORDS/$SET.guard.log"
    guard_note 'found armed at boot'
}

boot_note() { # for whoever asks, until the link is set anew
    boot_text=''
    if [ -z "$boot_served$boot_why" ]; then
        drop state
        say notice 'nothing was deployed here yet'
    elif [ -z "$boot_served" ]; then
        boot_text="no slot serves: $boot_why"
        put state state=none "text=$boot_text" "boot_id=$boot_id" "at=$(date +%s)"
        say hint "deploy a release, or write one slot and: slotctl flip $SET A|B"
        mismatch "$boot_text"
    elif [ -n "$boot_why" ]; then
        boot_text="slot $boot_served serves instead: $boot_why"
        put state state=instead "text=$boot_text" "boot_id=$boot_id" "at=$(date +%s)"
        say notice "$boot_text"
    else
        drop state
    fi
}

slotctl_stop() { # at a clean shutdown: what is here now need not be read again at boot
    need_records
    for stop_slot in A B; do
        choose "$stop_slot"
        STATE=empty head_sha256=''
        device_kind
        [ "$device_kind" != "$SLOT_KIND" ] || inspect
        if [ "$STATE" = ready ] && image_of && [ "$image_head" = "$head_sha256" ] && stop_whole; then
            put "$SLOT.kept" "sha256=$image_sha256"
        else
            drop "$SLOT.kept"
        fi
    done
}

stop_whole() { # unless the last that was read back says otherwise
    ! get "$SLOT.proof" sha256 || [ "$got" = "$image_sha256" ]
}
