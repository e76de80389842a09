"""Which resources a delivery named: kept by resource, within an era of the ledger clock.

By resource alone, as they lay before schema 0013, each link of a busy minute went to a page of its own of a growing
tree: of 139 pages that a commit of 64 deliveries wrote on SQLite, 82 were theirs. Within an era they share a few.
Who asks for one resource looks into each era, two steps of an index for some 2,000 deliveries; nothing that a webhook
waits for asks. The links of before stay where they are until their deliveries go; every question is put to both.
"""

from __future__ import annotations

from typing import Final

from reconciler.ledger.bulk import WHOLE, WORDS, insert_into

ERA: Final = 4096
"""Readings of the ledger clock. A delivery takes one, and one for each of its marks."""

_COLUMNS: Final = {"era": WHOLE, "account": WORDS, "kind": WORDS, "remote_id": WORDS, "delivery_id": WHOLE}
LINKS: Final = insert_into("delivery_link", _COLUMNS, "ON CONFLICT DO NOTHING")

ERAS: Final = """
  WITH RECURSIVE eras(era, so_far) AS (
    SELECT max(era), 1 FROM delivery_link
    UNION ALL
    SELECT (SELECT max(older.era) FROM delivery_link older WHERE older.era < eras.era), so_far + 1 FROM eras
    WHERE eras.era IS NOT NULL AND so_far < :eras)
"""
"""The newest `eras` that any delivery is of: stepped along, as no database does by itself."""

ALL_ERAS: Final = 2**31 - 1
"""A thousand of them, two million deliveries, take some ten milliseconds."""

LATELY: Final = 32
"""Eras, for who asks at every read: the last 60,000 deliveries."""

OF_RESOURCE: Final = """(
  SELECT delivery_id FROM delivery_mark WHERE account = :account AND kind = :kind AND remote_id = :remote_id
  UNION ALL
  SELECT l.delivery_id FROM eras, delivery_link l
  WHERE l.era = eras.era AND l.account = :account AND l.kind = :kind AND l.remote_id = :remote_id
)"""
"""The deliveries that named one resource, as a table of `delivery_id`; behind ERAS."""

EVERY: Final = """(
  SELECT account, kind, remote_id, delivery_id FROM delivery_mark
  UNION ALL
  SELECT account, kind, remote_id, delivery_id FROM delivery_link
)"""
"""All there are, for who reads through all of them."""


def era_of(delivery_id: int) -> int:
    return delivery_id // ERA
