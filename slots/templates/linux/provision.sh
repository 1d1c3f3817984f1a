# Linux: whichever starts things at boot here. A systemctl that lies about starts nothing.
hook_system() {
    hook_system=none
    if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
        hook_system=systemd
    elif read -r hook_first </proc/1/comm && [ "$hook_first" = init ] && [ -d /etc/init.d ] \
        && command -v update-rc.d >/dev/null 2>&1; then
        hook_system=init.d
    fi
}

hook_enabled() {
    case $hook_system in
        systemd) [ "$(systemctl is-enabled flipslot.service 2>/dev/null)" = enabled ] ;;
        init.d)
            for hook_start in /etc/rc2.d/S[0-9][0-9]flipslot; do
                [ -e "$hook_start" ] && return 0
            done
            return 1
            ;;
        *) return 1 ;;
    esac
}

enable_hook() {
    case $hook_system in
        systemd)
            try systemctl daemon-reload || fail "systemd does not read its units again: $said"
            try systemctl enable flipslot.service || fail "cannot enable flipslot.service: $said"
            ;;
        init.d) try update-rc.d flipslot defaults || fail "cannot enable /etc/init.d/flipslot: $said" ;;
        *) refuse "nothing here starts flipslot at boot" ;;
    esac
    durable /etc
}

file_mode() { # PATH: $file_mode, octal
    file_mode=$(stat -L -c %a -- "$1")
}
