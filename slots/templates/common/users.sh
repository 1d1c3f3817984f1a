# Who uses a slot, and what the rules do about it. A user is a line PID USER SINCE HOLDS COMMAND.
END_S=5 # from TERM to KILL, where no rule says it

verb_users() { # A|B
    choose "$1"
    look
    users
    say_users user
}

say_users() { # KEY: a line each
    [ -n "$users" ] || return 0
    while IFS= read -r say_line; do
        say "$1" "$say_line"
    done <<END
$users
END
}

shown_users() { # the first few of $users, on one line
    printf '%s\n' "$users" \
        | sed -n -E -e '1,5s/^([0-9]+) ([^ ]+) [^ ]+ [^ ]+ (.*)$/pid \1 \3 (\2)/p' -e '6s/.*/.../p' \
        | tr '\n' ',' | sed -e 's/,$//' -e 's/,/, /g'
}

# --- rules: the first that covers a process deals with it; each_service has them in order ------------
# NAME graceful|restart|command|wait|kill always|if-used SECONDS USER COUNT PROCESS... COMMAND...
rule_of() { # USER COMMAND: $rule, empty if none covers it; rule_does and rule_s
    rule='' rule_does='' rule_s='' rule_user=$1 rule_command=$2
    each_service rule_covers
}

rule_covers() {
    [ -z "$rule" ] || return 0
    [ -z "$5" ] || [ "$5" = "$rule_user" ] || return 0
    covers_name=$1 covers_does=$2 covers_s=$4 covers_count=$6
    shift 6
    while [ "$covers_count" -gt 0 ]; do
        if fits "$1"; then
            rule=$covers_name rule_does=$covers_does rule_s=$covers_s
            return 0
        fi
        covers_count=$((covers_count - 1))
        shift
    done
}

fits() { # NAME-OR-GLOB: does it name $rule_command?
    # shellcheck disable=SC2254 # a glob is one
    case $rule_command in $1) return 0 ;; esac
    # The kernel keeps the first 15 (Linux) or 19 (FreeBSD) bytes of a command's name.
    case ${#rule_command} in
        15 | 19) case $1 in "$rule_command"*) return 0 ;; esac ;;
    esac
    return 1
}

keep_users() { # RULE: in $users only those whom it covers (empty: whom none covers); $pids
    keep_all=$users users='' pids=''
    [ -n "$keep_all" ] || return 0
    while read -r keep_pid keep_user keep_since keep_holds keep_command; do
        rule_of "$keep_user" "$keep_command"
        [ "$rule" = "$1" ] || continue
        users=${users:+$users$NL}"$keep_pid $keep_user $keep_since $keep_holds $keep_command"
        pids="$pids $keep_pid"
    done <<END
$keep_all
END
}

verb_cover() { # TOKEN A|B: refuses while a user of this slot that no rule covers stays
    need_lock "$1"
    choose "$2"
    cover_tries=0 cover_seen=''
    while :; do
        look
        users
        keep_users ''
        [ "$cover_tries" -eq 0 ] || stayed "$cover_seen"
        [ -n "$users" ] || return 0
        [ "$cover_tries" -lt 8 ] || break
        cover_seen=$users
        cover_tries=$((cover_tries + 1))
        sleep 0.3 # a CGI comes and goes
    done
    say hint 'name it in a rule (services) of the inventory, or say there what becomes of such (uncovered)'
    refuse "slot $SLOT is used by $(shown_users), which no rule covers"
}

stayed() { # LINES: keeps in $users those that were among these
    stayed_now=$users users=''
    while read -r stayed_pid stayed_rest; do
        case "$NL$1" in
            *"$NL$stayed_pid "*) users=${users:+$users$NL}"$stayed_pid $stayed_rest" ;;
        esac
    done <<END
$stayed_now
END
}

verb_restart() { # TOKEN A|B SECONDS stop|wait|kill
    need_lock "$1"
    choose "$2"
    apply_rules "$3" "$4"
}

apply_rules() { # SECONDS stop|wait|kill
    apply_each "$@"
    [ -z "$apply_failed" ] || fail "not restarted: $apply_failed"
}

apply_each() { # SECONDS stop|wait|kill: every rule, in order, to the users of the chosen slot; $apply_failed
    apply_limit_s=$1
    apply_failed='' apply_stale=yes
    each_service apply_rule
    if [ "$2" = kill ]; then
        apply_look ''
        # shellcheck disable=SC2086 # one number a word
        [ -z "$pids" ] || {
            end_pids "$END_S" $pids
            say ended "what no rule covers:$pids"
        }
    fi
}

apply_look() { # RULE: looks again only if something was done since
    if [ "$apply_stale" = yes ]; then
        look
        users
        apply_users=$users
        apply_stale=no
    fi
    users=$apply_users
    keep_users "$1"
}

apply_rule() {
    apply_name=$1 apply_does=$2 apply_why=$3 apply_s=$4
    shift 5
    shift "$(($1 + 1))"
    apply_look "$apply_name"
    if [ "$apply_why" = if-used ] && [ -z "$pids" ]; then
        say kept "$apply_name"
        return 0
    fi
    case $apply_does in
        wait) [ -z "$pids" ] || say waiting "$apply_name:$pids" ;;
        kill)
            [ -n "$pids" ] || return 0
            apply_stale=yes
            # shellcheck disable=SC2086 # one number a word
            end_pids "$apply_s" $pids
            say ended "$apply_name:$pids"
            ;;
        *)
            apply_stale=yes
            apply_command "$@"
            ;;
    esac
}

apply_command() { # COMMAND...
    [ "$#" -gt 0 ] || refuse "service $apply_name has no $apply_does command on this platform"
    apply_words=$#
    while [ "$apply_words" -gt 0 ]; do
        # shellcheck disable=SC2086 # one number a word
        case $1 in
            '{pids}') set -- "$@" $pids ;;
            *) set -- "$@" "$1" ;;
        esac
        shift
        apply_words=$((apply_words - 1))
    done
    apply_status=0
    limited "$apply_limit_s" "$scratch.restart" "$@" || apply_status=$?
    if [ "$apply_status" -eq 0 ]; then
        case $apply_does in
            graceful) say reloaded "$apply_name" ;;
            *) say restarted "$apply_name" ;;
        esac
        return 0
    fi
    apply_said=$(tail -n 5 "$scratch.restart" || :)
    [ "$apply_status" -ne 124 ] || apply_said=${apply_said:+$apply_said$NL}"no end within $apply_limit_s s"
    say failed "$apply_name status $apply_status: $apply_said"
    apply_said=$(printf '%s\n' "${apply_said##*"$NL"}" | cut -c1-300)
    apply_failed="${apply_failed:+$apply_failed; }$apply_name: status $apply_status"
    apply_failed=$apply_failed${apply_said:+: $apply_said}
}

end_pids() { # SECONDS PID...: TERM, and KILL to those that are left after so long
    end_s=$1 end_list=''
    shift
    for end_pid in "$@"; do
        started "$end_pid"
        [ -z "$started" ] || end_list="$end_list $end_pid:$started"
    done
    boot_id
    end_by TERM "$end_s"
    end_by KILL 2
}

end_by() { # SIGNAL SECONDS: to the processes of $end_list, none that came after under their numbers
    end_tries=0 end_left=''
    while [ "$end_tries" -le "$(($2 * 10))" ]; do
        end_left=''
        for end_one in $end_list; do
            alive "${end_one%:*}" "${end_one#*:}" "$boot_id" || continue
            end_left="$end_left $end_one"
            [ "$end_tries" -ne 0 ] || kill "-$1" "${end_one%:*}" 2>/dev/null || :
        done
        [ -n "$end_left" ] || break
        sleep 0.1
        end_tries=$((end_tries + 1))
    done
    end_list=$end_left
}

# --- the end of a switch: nothing uses the old slot ----------------------------------------------------
verb_drain() { # TOKEN A|B SECONDS
    need_lock "$1"
    choose "$2"
    drain "$3"
    say_users straggler
    say drained "$drain_s"
}

drain() { # SECONDS for whom no rule covers: until each user is gone or had its time; $users: who is left
    uptime_s
    drain_began=$uptime_s
    while :; do
        look
        users
        uptime_s
        drain_s=$((uptime_s - drain_began))
        [ -n "$users" ] && drain_goes_on "$1" || return 0
        sleep 0.3
    done
}

drain_goes_on() { # SECONDS: has any of $users time left? What is to be killed and came meanwhile is
    drain_more=no
    while read -r drain_pid drain_user _ _ drain_command; do
        rule_of "$drain_user" "$drain_command"
        [ "$drain_s" -ge "${rule_s:-$1}" ] || drain_more=yes
        [ "$rule_does" != kill ] || end_pids "$rule_s" "$drain_pid"
    done <<END
$users
END
    [ "$drain_more" = yes ]
}
