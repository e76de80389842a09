"""The file that a backup is: a ZIP with a manifest, and what the database gave us under names that the manifest lists.

Everything can be checked without a database: each member's length and SHA-256 stand in the manifest, and so do the
rows of each table. Any unzip reads it; bodies, marks, deliveries and sealed tokens are in it, so it is as private as
the ledger.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from reconciler.errors import UsageError

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"
_PIECE_BYTES = 1 << 20


class BadBackup(UsageError):
    """The file is not a whole backup of ours."""


class Member(BaseModel):
    """One file of the archive, as it is when unpacked."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str
    rows: int | None = None
    """Lines of a table; None for a database file, whose tables are counted in the manifest."""


class Table(BaseModel):
    """One table, as it was in the view that was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rows: int
    columns: tuple[str, ...]


class Manifest(BaseModel):
    """What is in a backup, and what it takes to make a ledger of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = FORMAT
    database: Literal["sqlite", "postgresql"]
    revision: str
    """Of the schema."""
    taken_at: AwareDatetime
    """Everything that was committed before this instant is in it."""
    program: str
    ledger_clock: int
    tables: Mapping[str, Table]
    members: Mapping[str, Member]


class Writing:
    """An archive that is being written; `finish` gives it its manifest."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members: dict[str, Member] = {}

    @contextmanager
    def member(self, name: str, rows: int | None = None) -> Iterator[Counted]:
        with self._archive.open(name, "w", force_zip64=True) as file:
            counted = Counted(file)
            yield counted
        self.members[name] = Member(bytes=counted.bytes, sha256=counted.sha256.hexdigest(), rows=rows)

    def finish(self, manifest: Manifest) -> None:
        self._archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))


class Counted:
    """A file that is written to, its length and its hash."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        self._file.write(piece)
        self.bytes += len(piece)
        self.sha256.update(piece)

    def write_all(self, source: BinaryIO) -> None:
        while piece := source.read(_PIECE_BYTES):
            self.write(piece)


@contextmanager
def writing(path: Path) -> Iterator[Writing]:
    """Level 1: bodies are packed already, and a backup should be over before anybody waits for it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        yield Writing(archive)


@contextmanager
def reading(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    """Raises BadBackup for what is not one of our archives, or one that ends in the middle."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise BadBackup(f"{path} cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise BadBackup(f"{path} is no backup, or was cut off: {error}; take another one") from error
    with archive:
        try:
            manifest = Manifest.model_validate_json(archive.read(MANIFEST))
        except KeyError as error:
            raise BadBackup(f"{path} has no {MANIFEST}: it is no backup of a ledger") from error
        except (ValidationError, zipfile.BadZipFile, zlib.error) as error:
            raise BadBackup(f"{path}: its {MANIFEST} cannot be read; it is damaged, or a newer program's") from error
        yield archive, manifest


def read_manifest(path: Path) -> Manifest:
    """Raises BadBackup."""
    with reading(path) as (_, manifest):
        return manifest


def pieces(archive: zipfile.ZipFile, name: str, member: Member) -> Iterator[bytes]:
    """A member's bytes; raises BadBackup at its end when they are not the ones that were written."""
    sha256, length = hashlib.sha256(), 0
    try:
        with archive.open(name) as file:
            while piece := file.read(_PIECE_BYTES):
                sha256.update(piece)
                length += len(piece)
                yield piece
    except KeyError as error:
        raise BadBackup(f"{archive.filename}: {name} is missing") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise BadBackup(f"{archive.filename}: {name} is damaged ({error})") from error
    if (length, sha256.hexdigest()) != (member.bytes, member.sha256):
        raise BadBackup(f"{archive.filename}: {name} is not what was written; use another backup")


def verify(path: Path) -> Manifest:
    """Read the whole file again and compare it with its manifest. Raises BadBackup."""
    with reading(path) as (archive, manifest):
        for name, member in manifest.members.items():
            lines = sum(piece.count(b"\n") for piece in pieces(archive, name, member))
            if member.rows is not None and lines != member.rows:
                raise BadBackup(f"{path}: {name} has {lines:,} rows instead of {member.rows:,}")
        return manifest


def file_name(taken_at: datetime) -> str:
    """Sorts by time, and means the same everywhere."""
    return f"ledger-{taken_at:%Y%m%dT%H%M%SZ}.backup.zip"
