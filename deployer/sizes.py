"""Sizes as an admin reads them."""


def megabytes(size_bytes: int) -> str:
    """Return a size as an admin reads it."""
    return f"{size_bytes / 1_000_000:.1f} MB"


def percent(part: int, whole: int) -> int:
    """Return how full something is, 100 only when it is really full."""
    return min(99, part * 100 // whole) if part < whole else 100
