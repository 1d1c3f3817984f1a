# The staging folder: a pack lies there from its arrival until the image that it made is sealed.
staged_paths() { # PACK-SHA256: sets pack, partial
    staged_folder=$STAGING/$SET
    pack=$staged_folder/$1.pack
    partial=$staged_folder/$1.partial
}

verb_stage() { # TOKEN PACK-SHA256 SIZE OFFSET: payload = the pack from OFFSET to SIZE
    need_lock "$1"
    open_staging "$2"
    [ ! -f "$pack" ] || return 0
    file_bytes "$partial"
    [ "$file_bytes" -ge "$4" ] || refuse "$file_bytes bytes of the pack are here, not $4"
    # What mirrors added since the probe is not believed: dd cuts a file where it begins.
    [ "$file_bytes" -eq "$4" ] || dd if=/dev/null of="$partial" bs=1 seek="$4" 2>/dev/null \
        || fail "cannot cut $partial to $4 bytes"
    need_room "$(($3 - $4))"
    take "$(($3 - $4))" >>"$partial" 2>"$scratch.stage" 4>&- || {
        rm -f -- "$partial"
        staging_hint
        fail "cannot keep the pack in $staged_folder: $(grep -v records "$scratch.stage" | head -n 1)"
    }
    file_bytes "$partial"
    [ "$file_bytes" -ge "$3" ] || fail "the pack was cut: $file_bytes bytes of $3 are here"
    keep_pack "$2" "$3"
}

open_staging() { # PACK-SHA256: the folder is there, and no other pack of this set in it
    staged_paths "$1"
    try mkdir -p -- "$staged_folder" || {
        staging_hint
        fail "cannot make the staging folder: $said"
    }
    for staged_path in "$staged_folder"/*; do
        case $staged_path in
            "$pack" | "$partial") ;;
            *) rm -f -- "$staged_path" ;;
        esac
    done
}

need_room() { # BYTES in the staging folder, for the rest of a pack
    free_kib "$staged_folder"
    [ -z "$free_kib" ] || [ "$free_kib" -ge "$(($1 / 1024))" ] || {
        say hint 'make room there, or name another folder (staging) in the inventory'
        fail "$free_kib KiB are free for the pack, which needs $1 bytes"
    }
}

staging_hint() {
    say hint "packs lie in $staged_folder: make that possible, or name another folder (staging) in the inventory"
}

keep_pack() { # PACK-SHA256 SIZE: the partial is whole, if its digest is right
    partial_is "$1" "$2" || {
        rm -f -- "$partial"
        mismatch "the pack that came is not the one that was meant: it was removed"
    }
    name_pack || fail "cannot keep the pack in $staged_folder"
    say staged "$2"
}

partial_is() { # PACK-SHA256 SIZE
    file_bytes "$partial"
    [ "$file_bytes" = "$2" ] && [ "$(sha256 <"$partial")" = "$1" ]
}

name_pack() { # what is whole gets its name
    durable "$partial" && mv -f -- "$partial" "$pack" && durable "$staged_folder"
}

drop_packs() { # of this set: the image that they made is sealed
    [ -d "$STAGING/$SET" ] || return 0
    rm -f -- "$STAGING/$SET"/*.pack "$STAGING/$SET"/*.partial || :
}
