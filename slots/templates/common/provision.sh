# What `deploy provision` asks and installs. It travels with these calls alone.
verb_hook_is() { # of this machine: what starts things at boot, and is ours among them?
    hook_system
    say hook "$hook_system"
    if hook_enabled; then say enabled yes; else say enabled no; fi
}

verb_folder_is() { # PATH
    if [ -d "$1" ]; then
        say folder folder
    elif [ -e "$1" ] || [ -L "$1" ]; then
        say folder other
    else
        say folder missing
    fi
}

verb_file_is() { # PATH: digest and mode
    if [ -f "$1" ]; then
        file_mode "$1"
        say file "$(sha256 <"$1" | cut -c1-64) $file_mode"
    elif [ -e "$1" ] || [ -L "$1" ]; then
        say file other
    else
        say file missing
    fi
}

verb_folder() { # TOKEN PATH
    need_lock "$1"
    make_folder "$2"
}

make_folder() { # PATH, after those above it: each is durable before the next
    [ ! -d "$1" ] || return 0
    [ -z "${1%/*}" ] || make_folder "${1%/*}"
    try mkdir -- "$1" || fail "cannot make $1: $said"
    durable "${1%/*}/"
}

verb_install() { # TOKEN PATH MODE SHA256: payload = the file
    need_lock "$1"
    [ ! -d "$2" ] || refuse "$2 is a folder"
    make_folder "${2%/*}"
    install_partial=${2%/*}/.${2##*/}.partial
    rm -f -- "$install_partial"
    umask 077 # it may be secret until it has its own mode
    { cat <&3 >"$install_partial"; } 2>"$scratch.install" 4>&- || {
        rm -f -- "$install_partial"
        fail "cannot write $2: $(cat "$scratch.install")"
    }
    umask 022
    install_reads "$install_partial" "$4" "$2 did not come whole: nothing was changed"
    try chmod "$3" "$install_partial" || fail "cannot make $2 $3: $said"
    durable "$install_partial"
    try mv -f -- "$install_partial" "$2" || fail "cannot make $2: $said"
    durable "${2%/*}/"
    install_reads "$2" "$4" "$2 reads back different from what was written"
}

install_reads() { # PATH SHA256 COMPLAINT
    [ "$(sha256 <"$1" | cut -c1-64)" != "$2" ] || return 0
    rm -f -- "$install_partial"
    mismatch "$3"
}

verb_enable() { # TOKEN: the hook that was installed
    need_lock "$1"
    hook_system
    enable_hook
    hook_enabled || fail "the boot hook is installed, but $hook_system does not say that it is enabled"
}
