"""The ISO 9660 + Rock Ridge file system that FreeBSD's cd9660 reads."""
