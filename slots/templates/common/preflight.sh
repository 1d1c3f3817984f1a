# Before the flip: what the slot holds is tried inside it, by a user without rights. Nothing is changed.
TRIAL_BLOCKS=20480 # of 512 bytes: no file of a trial, its output neither, grows beyond that
CR=$(printf '\r')

verb_preflight() { # TOKEN A|B
    need_lock "$1"
    choose "$2"
    ! is_active || refuse "slot $SLOT is active: $LINK names it"
    look
    [ "$HERE" = yes ] || refuse "slot $SLOT is not mounted from $DEVICE at $MOUNT${NOTE:+: $NOTE}"
    real_path "$MOUNT"
    trial_root=$real_path trial_failed=''
    each_trial try_out
    [ -z "$trial_failed" ] || fail "slot $SLOT fails its preflight: $trial_failed"
}

# KIND LABEL USER SECONDS EXIT STATUS CONTAINS STDIN COUNT WORD... COMMAND-OR-FOLDER...
try_out() {
    trial_kind=$1 trial_label=$2 trial_s=$4 trial_exit=$5 trial_header=$6 trial_contains=$7
    trial_why='' trial_said='' trial_by='' chroot_words=''
    printf '%s' "$8" 2>/dev/null >"$scratch.stdin" || unwritten "$scratch.stdin"
    enter_as "$3"
    shift 8
    [ -n "$trial_why" ] || [ -z "$chroot_words" ] || "try_$trial_kind" "$@"
    if [ -n "$trial_why" ]; then
        say failed "$trial_label: $trial_why"
        trial_failed="${trial_failed:+$trial_failed; }$trial_label: $trial_why${trial_said:+: $trial_said}"
    elif [ -n "$chroot_words" ]; then
        say passed "$trial_label"
    fi
}

user_ids() { # USER: $uid, $gid; or trial_why
    uid=$(id -u "$1" 2>/dev/null) && gid=$(id -g "$1" 2>/dev/null) \
        || trial_why="this host has no user $1"
}

run_inside() { # COUNT NAME=VALUE... COMMAND...: $trial_status
    inside_count=$1
    shift
    inside_words=$(($# - inside_count))
    # Rotated into place: variables, the way into the slot, the command.
    while [ "$inside_count" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        inside_count=$((inside_count - 1))
    done
    # shellcheck disable=SC2086 # words
    set -- "$@" $chroot_words "$trial_root"
    while [ "$inside_words" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        inside_words=$((inside_words - 1))
    done
    rm -f -- "$scratch.stderr"
    together # one group: nothing that a trial began outlives it
    trial_status=0 limited_first=begin_trial
    # shellcheck disable=SC2086 # words
    limited "$together_s" "$scratch.trial" $together_words $trial_by env -i "$@" || trial_status=$?
    limited_first=: limited_group=''
}

begin_trial() {
    ulimit -f "$TRIAL_BLOCKS" 2>/dev/null || :
    exec <"$scratch.stdin"
    [ "$trial_kind" != cgi ] || exec 2>"$scratch.stderr"
}

judge_trial() { # $trial_why and $trial_said
    case $trial_status in
        "$trial_exit") ;;
        124) trial_why="no end within $trial_s s" ;;
        *) trial_why="exit status $trial_status, not $trial_exit" ;;
    esac
    [ -n "$trial_why" ] || [ "$trial_kind" != cgi ] || judge_header
    [ -n "$trial_why" ] || [ -z "$trial_contains" ] \
        || grep -q -F -e "$trial_contains" "$scratch.trial" \
        || trial_why="its output does not contain '$trial_contains'"
    [ -z "$trial_why" ] || last_line "$scratch.stderr" || last_line "$scratch.trial" || :
}

last_line() { # FILE: $trial_said; status 1 if there is none
    trial_said=$(tail -n 20 "$1" 2>/dev/null | tr -d '\000\r' \
        | sed -n -e '/[^[:space:]]/h' -e '${' -e 'g' -e 'p' -e '}' | cut -c1-300)
    [ -n "$trial_said" ]
}

judge_header() { # RFC 3875, 6: fields up to an empty line
    header_status=200 header_any=no header_ended=no
    while IFS= read -r header_line; do
        header_line=${header_line%"$CR"}
        case $header_line in
            '')
                header_ended=yes
                break
                ;;
            HTTP/*' '*)
                header_any=yes
                header_status=${header_line#* }
                ;;
            [Ss]tatus:* | STATUS:*)
                header_any=yes
                header_status=${header_line#*:}
                header_status=${header_status# }
                ;;
            [Ll]ocation:*)
                [ "$header_any $header_status" = 'yes 200' ] || [ "$header_status" != 200 ] || header_status=302
                header_any=yes
                ;;
            [A-Za-z]*:*) header_any=yes ;;
            *) break ;;
        esac
    done <"$scratch.trial"
    header_status=${header_status%% *}
    if [ "$header_any$header_ended" != yesyes ]; then
        trial_why='its output begins with no CGI header'
    elif [ "$header_status" != "$trial_header" ]; then
        trial_why="it answers with status $header_status, not $trial_header"
    fi
}

try_cgi() { # COUNT NAME=VALUE... COMMAND...
    run_inside "$@"
    judge_trial
}

try_command() { # COUNT NAME=VALUE... COMMAND...
    run_inside "$@"
    judge_trial
}

# --- libraries: the slot's own loader says which it does not find ------------------------------------
ELF=$(printf '\177ELF')

try_ldd() { # COUNT IGNORED... FOLDER...
    ldd_count=$1 ldd_ignored=''
    shift
    while [ "$ldd_count" -gt 0 ]; do
        ldd_ignored=$ldd_ignored$1$NL
        shift
        ldd_count=$((ldd_count - 1))
    done
    : >"$scratch.found"
    for ldd_folder in "$@"; do
        find_programs "$ldd_folder"
    done
    [ -n "$trial_why" ] || [ -s "$scratch.found" ] || trial_why='no program lies there'
    [ -z "$trial_why" ] || return 0
    sort -u "$scratch.found" | cut -c"$((${#trial_root} + 1))-" \
        | sed -e 's,[^A-Za-z0-9_/.+-],\\&,g' >"$scratch.stdin"
    trial_by='xargs'
    list_libraries
    case $trial_status in
        124) trial_why="no end within $trial_s s" ;;
        126 | 127) trial_why="cannot ask the slot's loader" ;;
        *) missing_libraries ;;
    esac
    [ -n "$trial_why" ] || ! grep -q '^no loader' "$scratch.trial" || trial_why='the slot has no dynamic loader'
    case $trial_why in cannot*) last_line "$scratch.trial" || : ;; esac
}

find_programs() { # FOLDER of the slot: no symlink of the image may lead out of it
    real_path "$trial_root$1"
    case $real_path/ in
        "$trial_root"/*)
            find "$real_path" -xdev -type f \( -perm -100 -o -name '*.so' -o -name '*.so.*' \) \
                -exec grep -l -s -e "^$ELF" {} + >>"$scratch.found" || :
            ;;
        *) trial_why="the slot has no folder $1" ;;
    esac
}

missing_libraries() { # of the loader's words under a heading for each file
    sed -n -e '/^\/.*:$/h' -e '/ not found/b told' -e '/^Error loading shared library/b told' -e d \
        -e ': told' -e G -e 's/^[[:space:]]*//' -e 's/:$//' \
        -e 's/^\([^ ]*\) => not found.*\n\(.*\)$/\2 lacks \1/' \
        -e 's/^Error loading shared library \([^:]*\):.*\n\(.*\)$/\2 lacks \1/' \
        -e 's/^\(.*\)\n\(.*\)$/\2: \1/' -e p "$scratch.trial" | sort -u >"$scratch.missing"
    missing_count=0 missing_shown=''
    while IFS= read -r missing_line; do
        ! ignored "${missing_line%% lacks *}" "${missing_line##* lacks }" || continue
        missing_count=$((missing_count + 1))
        say missing "$missing_line"
        [ "$missing_count" -gt 5 ] || missing_shown="${missing_shown:+$missing_shown, }$missing_line"
    done <"$scratch.missing"
    [ "$missing_count" -eq 0 ] || trial_why=$missing_shown
    [ "$missing_count" -le 5 ] || trial_why="$trial_why and $((missing_count - 5)) more"
}

ignored() { # FILE LIBRARY
    while IFS= read -r ignored_glob; do
        [ -n "$ignored_glob" ] || continue
        # shellcheck disable=SC2254 # a glob is one
        case $1 in $ignored_glob) return 0 ;; esac
        # shellcheck disable=SC2254
        case $2 in $ignored_glob) return 0 ;; esac
    done <<END
$ldd_ignored
END
    return 1
}
