"""A machine whose power is cut: QEMU, a disk with a volatile cache, and the verbs at work on it."""
