# FreeBSD: the way into a slot.
enter_as() { # USER: $chroot_words, or trial_why
    user_ids "$1"
    [ -n "$trial_why" ] || chroot_words="$(command -v chroot) -u $uid -g $gid -G $gid"
}

# timeout without --foreground is the reaper of all that a trial begins, and ends it.
together() { # $together_words, $together_s
    together_words="timeout -k 2 $trial_s"
    together_s=$((trial_s + 5))
}

list_libraries() { # ldd heads each of several files with its name: itself is the first of them
    run_inside 0 /usr/bin/ldd /usr/bin/ldd
    # chroot, and so xargs, says 1 where there is no ldd, as ldd does where a file is no program.
    [ "$trial_status" -eq 124 ] || grep -q '^/usr/bin/ldd:$' "$scratch.trial" || trial_status=127
}
