# The sandbox: no boot of its own.
hook_system() { hook_system=none; }

hook_enabled() { return 1; }

enable_hook() { refuse "a sandbox has no boot to hook into"; }

file_mode() { # PATH: $file_mode, octal
    file_mode=$(stat -L -c %a -- "$1")
}
