"""What a command answers as JSON that ended without a result: flipslot.error/1. Pure."""

from typing import Any

from slots.errors import ProductError
from slots.settings import SettingsError


def error(cause: ProductError) -> dict[str, Any]:
    """Return why a command failed; of a settings file each fault by itself."""
    kind, code = type(cause).__name__, int(cause.exit_code)
    document = _document(kind, cause.message, cause.hint, code)
    if isinstance(cause, SettingsError):
        document["faults"] = list(cause.faults)
    return document


def interruption(message: str, exit_code: int) -> dict[str, Any]:
    """Return that a command was interrupted, as an error."""
    return _document("Interrupted", message, "", exit_code)


def _document(kind: str, message: str, hint: str, exit_code: int) -> dict[str, Any]:
    return {
        "schema": "flipslot.error/1",
        "error": kind,
        "message": message,
        "hint": hint,
        "exit_code": exit_code,
    }
