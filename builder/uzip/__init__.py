"""The compressed container that FreeBSD's geom_uzip reads."""
