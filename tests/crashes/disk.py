"""A disk under SQLite that can lose its power: a VFS around the system's own that writes down what reached the disk.

SQLite calls `xWrite`, `xTruncate` and `xSync`; each is noted before it goes on to the real file. What a power cut
leaves at some instant can then be built: all that was synced before it, and of what was not, any part in any order,
torn at sectors. Calls can also be made to fail, as on a full disk.

It goes through ctypes, because Python's sqlite3 has no door to the VFS: the structures are those of sqlite3.h.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
OK, FULL, IOERR_FSYNC = 0, 13, 1034

_POINTER = ctypes.c_void_p
_XOPEN = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, _POINTER, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
_XWRITE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, ctypes.c_int64)
_XTRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int64)
_XSYNC = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", _POINTER),
        ("zName", ctypes.c_char_p),
        ("pAppData", _POINTER),
        ("xOpen", _POINTER),
        ("others", _POINTER * 15),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("xClose", _POINTER),
        ("xRead", _POINTER),
        ("xWrite", _POINTER),
        ("xTruncate", _POINTER),
        ("xSync", _POINTER),
        ("others", _POINTER * 13),
    ]


class _File(ctypes.Structure):
    _fields_ = [("pMethods", ctypes.POINTER(_Methods))]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that SQLite asked of a file. Without content and size: everything before it is safe now."""

    path: str
    offset: int = 0
    content: bytes = b""
    size: int | None = None
    """Of a truncation: what is left."""

    @property
    def is_sync(self) -> bool:
        return not self.content and self.size is None


@dataclass(slots=True)
class Disk:
    """What happened to the files of one folder, in order."""

    folder: Path
    acts: list[Act] = field(default_factory=list)
    fails: int = OK
    """What writes, or with IOERR_FSYNC syncs, answer from now on."""
    _paths: dict[int, str] = field(default_factory=dict)

    def opened(self, file: int, name: bytes | None) -> None:
        path = "" if name is None else name.decode()
        self._paths[file] = path if Path(path).parent == self.folder else ""

    def wrote(self, file: int, offset: int, content: bytes) -> int:
        if not self._paths.get(file):
            return OK
        if self.fails == FULL:
            return FULL
        self.acts.append(Act(self._paths[file], offset, content))
        return OK

    def cut(self, file: int, size: int) -> int:
        if self._paths.get(file):
            self.acts.append(Act(self._paths[file], size=size))
        return OK

    def synced(self, file: int) -> int:
        if not self._paths.get(file):
            return OK
        if self.fails == IOERR_FSYNC:
            return IOERR_FSYNC
        self.acts.append(Act(self._paths[file]))
        return OK

    def after_power_cut(self, before: dict[str, bytes], instant: int, dice: random.Random) -> dict[str, bytes]:
        """The files as a machine finds them that lost its power before act number `instant`. By name."""
        files = {name: bytearray(content) for name, content in before.items()}
        for path in sorted({act.path for act in self.acts[:instant]}):
            acts = [act for act in self.acts[:instant] if act.path == path]
            syncs = [number for number, act in enumerate(acts) if act.is_sync]
            safe = syncs[-1] if syncs else 0
            content = files.setdefault(Path(path).name, bytearray())
            for act in acts[:safe]:
                _do(content, act)
            unsafe = [act for act in acts[safe:] if not act.is_sync]
            share = dice.choice([0.0, 0.2, 0.8, 1.0])
            kept = [act for act in unsafe if dice.random() < share]
            dice.shuffle(kept)
            for act in kept:
                _do(content, act, None if dice.random() < 0.5 else dice)
        return {name: bytes(content) for name, content in files.items() if content}


def _do(content: bytearray, act: Act, tear: random.Random | None = None) -> None:
    """With `tear`, only some sectors of it."""
    if act.is_sync:
        return
    if act.size is not None:
        del content[act.size :]
        return
    for start in range(0, len(act.content), SECTOR):
        if tear is None or tear.random() < 0.5:
            piece = act.content[start : start + SECTOR]
            at = act.offset + start
            content.extend(bytes(max(0, at + len(piece) - len(content))))
            content[at : at + len(piece)] = piece


_KEPT: list[Any] = []
"""What SQLite may still point to: it is never told that a VFS or a file's methods are gone."""


@contextmanager
def disk_under(folder: Path) -> Iterator[Disk]:
    """Every SQLite file that this process opens in the folder from now on is written down."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    library.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Vfs), ctypes.c_int]
    library.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_Vfs)]
    disk = Disk(folder)
    usual = library.sqlite3_vfs_find(None)
    ours = _Vfs.from_buffer_copy(usual.contents)
    ours.zName = b"noting"
    opens = _XOPEN(usual.contents.xOpen)
    patched: dict[int, _Methods] = {}

    def x_open(vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # The name goes on as the pointer that it is: SQLite keeps it, and reads what stands behind it.
        code: int = opens(vfs, name, file, flags, out)
        there = _File.from_address(file)
        if code == OK and there.pMethods:
            address = ctypes.cast(there.pMethods, _POINTER).value or 0
            if address not in patched:
                patched[address] = _patch(there.pMethods.contents, disk)
            disk.opened(file, None if name is None else ctypes.string_at(name))
            there.pMethods = ctypes.pointer(patched[address])
        return code

    hook = _XOPEN(x_open)
    ours.xOpen = ctypes.cast(hook, _POINTER).value
    _KEPT.extend([ours, hook, opens, patched])
    library.sqlite3_vfs_register(ctypes.byref(ours), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(ours))


def _patch(real: _Methods, disk: Disk) -> _Methods:
    made = _Methods.from_buffer_copy(real)
    writes, truncates = _XWRITE(real.xWrite), _XTRUNCATE(real.xTruncate)

    def x_write(file: int, content: int, size: int, offset: int) -> int:
        return disk.wrote(file, offset, ctypes.string_at(content, size)) or writes(file, content, size, offset)

    def x_truncate(file: int, size: int) -> int:
        return disk.cut(file, size) or truncates(file, size)

    def x_sync(file: int, _flags: int) -> int:
        return disk.synced(file)  # noted, and not waited for: what the real disk does is not asked here

    hooks = _XWRITE(x_write), _XTRUNCATE(x_truncate), _XSYNC(x_sync)
    made.xWrite, made.xTruncate, made.xSync = (ctypes.cast(hook, _POINTER).value for hook in hooks)
    _KEPT.extend([made, hooks, writes, truncates])
    return made
