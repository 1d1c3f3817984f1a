# What a host pulls by itself, from mirrors that nobody has to trust: every object has its digest.
CONNECT_S=10
STALL_S=20

verb_fetch() { # TOKEN PACK-SHA256 SIZE SECONDS RATE URL...: the pack into the staging folder
    need_lock "$1"
    open_staging "$2"
    object_sha256=$2 object_bytes=$3 mirror_s=$4 mirror_rate=$5 pulled=0
    shift 5
    file_bytes "$partial"
    [ -f "$pack" ] || need_room "$((object_bytes - file_bytes))"
    find_downloader
    for mirror in "$@"; do
        [ ! -f "$pack" ] || break
        fetch_from "$mirror" || say failed_mirror "$mirror: $why_not"
    done
    say pulled "$pulled"
    [ -f "$pack" ] || {
        free_kib "$staged_folder"
        [ "${free_kib:-64}" -ge 64 ] || rm -f -- "$partial" # records may lie on that disk as well
        no_mirror "the pack"
    }
    say mirror "$mirror"
}

no_mirror() { # WHAT
    say hint 'look at the mirrors, or set fallback_to_ssh in [transfer] of the inventory'
    fail "no mirror gave $1"
}

fetch_from() { # URL: go on with what is there; if that was wrong, once more from the beginning
    file_bytes "$partial"
    fetch_had=$file_bytes
    fetch_once "$1" && return 0
    [ "$fetch_had" -gt 0 ] && [ ! -f "$partial" ] && fetch_once "$1"
}

fetch_once() { # URL; or why_not
    file_bytes "$partial"
    download_from=$file_bytes why_not=''
    [ "$download_from" -ge "$object_bytes" ] || fetch_told "$1"
    file_bytes "$partial"
    [ "$file_bytes" -le "$download_from" ] || pulled=$((pulled + file_bytes - download_from))
    if [ "$file_bytes" -lt "$object_bytes" ]; then
        why_not=${why_not:-"$file_bytes bytes came of $object_bytes"}
        return 1
    fi
    if partial_is "$object_sha256" "$object_bytes"; then
        why_not='cannot keep it'
        name_pack
        return
    fi
    why_not='wrong bytes: their digest is another'
    [ "$file_bytes" = "$object_bytes" ] || why_not="more than $object_bytes bytes came"
    rm -f -- "$partial"
    return 1
}

fetch_told() { # URL, and meanwhile how much is there
    tell_fetched >/dev/null 2>&1 3<&- &
    feeders=$!
    download "$1" "$partial" || :
    end_surely "$feeders"
    feeders=''
    file_bytes "$partial"
    say written "$file_bytes"
}

tell_fetched() { # in a child, as long as its script lives
    trap - EXIT HUP INT PIPE
    trap 'kill "${told_nap:-}" 2>/dev/null; exit 0' TERM
    while kill -0 "$$"; do
        sleep 1 4>&- &
        told_nap=$!
        wait "$told_nap"
        file_bytes "$partial"
        say written "$file_bytes"
    done
}

verb_pull() { # TOKEN A|B SIZE SHA256 OFFSET SECONDS RATE URL...: the whole image straight into the slot
    own_slot "$1" "$2" "$3"
    need_erased
    need_written "$4" "$5"
    object_bytes=$3 object_sha256=$4 pull_at=$5 mirror_s=$6 mirror_rate=$7 pulled=0 pull_done=''
    shift 7
    find_downloader
    for mirror in "$@"; do
        [ "$pull_at" -lt "$object_bytes" ] || break
        if pull_from "$mirror"; then pull_done=$mirror; else say failed_mirror "$mirror: $why_not"; fi
    done
    say pulled "$pulled"
    [ "$pull_at" -eq "$object_bytes" ] || no_mirror "the image"
    [ -z "$pull_done" ] || say mirror "$pull_done"
}

need_offer() { # HEAD-SHA256 SECONDS RATE URL...: one of them has an image that begins so
    object_sha256=$1 object_bytes=$HEAD_BYTES mirror_s=$2 mirror_rate=$3 pulled=0 offer=''
    shift 3
    find_downloader
    for mirror in "$@"; do
        [ -z "$offer" ] || break
        if offers "$mirror"; then offer=$mirror; else say failed_mirror "$mirror: $why_not"; fi
    done
    say pulled "$pulled"
    [ -n "$offer" ] || no_mirror "the image; slot $SLOT is as it was"
}

offers() { # URL; or why_not. What limits a file ends the download behind the head
    rm -f -- "$scratch.offer"
    download_from=0 why_not=''
    download "$1" "$scratch.offer" || :
    file_bytes "$scratch.offer"
    pulled=$((pulled + file_bytes))
    if [ "$file_bytes" -lt "$HEAD_BYTES" ]; then
        why_not=${why_not:-"$file_bytes bytes came"}
        return 1
    fi
    why_not='wrong bytes: it begins otherwise'
    [ "$(dd if="$scratch.offer" bs="$HEAD_BYTES" count=1 2>/dev/null | sha256)" = "$object_sha256" ]
}

pull_from() { # URL: go on behind what is there; if that cannot be or was wrong, once more from the beginning
    can_go_on "$1" || pull_at=$HEAD_BYTES
    pull_had=$pull_at
    pull_once "$1" && return 0
    [ "$pull_had" -gt "$HEAD_BYTES" ] && [ "$pull_at" -eq "$HEAD_BYTES" ] && pull_once "$1"
}

can_go_on() { # URL: into a pipe, from the middle of an object
    case $1:$downloader in
        file:* | *:curl | *:wget) ;;
        *) return 1 ;;
    esac
}

pull_once() { # URL, from $pull_at on; or why_not
    pull_start=$pull_at pull_whole='' download_from=$pull_at
    [ "$pull_at" -gt "$HEAD_BYTES" ] || pull_whole=yes download_from=0
    rm -f -- "$scratch.wire" "$scratch.sum" "$scratch.body" "$scratch.why" "$scratch.unranged"
    try mkfifo -- "$scratch.wire" "$scratch.sum" || fail "cannot make a pipe: $said"
    open_pipe body # before a child is born: one that ends breaks off an open in some shells
    (
        trap - EXIT HUP INT PIPE
        trap 'end_children; exit 143' TERM
        exec 6>"$scratch.wire"
        download "$1" "$scratch.wire" || echo "$why_not" >"$scratch.why"
    ) >/dev/null 2>&1 3<&- 4>&- 6<&- 7>&- &
    feeders=$!
    # Of what begins in the middle the stream has no digest: the slot is asked for it.
    pull_sum=/dev/null
    [ -z "$pull_whole" ] || {
        pull_sum=$scratch.sum
        ( # a shell keeps copies of what a function's own redirections close, for their end
            trap - EXIT HUP INT PIPE TERM
            exec 3<&- 4>&- 6<&- 7>&-
            sha256 <"$pull_sum"
        ) >"$scratch.digest" 2>/dev/null &
        pull_digest=$!
        feeders="$feeders $pull_digest"
    }
    tee -- "$pull_sum" <"$scratch.wire" >&7 2>/dev/null 3<&- 4>&- 6<&- 7>&- &
    feeders="$feeders $!"
    exec 9<&3 3<&6 6<&- 7>&-
    pull_status=0
    pull_body && pull_is_it || pull_status=1
    end_feeders
    [ "$pull_status" -ne 0 ] || [ -n "$pull_whole" ] || say went_on "$pull_start"
    return "$pull_status"
}

pull_body() { # or why_not. The head is not written: what seals a slot comes from the admin
    why_not='nothing came'
    if pull_head && pull_rest; then
        payload_ended && return 0
        begin_anew
        return 1
    fi
    [ ! -e "$scratch.unranged" ] || pull_at=$HEAD_BYTES
    [ ! -s "$scratch.why" ] || why_not=$(cat "$scratch.why")
    return 1
}

pull_head() { # kept: it belongs to the digest of what comes behind it, also from another mirror
    [ -n "$pull_whole" ] || return 0
    dd bs="$HEAD_BYTES" count=1 iflag=fullblock <&3 >"$scratch.first" 2>/dev/null || :
    file_bytes "$scratch.first"
    pulled=$((pulled + file_bytes))
    [ "$file_bytes" -eq "$HEAD_BYTES" ]
}

pull_rest() { # what was flushed stays, whoever goes on behind it
    pull_cut=0
    receive_body "$object_bytes" "$pull_start" "$object_sha256" || pull_cut=1
    pull_at=$body_at pulled=$((pulled + body_at - pull_start))
    return "$pull_cut"
}

pull_is_it() { # or why_not: then nothing of it is gone on from
    if [ -n "$pull_whole" ]; then
        wait "$pull_digest"
        pull_got=$(cat "$scratch.digest")
    elif [ -f "$scratch.first" ]; then
        bypass_caches
        pull_got=$({ cat -- "$scratch.first" && read_body "$object_bytes"; } | slot_sha256)
    else
        return 0 # begun by another call: the proof of the slot decides
    fi
    [ "$pull_got" != "$object_sha256" ] || return 0
    why_not='wrong bytes: their digest is another'
    begin_anew
    return 1
}

begin_anew() {
    note_written '' "$HEAD_BYTES"
    pull_at=$HEAD_BYTES
}

read_body() { # BYTES of an image: what the slot holds behind its head
    read_slot "$1" 2>/dev/null | {
        dd bs="$HEAD_BYTES" count=1 iflag=fullblock >/dev/null 2>&1
        cat
    }
}

end_feeders() {
    exec 3<&9 9<&-
    # shellcheck disable=SC2086 # a number a word
    kill -TERM $feeders 2>/dev/null || :
    # shellcheck disable=SC2086
    wait $feeders 2>/dev/null || :
    feeders=''
}

find_downloader() { # $downloader: what can hold itself to limits comes first
    for downloader in curl wget fetch none; do
        ! command -v "$downloader" >/dev/null 2>&1 || break
    done
    # Of the two wget keeps closer to a rate.
    [ "$mirror_rate" = 0 ] || ! is_gnu_wget || downloader=wget
    [ "$downloader" != wget ] || is_gnu_wget || downloader=busybox
}

is_gnu_wget() {
    case $(wget --version 2>&1) in
        *GNU*) ;;
        *) return 1 ;;
    esac
}

download() { # URL FILE-OR-PIPE; or why_not
    download_log=$scratch.download download_status=0 download_to=$2 download_into=''
    case $1 in
        file:*) download_file "${1#file:}" "$2" ;;
        *) "download_$downloader" "$1" "$2" ;;
    esac || download_status=$?
    [ "$download_status" -ne 0 ] || return 0
    why_not=$(tail -n 1 "$download_log" 2>/dev/null | cut -c1-200)
    [ "$download_status" -ne 124 ] || why_not="no end within $mirror_s s"
    why_not=${why_not:-"$downloader ended with status $download_status"}
    return 1
}

# Each ends by itself when nothing comes for STALL_S, follows no redirect where it can refuse one,
# and begins behind the first $download_from bytes: they are in the file already, or behind the pipe.
begin_download() { # in the child, before it becomes the command
    [ -z "$download_into" ] || exec >"$download_into"
    [ -p "$download_to" ] || {
        # The size of a file ends what never ends: nothing that a server says is believed.
        trap '' XFSZ
        ulimit -f "$(((object_bytes + 511) / 512))" || :
    }
}

run_download() { # COMMAND...
    limited_first=begin_download run_status=0
    limited "$mirror_s" "$download_log" "$@" || run_status=$?
    limited_first=:
    return "$run_status"
}

cannot_go_on() { # a mirror that begins with the first byte alone shall do so
    if [ -p "$download_to" ]; then : >"$scratch.unranged"; else rm -f -- "$partial"; fi
}

download_file() { # PATH FILE-OR-PIPE
    [ -f "$1" ] || {
        echo "there is no file $1" >"$download_log"
        return 1
    }
    [ -p "$2" ] || {
        rm -f -- "$2"
        download_from=0
    }
    download_into=$2
    run_download dd if="$1" bs="$HEAD_BYTES" skip="$((download_from / HEAD_BYTES))" || {
        file_status=$?
        sed -n 1p "$download_log" >"$download_log.said" && mv -f -- "$download_log.said" "$download_log"
        return "$file_status"
    }
}

download_curl() { # URL FILE-OR-PIPE
    download_url=$1
    set -- -o "$2"
    [ "$download_from" -eq 0 ] || set -- -C "$download_from" "$@"
    [ "$mirror_rate" = 0 ] || set -- --limit-rate "$mirror_rate" "$@"
    run_download curl -q -f -s -S --connect-timeout "$CONNECT_S" --speed-limit 1000 \
        --speed-time "$STALL_S" -w '%{http_code}' "$@" "$download_url" || {
        curl_status=$?
        [ "$curl_status" -ne 33 ] || cannot_go_on
        sed -n 's/^[0-9]*\(curl: \)/\1/p' "$download_log" >"$download_log.said" || :
        mv -f -- "$download_log.said" "$download_log"
        return "$curl_status"
    }
    case $(tail -n 1 "$download_log") in
        200 | 206) return 0 ;;
    esac
    echo "HTTP status $(tail -n 1 "$download_log")" >"$download_log"
    return 1
}

download_wget() { # URL FILE-OR-PIPE
    download_url=$1
    set -- -O "$2"
    # From a mirror that ignores it, it reads and drops what was not asked for.
    [ "$download_from" -eq 0 ] || if [ -p "$download_to" ]; then
        set -- "--start-pos=$download_from" "$@"
    else
        set -- -c "$@"
    fi
    [ "$mirror_rate" = 0 ] || set -- "--limit-rate=$mirror_rate" "$@"
    run_download wget -nv --tries=1 --timeout="$STALL_S" --connect-timeout="$CONNECT_S" \
        --max-redirect=0 "$@" "$download_url" && return 0
    wget_status=$?
    case $wget_status:$(cat "$download_log") in
        *'conflicts with'*) cannot_go_on ;;
        2:*) [ ! -p "$download_to" ] || cannot_go_on ;; # one before 1.16 does not know --start-pos
    esac
    sed -e '/^$/d' -e 's/^[0-9: -]*ERROR/ERROR/' "$download_log" >"$download_log.short" || :
    mv -f -- "$download_log.short" "$download_log"
    return "$wget_status"
}

download_busybox() { # URL FILE-OR-PIPE
    download_url=$1
    set -- -O "$2"
    [ "$download_from" -eq 0 ] || set -- -c "$@"
    busybox_status=0
    run_download wget -q -T "$STALL_S" "$@" "$download_url" || busybox_status=$?
    [ "$busybox_status" -eq 139 ] || return "$busybox_status"
    # Static builds fall over -T, before they ask for anything: mirror_s alone ends those.
    run_download wget -q "$@" "$download_url"
}

download_fetch() { # URL FILE-OR-PIPE; what goes to a pipe it begins with the first byte
    if [ -p "$2" ]; then
        download_into=$2
        run_download fetch -q -A -T "$STALL_S" -o - "$1"
    else # -F: a part goes on whatever its date, mirrors differ in theirs; the digest says if it fits
        run_download fetch -q -A -F -R -r -T "$STALL_S" -o "$2" "$1"
    fi
}

download_none() {
    echo 'the host has none of curl, wget, fetch' >"$download_log"
    return 1
}
