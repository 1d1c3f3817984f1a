# A pack replayed: copies out of the other slot, literals out of the pack, in order into the slot.
verb_patch() { # TOKEN A|B SIZE SHA256 OLD-SHA256 PACK-SHA256
    own_slot "$1" "$2" "$3"
    need_erased
    staged_paths "$6"
    [ -f "$pack" ] || refuse "the pack is not in $staged_folder"
    [ "$(sha256 <"$pack")" = "$6" ] || {
        rm -f -- "$pack"
        mismatch "the pack in $staged_folder is damaged: it was removed"
    }
    other_slot "$5"
    open_pipe unpacked
    gzip -dc <"$pack" >&7 2>"$scratch.gzip" 3<&- 4>&- 6<&- 7>&- &
    feeders=$!
    exec 5<&6 6<&- 7>&-
    read_moves "$3" "$4" "$5"
    open_pipe body
    (
        trap - EXIT HUP INT PIPE TERM
        replay
        [ "$(dd bs=1 count=1 <&5 2>/dev/null | wc -c)" -eq 0 ]
    ) >&7 2>"$scratch.moved" 3<&- 4>&- 6<&- 7>&- &
    feeders="$feeders $!"
    exec 9<&3 3<&6 5<&- 6<&- 7>&-
    receive_body "$3" "$HEAD_BYTES" && payload_ended \
        || fail "slot $SLOT: $why_not${NL}$(tail -n 1 "$scratch.moved")"
    exec 3<&9 9<&-
    # shellcheck disable=SC2086 # a number a word
    wait $feeders || fail "slot $SLOT: the pack could not be unpacked: $(cat "$scratch.gzip")"
    feeders=''
    say patched "$moves"
}

other_slot() { # OLD-SHA256: sets old_device and old_bytes, if the slot beside holds that image
    old_for=$SLOT
    slot_beside
    choose "$slot_beside"
    old_device=$DEVICE
    get "$SLOT.image" sha256 && [ "$got" = "$1" ] \
        || refuse "slot $SLOT does not hold the image that the pack begins with"
    head_sha256
    get "$SLOT.image" head_sha256 || got=
    [ -n "$head_sha256" ] && [ "$head_sha256" = "$got" ] \
        || refuse "slot $SLOT no longer holds what its record says"
    get "$SLOT.image" size || got=
    old_bytes=$got
    choose "$old_for"
}

damaged_pack() { # WHAT
    mismatch "the pack is damaged: $1; nothing was written"
}

pack_field() { # KEY: $field
    IFS= read -r field <&5 || damaged_pack "it ends within its head"
    case $field in
        "$1="*) field=${field#*=} ;;
        *) damaged_pack "its head lacks $1" ;;
    esac
}

is_number() { # TEXT: digits that this shell counts with
    case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
    [ "${#1}" -le "$digits" ]
}

read_moves() { # SIZE SHA256 OLD-SHA256: all of the table is checked before a byte is written
    digits=15
    [ "$((2147483647 + 1))" = 2147483648 ] || digits=9
    IFS= read -r field <&5 && [ "$field" = 'flipslot pack 1' ] || damaged_pack "it is no pack of ours"
    pack_field unit
    unit=$field
    case $unit in 1 | 512) ;; *) damaged_pack "its unit is $unit" ;; esac
    pack_field old
    [ "$field" = "$3 $old_bytes" ] || damaged_pack "it begins with another image"
    pack_field new
    [ "$field" = "$2 $1" ] || damaged_pack "it makes another image"
    pack_field moves
    moves=$field
    is_number "$moves" && is_number "$old_bytes" && is_number "$1" || damaged_pack "its sizes"
    moves_old=$((old_bytes / unit)) moves_left=$((($1 - HEAD_BYTES) / unit)) moves_count=$moves
    while [ "$moves_count" -gt 0 ]; do
        IFS=' ' read -r move move_first move_length <&5 || damaged_pack "it ends within its moves"
        case $move in
            c) is_number "$move_first" && is_number "$move_length" \
                && [ "$((move_first + move_length))" -le "$moves_old" ] \
                || damaged_pack "a move copies from outside the old image" ;;
            l) is_number "$move_first" && [ -z "$move_length" ] || damaged_pack "a move is no move"
               move_length=$move_first ;;
            *) damaged_pack "a move is no move" ;;
        esac
        [ "$move_length" -gt 0 ] && [ "$move_length" -le "$moves_left" ] \
            || damaged_pack "its moves make more than the image"
        moves_left=$((moves_left - move_length)) moves_count=$((moves_count - 1))
        echo "$move $move_first $move_length"
    done >"$scratch.moves"
    [ "$moves_left" -eq 0 ] || damaged_pack "its moves make less than the image"
}

replay() {
    while read -r move move_first move_length; do
        "move_${move}_$unit" || exit 1
    done <"$scratch.moves"
}

# One dd each: a fork is what a move costs. Disks of FreeBSD answer whole sectors alone.
move_c_512() {
    move_to=0
    if [ "$move_length" -gt 512 ]; then
        # Up to a whole block, large blocks in the middle, what is left.
        move_to=$(((128 - move_first % 128) % 128))
        [ "$move_to" -eq 0 ] || dd if="$old_device" bs=512 skip="$move_first" count="$move_to"
        move_blocks=$(((move_length - move_to) / 128))
        dd if="$old_device" bs=65536 skip="$(((move_first + move_to) / 128))" count="$move_blocks"
        move_to=$((move_to + move_blocks * 128))
        [ "$move_to" -lt "$move_length" ] || return 0
    fi
    dd if="$old_device" bs=512 skip="$((move_first + move_to))" count="$((move_length - move_to))"
}
move_l_512() {
    [ "$move_length" -lt 128 ] || dd bs=65536 count="$((move_length / 128))" iflag=fullblock <&5
    [ "$((move_length % 128))" -eq 0 ] || dd bs=512 count="$((move_length % 128))" iflag=fullblock <&5
}
move_c_1() {
    dd if="$old_device" bs=65536 skip="$move_first" count="$move_length" iflag=skip_bytes,count_bytes
}
move_l_1() {
    dd bs=65536 count="$move_length" iflag=fullblock,count_bytes <&5
}
