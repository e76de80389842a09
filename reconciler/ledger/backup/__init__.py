"""Keeping a whole ledger in one file, and making a ledger of that file again."""

from __future__ import annotations

from reconciler.ledger.backup.archive import BadBackup, Manifest, read_manifest, verify
from reconciler.ledger.backup.restoring import Restored, restore
from reconciler.ledger.backup.taking import take

__all__ = ["BadBackup", "Manifest", "Restored", "read_manifest", "restore", "take", "verify"]
