"""Files that are whole or not there: written beside their place and moved into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reconciler.errors import UsageError
from reconciler.ledger.unfinished import room_beside


def folder(path: Path) -> Path:
    """The folder, made where it is missing. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be used as a folder: {error.strerror or error}") from error
    return path


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A reader sees the old file or the new one, never a part. Raises UsageError where it cannot be written."""
    with replacing(path) as beside, beside.open("wb") as out:
        yield out


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write it first, in a folder of its own; the same promise."""
    try:
        with room_beside(path) as room:
            beside = room / path.name
            yield beside
            beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
