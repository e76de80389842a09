"""The room that is left on the disk that the ledger's file lies on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    folder: Path
    """In which the ledger's file lies."""
    free_bytes: int
    """That this process may use; what the system keeps for itself is not among them, a quota is not looked at."""
    total_bytes: int

    def __str__(self) -> str:
        share = self.free_bytes / self.total_bytes if self.total_bytes else 0
        return f"{share:.1%} ({self.free_bytes / 2**30:,.1f} GiB) of the disk under {self.folder} is free"


def room_in(folder: Path) -> Room | None:
    """None where the system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return Room(folder.absolute(), usage.free, usage.total)
