"""Moving a ledger from one database to another as JSON lines, without losing anything that it knows."""

from __future__ import annotations

from reconciler.ledger.moving.exporting import export_lines
from reconciler.ledger.moving.importing import Imported, import_lines
from reconciler.ledger.moving.readers import Reader

__all__ = ["Imported", "Reader", "export_lines", "import_lines"]
