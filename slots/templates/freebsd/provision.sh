# FreeBSD: rc.d starts things at boot; the loader loads what mounts an image.
hook_system() { hook_system=rc.d; }

hook_enabled() {
    [ "$(sysrc -n flipslot_enable 2>/dev/null)" = YES ] \
        && [ "$(sysrc -f /boot/loader.conf -n geom_uzip_load 2>/dev/null)" = YES ]
}

enable_hook() {
    try sysrc flipslot_enable=YES || fail "cannot enable flipslot in rc.conf: $said"
    try sysrc -f /boot/loader.conf geom_uzip_load=YES || fail "cannot write loader.conf: $said"
    durable /etc/rc.conf /boot/loader.conf /etc /boot
}

file_mode() { # PATH: $file_mode, octal
    file_mode=$(stat -L -f %Lp "$1")
}
