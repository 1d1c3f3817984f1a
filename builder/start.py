"""The start of `image`: Ctrl-C while its modules are being loaded ends it without a traceback."""

import gc
import signal

_before = signal.getsignal(signal.SIGINT)
if _before is signal.default_int_handler:  # not where a shell has it ignored
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Load the command and run it."""
    gc.disable()  # what is loaded stays: nothing is to be collected while it comes
    from builder.cli import main as run  # noqa: PLC0415 - this is what takes the time

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, _before)
    run()
