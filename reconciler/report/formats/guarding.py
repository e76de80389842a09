"""Text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP ASVS 1.2.10, CWE-1236).

Quoting does not help: a spreadsheet drops the quotes before it looks. Only text is guarded; our own numbers, with
their minus signs, are not text. The guard can be taken off again without loss.
"""

from __future__ import annotations

_STARTS = frozenset("=+-@\t\r\n\0＝＋－＠")
_SKIPPED = " \u00a0\u3000\ufeff"
"""What spreadsheets overlook before a formula."""
_GUARD = "'"
_SUSPECT = _STARTS | frozenset(_SKIPPED) | {_GUARD}


def guarded(text: str) -> str:
    if text[:1] not in _SUSPECT:
        return text
    return _GUARD + text if _dangerous(text) else text


def unguarded(text: str) -> str:
    """The text that was guarded."""
    return text[1:] if text.startswith(_GUARD) and _dangerous(text[1:]) else text


def _dangerous(text: str) -> bool:
    """A text that already looks guarded counts too, or taking the guard off would change it."""
    bare = text.lstrip(_GUARD).lstrip(_SKIPPED) if text.startswith(_GUARD) else text.lstrip(_SKIPPED)
    return bare[:1] in _STARTS and bare != ""
