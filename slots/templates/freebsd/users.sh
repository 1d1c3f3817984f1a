# FreeBSD: who uses a slot.
# fuser compares device numbers: asked for a folder that is no mount point it names every process
# of the root filesystem, so only proven mounts are asked.
users() { # $users: lines PID COMMAND
    users=''
    [ "$HERE" = yes ] || return 0
    mounts_inside
    users_pids=''
    while IFS= read -r users_point; do
        [ -n "$users_point" ] || continue
        users_pids="$users_pids $(fuser -cm "$users_point" 2>/dev/null || :)"
    done <<END
$MOUNT
$mounts_inside
END
    # shellcheck disable=SC2086 # one number a word
    for users_pid in $(printf '%s\n' $users_pids | sort -n -u); do
        [ "$users_pid" != "$$" ] || continue
        users_comm=$(ps -o comm= -p "$users_pid" 2>/dev/null) || continue
        users=${users:+$users$NL}$users_pid\ $users_comm
    done
}
