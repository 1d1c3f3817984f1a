# What a probe says. It changes nothing, and needs no lock.
verb_probe() {
    probe_lacks=''
    for probe_command in $NEEDED; do
        command -v "$probe_command" >/dev/null 2>&1 || {
            say missing "$probe_command"
            probe_lacks="$probe_lacks $probe_command"
        }
    done
    each_restart probe_restart
    boot_id
    say platform "$PLATFORM"
    say boot_id "$boot_id"
    probe_link
    say clock "$(date +%s)"
    formats
    probe_transfer
    probe_lock
    probe_guard
    probe_installed
    probe_slot A
    probe_slot B
}

probe_restart() { # SERVICE [COMMAND]: is there what restarts it?
    probe_command=${2:-$RESTARTS_BY}
    [ -n "$probe_command" ] && command -v "$probe_command" >/dev/null 2>&1 \
        || say missing_restart "$1: ${probe_command:-no command is named}"
}

probe_transfer() { # with what a pack may be brought here and replayed
    for probe_command in curl wget fetch; do
        ! command -v "$probe_command" >/dev/null 2>&1 || say downloader "$probe_command"
    done
    probe_got=$(echo abcdef | dd bs=4 skip=1 count=3 iflag=fullblock,skip_bytes,count_bytes 2>/dev/null) \
        || probe_got=
    if [ "$probe_got" = bcd ]; then say dd_bytes yes; else say dd_bytes no; fi
    free_kib "$STAGING"
    say staging_free_kib "$free_kib"
    for probe_path in "$STAGING/$SET"/*.pack "$STAGING/$SET"/*.partial; do
        file_bytes "$probe_path"
        probe_name=${probe_path##*/}
        [ "$file_bytes" -eq 0 ] || say staged "${probe_name%.*} $file_bytes"
    done
}

file_bytes() { # PATH: $file_bytes, 0 if there is no such file
    file_bytes=0
    [ ! -f "$1" ] || file_bytes=$(($(wc -c <"$1")))
}

free_kib() { # FOLDER, there or not: $free_kib where it is or will be; empty: unknown
    free_folder=$1
    until [ -d "$free_folder" ] || [ -z "$free_folder" ]; do
        free_folder=${free_folder%/*}
    done
    free_kib=$(df -P -k "${free_folder:-/}" 2>/dev/null | tail -n 1 | {
        read -r _ _ _ free_kib _ && echo "$free_kib"
    }) || free_kib=''
}

probe_link() {
    if [ -L "$LINK" ]; then
        say link_kind link
        say link_target "$(readlink -- "$LINK")"
    elif [ -e "$LINK" ]; then
        say link_kind other
    else
        say link_kind missing
    fi
}

probe_lock() {
    read_claim "$RECORDS/$SET.lock" || return 0
    say lock.holder "$claim_holder"
    say lock.pid "$claim_pid"
    say lock.boot_id "$claim_boot"
    say lock.since "$claim_since"
    if claim_lives; then say lock.alive yes; else say lock.alive no; fi
}

probe_guard() {
    see_guard || return 0
    say guard.state "$seen_state"
    say guard.back "$seen_back"
    say guard.target "$seen_target"
    say guard.release "$seen_release"
    say guard.seconds "$seen_seconds"
    say guard.at "$seen_at"
    say guard.why "$seen_why"
    say guard.error "$seen_error"
    say guard.alive "$seen_alive"
    say guard.left "$seen_left"
}

see_guard() { # seen_*, all of one record; status 1: there is none
    while guard_record; do
        seen_state=${guard_record%%.*} seen_alive=no
        see_field back && seen_back=$got
        see_field target && seen_target=$got
        see_field release && seen_release=$got
        see_field seconds && seen_seconds=$got
        see_field at && seen_at=$got
        see_field why && seen_why=$got
        see_field error && seen_error=$got
        ! guard_lives "$guard_record" || seen_alive=yes
        guard_left "$guard_record"
        seen_left=$guard_left
        # One that was renamed meanwhile was not read whole: look again.
        [ ! -f "$RECORDS/$SET.$guard_record" ] || return 0
    done
    return 1
}

see_field() { get "$guard_record" "$1" || :; } # KEY: $got, empty where it says nothing of that

# In the order in which a record goes: so none is missed that is renamed between two looks.
guard_record() { # $guard_record, the first of: armed, going back, gone back; status 1: there is none
    for guard_record in "$RECORDS/$SET".armed.* "$RECORDS/$SET.firing" "$RECORDS/$SET.fired"; do
        [ -f "$guard_record" ] || continue
        guard_record=${guard_record#"$RECORDS/$SET."}
        return 0
    done
    return 1
}

probe_installed() { # by `deploy provision`, and what it had to do at the last boot
    probe_path=${SLOTCTL:-$RECORDS/slotctl}
    if [ -f "$probe_path" ] && [ -r "$probe_path" ]; then
        say slotctl "$(sha256 <"$probe_path" | cut -c1-64)"
    fi
    get state state || return 0
    say boot.state "$got"
    get state text || :
    say boot.text "$got"
    get state at || :
    say boot.at "$got"
}

verdict_of() { # SHA256: $verdict on that image in the chosen slot; empty: there is none
    verdict=''
    get "$SLOT.verdict" sha256 && [ "$got" = "$1" ] && get "$SLOT.verdict" verdict || return 0
    verdict=$got
}

guard_lives() { # RECORD
    get "$1" token || :
    read_claim "$RECORDS/$SET.guardian" && [ "$claim_token" = "$got" ] && claim_lives
}

guard_left() { # RECORD: $guard_left, the seconds until a guard goes back; empty: it does not wait
    guard_left=''
    case $1 in armed.*) ;; *) return 0 ;; esac
    get "$1" boot_id || :
    guard_boot=$got
    boot_id
    [ "$guard_boot" = "$boot_id" ] && get "$1" up || return 0
    uptime_s
    guard_left=$((got - uptime_s))
    get "$1" seconds || :
    guard_left=$((got + guard_left))
    [ "$guard_left" -gt 0 ] || guard_left=0
}

probe_slot() { # A|B
    choose "$1"
    STATE=unknown head_sha256='' head_format='' HERE=no NOTE='' ELSEWHERE=''
    device_kind=unknown device_size=0 device_sector=512
    if [ -n "$probe_lacks" ]; then
        NOTE="not known: the host lacks$probe_lacks" # an answer without it would be a guess
    else
        device_kind
        STATE=empty
    fi
    if [ "$device_kind" = "$SLOT_KIND" ]; then
        device_size
        device_sector
        inspect
        look
    fi
    [ -z "$ELSEWHERE" ] || NOTE="${NOTE:+$NOTE; }also mounted at$ELSEWHERE"
    say "$1.device_kind" "$device_kind"
    say "$1.size" "$device_size"
    say "$1.sector" "$device_sector"
    say "$1.state" "$STATE"
    say "$1.head_sha256" "$head_sha256"
    say "$1.head_format" "$head_format"
    say "$1.mounted" "$HERE"
    say "$1.mount_note" "$NOTE"
    if [ "$STATE" = writing ] && get "$SLOT.writing" sha256 && [ -n "$got" ]; then
        say "$1.written.sha256" "$got"
        written "$got"
        say "$1.written.bytes" "$written"
    fi
    [ "$HERE" = no ] || each_inner probe_inner
    probe_image
}

probe_inner() { # KIND AT ...: what belongs inside the slot and is not there
    is_mounted "$MOUNT/$2" || say "$SLOT.missing_mount" "$2"
}

probe_image() { # of the chosen slot; a verdict only if it is of this image, a proof if it holds now
    get "$SLOT.image" sha256 || return 0
    probe_sha256=$got
    for probe_key in release format size sha256 head_sha256; do
        got=''
        get "$SLOT.image" "$probe_key" || :
        say "$SLOT.image.$probe_key" "$got"
    done
    get "$SLOT.image" head_sha256 || :
    [ -n "$head_sha256" ] && [ "$got" = "$head_sha256" ] || return 0
    verdict_of "$probe_sha256"
    [ -z "$verdict" ] || say "$SLOT.verdict" "$verdict"
    proof_holds || return 0
    got=''
    get "$SLOT.proof" sha256 || :
    say "$SLOT.proof.sha256" "$got"
    say "$SLOT.proof.boot_id" "$boot_id"
    say "$SLOT.proof.device" "$device_id"
    get "$SLOT.proof" at || :
    say "$SLOT.proof.at" "$got"
}
