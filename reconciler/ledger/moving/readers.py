"""What an import asks of an account: the pure parts of its provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reconciler.model import Entry, ResourceRef, Snapshot


class Reader(Protocol):
    @property
    def provider(self) -> str:
        """The provider's name, as references have it."""

    @property
    def kinds(self) -> frozenset[str]: ...

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
        """A stored body as the snapshot that it once was."""

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]: ...
