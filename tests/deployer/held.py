"""Runs `deploy`, and stops it (SIGSTOP) as soon as a step begins: STEP ARGUMENTS…

Whoever ends it then ends it in that step, however fast or slow the machine is.
"""

import os
import signal
import sys
from io import TextIOWrapper

from deployer.cli import main


class HeldAt(TextIOWrapper):
    """A stderr that stops its process once it is told that a step began."""

    needle = ""

    def write(self, text: str) -> int:
        """Pass it on; then hold still if that was it."""
        written = super().write(text)
        self.flush()
        if self.needle in text:
            os.kill(os.getpid(), signal.SIGSTOP)
        return written


if __name__ == "__main__":
    held = HeldAt(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
    held.needle = f'"started","step":"{sys.argv[1]}"'
    sys.stderr = held
    sys.argv = ["deploy", *sys.argv[2:]]
    # Tests that run in the background of a script inherit that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
