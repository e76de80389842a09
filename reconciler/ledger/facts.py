"""What finance reads: entries, control totals, payout members. Append-only, each with its recording time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger import carried
from reconciler.ledger.bulk import TRUTH, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.transaction import Transaction
from reconciler.model import ControlTotal, Entry, ResourceRef

# --- entries --------------------------------------------------------------------------------------

_INSERT_ENTRY = insert_into(
    "entry",
    {
        "resource_id": WHOLE,
        "version": WHOLE,
        "ordinal": WHOLE,
        "account": WORDS,
        "kind": WORDS,
        "remote_id": WORDS,
        "balance_type": WORDS,
        "category": WORDS,
        "currency": WORDS,
        "gross": WHOLE,
        "fee": WHOLE,
        "net": WHOLE,
        "effective_at": WHOLE,
        "available_on": WHOLE,
        "source_id": WORDS,
        "payout_id": WORDS,
        "fee_details": WORDS,
        "recorded_at": WHOLE,
        "superseded_at": WHOLE,
    },
)
_SUPERSEDE = Bulk(
    "UPDATE entry SET superseded_at = {recorded_at} {_rows}"
    " WHERE entry.resource_id = {resource_id} AND +entry.superseded_at IS NULL",
    {"resource_id": WHOLE, "recorded_at": WHOLE},
    at_once=True,
)
_DELETE_ENTRIES = text("DELETE FROM entry WHERE resource_id IN :ids").bindparams(bindparam("ids", expanding=True))


def replace_entries(tx: Transaction, versions: Sequence[tuple[int, int, Sequence[Entry]]], *, recorded_at: int) -> None:
    """The entries of new versions (resource id, version, entries), in place of those of the versions before."""
    _SUPERSEDE.run_rows_ahead(tx, [(resource_id, recorded_at) for resource_id, version, _ in versions if version > 1])
    _INSERT_ENTRY.run_ahead(
        tx,
        [
            entry_row(resource_id, version, ordinal, entry, recorded_at=recorded_at, superseded_at=None)
            for resource_id, version, entries in versions
            for ordinal, entry in enumerate(entries)
        ],
    )


def rebuild_entries(tx: Transaction, resource_id: int, versions: Sequence[tuple[int, int, Sequence[Entry]]]) -> None:
    """All entries of one resource anew from its versions (version, recorded at, entries), oldest first."""
    rebuild_all_entries(tx, {resource_id: versions})


def rebuild_all_entries(tx: Transaction, resources: Mapping[int, Sequence[tuple[int, int, Sequence[Entry]]]]) -> None:
    """As `rebuild_entries`, for up to some thousand resources by their ids at once; at least one."""
    carried.take_turn(tx)
    carried.forget_of_resources(tx, resources)
    tx.run(_DELETE_ENTRIES, {"ids": list(resources)})
    rows: list[dict[str, Any]] = []
    for resource_id, versions in resources.items():
        ends = [recorded_at for _, recorded_at, _ in versions[1:]] + [None]
        rows.extend(
            entry_row(resource_id, version, ordinal, entry, recorded_at=recorded_at, superseded_at=end)
            for (version, recorded_at, entries), end in zip(versions, ends, strict=True)
            for ordinal, entry in enumerate(entries)
        )
    _INSERT_ENTRY.run(tx, rows)
    carried.forget_of_resources(tx, resources)


def entry_row(
    resource_id: int, version: int, ordinal: int, entry: Entry, *, recorded_at: int, superseded_at: int | None
) -> dict[str, Any]:
    return {
        "resource_id": resource_id,
        "version": version,
        "ordinal": ordinal,
        "account": entry.ref.account,
        "kind": entry.ref.kind,
        "remote_id": entry.ref.id,
        "balance_type": entry.balance_type,
        "category": entry.category,
        "currency": entry.net.currency,
        "gross": entry.gross.minor,
        "fee": entry.fee.minor,
        "net": entry.net.minor,
        "effective_at": to_micros(entry.effective_at),
        "available_on": None if entry.available_on is None else to_micros(entry.available_on),
        "source_id": entry.source_id,
        "payout_id": entry.payout_id,
        "fee_details": orjson.dumps(list(entry.fee_details)).decode(),
        "recorded_at": recorded_at,
        "superseded_at": superseded_at,
    }


# --- control totals -------------------------------------------------------------------------------

_INSERT_CONTROL_TOTAL = insert_into(
    "control_total",
    {
        "id": WHOLE,
        "account": WORDS,
        "balance_type": WORDS,
        "currency": WORDS,
        "minor": WHOLE,
        "as_at": WHOLE,
        "recorded_at": WHOLE,
    },
    "ON CONFLICT (account, balance_type, currency, as_at, recorded_at) DO NOTHING",
)


def record_control_totals(tx: Transaction, totals: Iterable[ControlTotal], now: datetime) -> int:
    """Balances that the provider stated. The same fact recorded twice is one row."""
    kept = list(totals)
    if not kept:
        return 0
    recorded_at = to_micros(now)
    return _INSERT_CONTROL_TOTAL.run(
        tx,
        [
            {
                "id": row_id,
                "account": total.account,
                "balance_type": total.balance_type,
                "currency": total.amount.currency,
                "minor": total.amount.minor,
                "as_at": to_micros(total.as_at),
                "recorded_at": recorded_at,
            }
            for row_id, total in zip(tx.ticks(len(kept)), kept, strict=True)
        ],
    )


# --- payout members -------------------------------------------------------------------------------

_INSERT_PAYOUT_MEMBERS = insert_into(
    "payout_members",
    {
        "id": WHOLE,
        "provider": WORDS,
        "account": WORDS,
        "payout_id": WORDS,
        "members": WORDS,
        "complete": TRUTH,
        "recorded_at": WHOLE,
    },
    "ON CONFLICT (account, payout_id, recorded_at) DO NOTHING",
)


def record_payout_members(
    tx: Transaction, payout: ResourceRef, members: Sequence[ResourceRef], *, complete: bool, now: datetime
) -> int:
    """Which balance transactions a payout paid out. The latest recorded list is the one that counts."""
    written = _INSERT_PAYOUT_MEMBERS.run(
        tx,
        [
            {
                "id": tx.tick(),
                "provider": payout.provider,
                "account": payout.account,
                "payout_id": payout.id,
                "members": orjson.dumps(sorted(str(member) for member in members)).decode(),
                "complete": complete,
                "recorded_at": to_micros(now),
            }
        ],
    )
    if written:
        _spread_members(tx, payout)
    return written


_LISTS = text(
    "SELECT members, recorded_at FROM payout_members WHERE account = :account AND payout_id = :payout_id"
    " ORDER BY recorded_at"
)
_FORGET_MEMBERS = text("DELETE FROM payout_member WHERE account = :account AND payout_id = :payout_id")
_INSERT_MEMBER = insert_into(
    "payout_member",
    {"account": WORDS, "remote_id": WORDS, "payout_id": WORDS, "recorded_at": WHOLE, "superseded_at": WHOLE},
)


_LISTED = text("SELECT DISTINCT provider, account, payout_id FROM payout_members")


def spread_all_members(tx: Transaction) -> None:
    """The projection by member anew from every list: after lists came in by another way than one at a time."""
    for row in tx.run(_LISTED).all():
        _spread_members(tx, ResourceRef(row.provider, row.account, "payout", row.payout_id))


def _spread_members(tx: Transaction, payout: ResourceRef) -> None:
    """A payout's lists by member, each with the time during which it was the latest; lists may arrive in any order."""
    carried.take_turn(tx)
    of_payout = {"account": payout.account, "payout_id": payout.id}
    lists: list[tuple[str, int]] = []
    for row in tx.run(_LISTS, of_payout):
        if not lists or lists[-1][0] != row.members:
            lists.append((row.members, row.recorded_at))
    ends = [recorded_at for _, recorded_at in lists[1:]] + [None]
    named = {ResourceRef.parse(member) for members, _ in lists for member in orjson.loads(members)}
    carried.forget_of_members(tx, payout.account, {(ref.kind, ref.id) for ref in named})
    tx.run(_FORGET_MEMBERS, of_payout)
    _INSERT_MEMBER.run(
        tx,
        [
            {
                **of_payout,
                "remote_id": ResourceRef.parse(member).id,
                "recorded_at": recorded_at,
                "superseded_at": end,
            }
            for (members, recorded_at), end in zip(lists, ends, strict=True)
            for member in orjson.loads(members)
        ],
    )
