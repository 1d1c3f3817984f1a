"""A chroot tree in, a compressed read-only image out."""
