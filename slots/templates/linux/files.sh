# What changes files, for the platform Linux and for the sandbox.
durable() { # PATH...: files and folders; an old sync knows no operands and flushes all
    for durable_path in "$@"; do
        sync -- "$durable_path" 2>/dev/null || sync "$durable_path" 2>/dev/null || sync
    done
}

rename_link() { # FROM TO: one rename, even where TO leads to a directory
    mv -f -T -- "$1" "$2"
}
