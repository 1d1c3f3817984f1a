"""What an admin reads in more than one place: sizes, counts, ages, and what a guard does. Pure."""

from slots.slot import Guard, GuardState


def megabytes(size_bytes: int) -> str:
    """Return a size as an admin reads it."""
    return f"{size_bytes / 1_000_000:.1f} MB"


def size(size_bytes: int) -> str:
    """Return a size that may be small."""
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 1_000_000 else megabytes(size_bytes)


def percent(part: int, whole: int) -> int:
    """Return how full something is, 100 only when it is really full."""
    return min(99, part * 100 // whole) if part < whole else 100


def counted(count: int, noun: str) -> str:
    """Return how many there are of something, with the plural that most words have."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit of which it has two or more."""
    for unit_s, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds // unit_s:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def told(guard: Guard) -> str:
    """Return in words what a guard does, or did."""
    way = f"slot {guard.back} in place of slot {guard.target} ({guard.release})"
    match guard.state:
        case GuardState.ARMED if guard.alive:
            left = "" if guard.left_s is None else f", {guard.left_s} s from now"
            return f"unless confirmed, a guard goes back to {way}{left} ({guard.seconds} s in all)"
        case GuardState.ARMED:
            return f"a guard was armed to go back to {way}, and its process is gone"
        case GuardState.FIRING if guard.alive:
            return f"the guard is going back to {way}: {guard.why}"
        case GuardState.FIRING:
            return f"the guard was cut while it went back to {way}"
        case GuardState.FIRED:
            failed = f"; {guard.error}" if guard.error else ""
            return f"the guard went back to {way}: {guard.why}{failed}"
