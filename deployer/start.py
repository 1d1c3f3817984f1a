"""The start of `deploy`, which is to be quick, and which Ctrl-C ends without a traceback."""

import gc
import importlib
import signal
import sys
from types import ModuleType
from typing import Any

_before = signal.getsignal(signal.SIGINT)
if _before is signal.default_int_handler:  # not where a shell has it ignored
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Later(ModuleType):
    """Stands in for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def main() -> None:
    """Load the command and run it."""
    gc.disable()  # what is loaded stays: nothing is to be collected while it comes
    # paramiko runs commands by it for a `Match exec` of ssh_config, and for nothing else.
    sys.modules.setdefault("invoke", Later("invoke"))
    from deployer.cli import main as run  # noqa: PLC0415 - this is what takes the time

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, _before)
    run()
