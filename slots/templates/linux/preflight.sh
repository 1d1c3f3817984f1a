# Linux, and the sandbox on it: the way into a slot.
enter_as() { # USER: $chroot_words, or trial_why; neither: it cannot be tried here
    if [ "$(id -u)" -ne 0 ]; then # in a sandbox alone
        if try unshare -U -r true; then
            chroot_words="unshare -U -r chroot"
            say notice "sandbox: $trial_label runs as $(id -un): there is no root to leave it"
        else
            say notice "sandbox: $trial_label was not tried: there is no root to enter the slot by"
        fi
        return 0
    fi
    user_ids "$1"
    [ -z "$trial_why" ] || return 0
    for enter_by in /usr/sbin/chroot /usr/bin/chroot /sbin/chroot /bin/chroot; do
        [ ! -x "$enter_by" ] || break # by path: a shell's own chroot may know no users
    done
    if try "$enter_by" "--userspec=$uid:$gid" "--groups=$gid" / true; then
        chroot_words="$enter_by --userspec=$uid:$gid --groups=$gid"
    else
        trial_why="chroot of this host cannot change to the user $1" trial_said=$said
    fi
}

together() { # $together_words, $together_s: a session of its own, ended as one
    together_words='' together_s=$trial_s
    if command -v setsid >/dev/null 2>&1; then
        together_words=setsid limited_group=-
    fi
}

# As ldd does, which is a script of bash and takes several times as long. The loader itself is run, so
# that no program is; one of another architecture finds nothing missing.
list_libraries() {
    run_inside 0 /bin/sh -c 'set -- "$@"
loaders=
for loader in /lib/ld-*.so.[0-9]* /lib64/ld-*.so.[0-9]* /lib/ld64.so.[0-9]*; do
    [ ! -x "$loader" ] || loaders="$loaders $loader"
done
[ -n "$loaders" ] || echo "no loader"
for file in "$@"; do
    echo "$file:"
    for loader in $loaders; do
        case $loader in
            *musl*) "$loader" --list "$file" 2>&1 ;;
            *) LD_TRACE_LOADED_OBJECTS=1 LD_WARN=yes "$loader" "$file" 2>&1 ;;
        esac
    done
done
:' sh
}
