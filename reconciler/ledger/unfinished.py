"""Room for files that are being written: a folder of its own beside what they become when they are whole.

Whoever is killed leaves it behind, with a copy of a whole ledger perhaps, and nobody would see it before the disk is
full. So it is locked for as long as its process lives, and whoever writes beside it next clears away what nobody holds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

PREFIX: Final = ".reconciler-unfinished-"

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
"""What file systems without links say: there, a file that comes at the very same moment is replaced."""

log = structlog.get_logger(__name__)


@contextmanager
def room_beside(out: Path) -> Iterator[Path]:
    """A folder on `out`'s own file system, gone at the end with all that is still in it. Raises OSError."""
    for left in out.parent.glob(f"{PREFIX}*"):
        _clear_away(left)
    room, held = _made(out.parent)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        if held is not None:
            os.close(held)


def give_name(unfinished: Path, out: Path) -> None:
    """What is whole gets its name, unless something has it already. Raises FileExistsError; OSError."""
    try:
        out.hardlink_to(unfinished)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if out.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out)) from None
        unfinished.rename(out)
    else:
        unfinished.unlink()


def _made(folder: Path) -> tuple[Path, int | None]:
    """With what holds it; None on a file system that has no locks, where it is never cleared away by others."""
    while True:
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        try:
            held = _hold(room)
        except OSError:
            return room, None
        if held is not None:
            return room, held


def _clear_away(left: Path) -> None:
    try:
        held = _hold(left)
    except OSError:
        return  # another user's, or on a file system where nobody can say whether it is held
    if held is not None:
        log.warning("cleared away what a process that died left unfinished", folder=str(left))
        shutil.rmtree(left, ignore_errors=True)
        os.close(held)


def _hold(room: Path) -> int | None:
    """None: somebody else holds it, or has just cleared it away. Raises OSError where it cannot be locked."""
    try:
        descriptor = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), room.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
