"""The sorts of line beside versions, resources and deliveries, in the order in which an export tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.ledger.bulk import TRUTH, WHOLE, WORDS
from reconciler.ledger.moving.facts import (
    CONTENT,
    COUNT,
    CURRENCY,
    INSTANT,
    MAYBE_INSTANT,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    NAME,
    NUMBER,
    TEXT,
    YES_OR_NO,
    Fact,
    Row,
    among,
    plain,
)
from reconciler.ledger.moving.fields import Given, WrongLine, iso
from reconciler.model import ResourceRef

VERDICTS = ("stored", "duplicate", "rejected", "ignored")

PAYOUT_KIND = "payout"
MEMBER_KIND = "balance_transaction"
"""What a bare id among a payout's members names: the ledger's payouts pay out balance transactions."""


# --- those that name resources ----------------------------------------------------------------------


def _payout_members(row: Any) -> dict[str, Any]:
    return {
        "ref": str(ResourceRef(row.provider, row.account, PAYOUT_KIND, row.payout_id)),
        "members": orjson.loads(row.members),
        "complete": bool(row.complete),
        "recorded_at": iso(row.recorded_at),
    }


def _read_payout_members(given: Given) -> Row:
    payout = given.ref("ref")
    return {
        "provider": payout.provider,
        "account": payout.account,
        "payout_id": payout.id,
        "members": orjson.dumps(sorted(_member(payout, each) for each in given.listed("members"))).decode(),
        "complete": given.truth("complete"),
        "recorded_at": given.instant("recorded_at"),
    }


def _member(payout: ResourceRef, member: Any) -> str:
    if not isinstance(member, str) or not member:
        raise WrongLine("members: expected a list of references")
    if "/" not in member:
        return str(ResourceRef(payout.provider, payout.account, MEMBER_KIND, member))
    try:
        return str(ResourceRef.parse(member))
    except ValueError as error:
        raise WrongLine(f"members: {error}") from None


def _expectation(row: Any) -> dict[str, Any]:
    return {
        "ref": str(ResourceRef(row.provider, row.account, row.kind, row.remote_id)),
        "registered_at": iso(row.registered_at),
        "due_at": iso(row.due_at),
        "note": row.note,
        "looked_at": iso(row.looked_at),
        "confirmed_at": iso(row.confirmed_at),
    }


def _read_expectation(given: Given) -> Row:
    ref = given.ref("ref")
    return {
        "provider": ref.provider,
        "account": ref.account,
        "kind": ref.kind,
        "remote_id": ref.id,
        "registered_at": given.instant("registered_at"),
        "due_at": given.instant("due_at"),
        "note": given.words("note", ""),
        "looked_at": given.instant("looked_at", None),
        "confirmed_at": given.instant("confirmed_at", None),
    }


# --- all of them ----------------------------------------------------------------------------------

_ALL = (
    plain(
        "control_total",
        {
            "account": NAME,
            "balance_type": NAME,
            "currency": CURRENCY,
            "minor": NUMBER,
            "as_at": INSTANT,
            "recorded_at": INSTANT,
        },
        ("account", "balance_type", "currency", "as_at", "recorded_at"),
        ticked=True,
    ),
    plain(
        "coverage",
        {
            "account": NAME,
            "kind": NAME,
            "since": INSTANT,
            "until": INSTANT,
            "complete": YES_OR_NO,
            "recorded_at": INSTANT,
            "reason": TEXT,
        },
        ("account", "kind", "since", "until", "complete", "recorded_at"),
        ticked=True,
    ),
    Fact(
        "payout_members",
        "payout_members",
        {
            "provider": WORDS,
            "account": WORDS,
            "payout_id": WORDS,
            "members": WORDS,
            "complete": TRUTH,
            "recorded_at": WHOLE,
        },
        ("account", "payout_id", "recorded_at"),
        _payout_members,
        _read_payout_members,
        ticked=True,
    ),
    Fact(
        "expectation",
        "expectation",
        {
            "provider": WORDS,
            "account": WORDS,
            "kind": WORDS,
            "remote_id": WORDS,
            "registered_at": WHOLE,
            "due_at": WHOLE,
            "note": WORDS,
            "looked_at": WHOLE,
            "confirmed_at": WHOLE,
        },
        ("account", "kind", "remote_id"),
        _expectation,
        _read_expectation,
        ticked=True,
    ),
    plain(
        "missed_event",
        {"account": NAME, "event_id": NAME, "type": TEXT, "occurred_at": MAYBE_INSTANT, "noticed_at": INSTANT},
        ("account", "event_id"),
    ),
    plain(
        "delivery_tally",
        {"account": TEXT, "day": INSTANT, "verdict": among(*VERDICTS), "reason": TEXT, "count": COUNT},
        ("account", "day", "verdict", "reason"),
        merge={"count": "{_greatest}(delivery_tally.count, excluded.count)"},
    ),
    plain(
        "read_tally",
        {"account": NAME, "day": INSTANT, "endpoint": TEXT, "priority": COUNT, "requests": COUNT},
        ("account", "day", "endpoint", "priority"),
        merge={"requests": "{_greatest}(read_tally.requests, excluded.requests)"},
    ),
    plain(
        "watermark",
        {"name": NAME, "watermark": INSTANT},
        ("name",),
        table="job",
        only="watermark IS NOT NULL",
        # The earlier one: what lies after it was not looked at by the one ledger or by the other.
        merge={"watermark": "{_least}(COALESCE(job.watermark, excluded.watermark), excluded.watermark)"},
    ),
    plain(
        "secret_seen",
        {"account": NAME, "fingerprint": NAME, "first_seen_at": INSTANT, "last_seen_at": INSTANT},
        ("account", "fingerprint"),
        merge={
            "first_seen_at": "{_least}(secret_seen.first_seen_at, excluded.first_seen_at)",
            "last_seen_at": "{_greatest}(secret_seen.last_seen_at, excluded.last_seen_at)",
        },
    ),
    # What people did: their own order is part of it, so these keep their places.
    plain(
        "break_event",
        {
            "id": COUNT,
            "break_id": NAME,
            "at": INSTANT,
            "actor": TEXT,
            "action": among("note", "assign", "resolve", "reopen", "attach"),
            "reason": MAYBE_TEXT,
            "text": TEXT,
            "difference": MAYBE_NUMBER,
            "evidence_sha256": MAYBE_TEXT,
        },
        ("id",),
        clocked=True,
    ),
    plain(
        "period_lock",
        {
            "id": COUNT,
            "account": NAME,
            "from_day": NAME,
            "to_day": NAME,
            "starts_at": INSTANT,
            "ends_at": INSTANT,
            "timezone": NAME,
            "as_of": INSTANT,
            "report_id": NAME,
            "digest": NAME,
            "state": among("prepared", "locked", "reopened"),
            "actor": TEXT,
            "policy": among("roll_forward", "restate"),
            "at": INSTANT,
            "override_reason": TEXT,
        },
        ("id",),
        clocked=True,
    ),
    plain(
        "report_snapshot",
        {
            "report_id": NAME,
            "digest": NAME,
            "as_of": INSTANT,
            "params": TEXT,
            "config_hash": TEXT,
            "code_version": TEXT,
            "body": CONTENT,
            "stored_at": INSTANT,
        },
        ("report_id",),
    ),
    plain(
        "audit_log",
        {
            "seq": COUNT,
            "prev_hash": TEXT,
            "hash": NAME,
            "actor": TEXT,
            "action": TEXT,
            "subject": TEXT,
            "detail": TEXT,
            "at": INSTANT,
        },
        ("seq",),
    ),
    plain(
        "bank_line",
        {
            "bank_account": NAME,
            "statement_id": NAME,
            "ordinal": COUNT,
            "currency": CURRENCY,
            "minor": NUMBER,
            "exponent": COUNT,
            "booked_on": NAME,
            "value_on": MAYBE_TEXT,
            "reference": TEXT,
            "recorded_at": INSTANT,
        },
        ("bank_account", "statement_id", "ordinal"),
        ticked=True,
    ),
    # Sealed: without the key of the environment it opens nowhere, and without it a rotating account is locked out.
    plain(
        "token",
        {"account": NAME, "sealed": CONTENT, "version": COUNT, "kept_at": INSTANT},
        ("account",),
        only="sealed IS NOT NULL",
    ),
    plain(
        "redaction",
        {
            "account": NAME,
            "kind": TEXT,
            "remote_id": TEXT,
            "event_id": NAME,
            "asked_at": INSTANT,
            "done_at": MAYBE_INSTANT,
        },
        ("account", "kind", "remote_id", "event_id"),
    ),
    # Who may look. Sessions and the key that signs them stay where they are: everybody logs in again.
    plain(
        "console_user",
        {
            "name": NAME,
            "role": among("viewer", "finance", "operator"),
            "password_hash": TEXT,
            "created_at": INSTANT,
            "changed_at": INSTANT,
        },
        ("name",),
        merge={
            name: "CASE WHEN excluded.changed_at > console_user.changed_at"
            f" THEN excluded.{name} ELSE console_user.{name} END"
            for name in ("role", "password_hash", "changed_at")
        },
    ),
    plain(
        "machine_token",
        {
            "id": NAME,
            "name": TEXT,
            "secret_hash": NAME,
            "scopes": TEXT,
            "created_by": TEXT,
            "created_at": INSTANT,
            "expires_at": MAYBE_INSTANT,
            "revoked_at": MAYBE_INSTANT,
            "used_at": MAYBE_INSTANT,
        },
        ("id",),
        merge={
            "revoked_at": "COALESCE(machine_token.revoked_at, excluded.revoked_at)",
            "used_at": "COALESCE(machine_token.used_at, excluded.used_at)",
        },
    ),
    # One that is there already stands as it stands there.
    plain(
        "subscription",
        {
            "name": NAME,
            "origin": among("configuration", "api"),
            "url": NAME,
            "wanted": TEXT,
            "form": among("thin", "full"),
            "ordering": among("every", "newest"),
            "concurrency": COUNT,
            "spacing": COUNT,
            "state": among("active", "paused", "disabled", "removed"),
            "note": TEXT,
            "created_at": INSTANT,
            "changed_at": INSTANT,
        },
        ("name",),
        merge={"changed_at": "{_greatest}(subscription.changed_at, excluded.changed_at)"},
    ),
    plain(
        "subscription_secret",
        {"id": COUNT, "subscription": NAME, "sealed": CONTENT, "created_at": INSTANT, "retires_at": MAYBE_INSTANT},
        ("id",),
        clocked=True,
    ),
)

FACTS: Mapping[str, Fact] = {fact.name: fact for fact in _ALL}
