# What changes files or starts processes, for the platform Linux and for the sandbox.
detach() { # COMMAND...: on its own, with nothing of this session
    setsid "$@" </dev/null >/dev/null 2>&1 3<&- 4>&- 5>&- &
}

durable() { # PATH...: files and folders; an old sync knows no operands and flushes all
    for durable_path in "$@"; do
        sync -- "$durable_path" 2>/dev/null || sync "$durable_path" 2>/dev/null || sync
    done
}

rename_link() { # FROM TO: one rename, even where TO leads to a directory
    mv -f -T -- "$1" "$2"
}
