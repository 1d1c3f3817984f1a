"""A tree as a squashfs 4.0 image, laid out so that a small change of it changes few bytes."""
