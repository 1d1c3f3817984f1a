# The sandbox: who uses a slot, by path, of the processes that this user may look at.
users() { # $users: lines PID USER SINCE HOLDS COMMAND
    users=''
    [ "$HERE" = yes ] || return 0
    real_path "$MOUNT"
    name_users "$({
        printf '%s\n' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/exe /proc/[0-9]*/fd/[0-9]* \
            | QUOTING_STYLE=literal xargs stat -c %N 2>/dev/null | sed "s,'*\$,/," \
            | grep -F -e "-> '$real_path/" -e "-> $real_path/" | cut -d' ' -f1 \
            | sed -e "s,^'*/proc/,," -e "s,'\$,," -e 's,/, ,' -e 's,/.*,,' \
                -e 's/exe$/text/' -e 's/fd$/file/' || :
        printf '%s\n' /proc/[0-9]*/maps | xargs grep -l -s -F " $real_path/" 2>/dev/null \
            | sed -e 's,^/proc/,,' -e 's,/maps$, map,' || :
    } | sort -u -k1,1n -k2,2)"
}

prove_free() { :; }
