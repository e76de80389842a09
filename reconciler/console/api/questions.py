"""The questions of the API: what programs may read. Masked like the pages, unless the token may see personal fields."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any, Final

import orjson

from reconciler.console.access.personal import MASK, masked, masked_text
from reconciler.console.api.operations import (
    ACCOUNT,
    AS_OF,
    DAY,
    FROM,
    INSTANT,
    OBJECT,
    PAGED,
    SHORT,
    TEXT,
    TO,
    TRUTH,
    WHOLE,
    Operation,
    Parameter,
    maybe,
    page_of,
    shaped,
)
from reconciler.console.asked import Asked
from reconciler.console.pages import deliveries
from reconciler.console.pages.resources import after_of, wanted_of
from reconciler.console.refusals import BeingMade, NotThere
from reconciler.console.worklist import STATUSES, Listed, Wanted
from reconciler.errors import UsageError
from reconciler.intake.intake import UNKNOWN
from reconciler.ledger import listing
from reconciler.ledger.listing import CONDITIONS, ListedDelivery
from reconciler.model import ResourceRef
from reconciler.refs import require_held
from reconciler.report import canonical
from reconciler.report.model import BreakType
from reconciler.status import instant, status_document

_MOST_BYTES: Final = 8 * 2**20
"""Of bodies in one answer; a page may have fewer rows than were asked for."""

_REF: Final = {"type": "string", "minLength": 7, "maxLength": 600, "pattern": "^[^/\\s]+/[^/]+/[^/]+/.+$"}

_RESOURCE: Final = shaped(
    ref=TEXT,
    state={"type": "string", "enum": ["unknown", "present", "deleted"]},
    status=maybe(TEXT),
    version=WHOLE,
    changed_at=maybe(INSTANT),
    created_at=maybe(INSTANT),
    dirty=TRUTH,
    dead=TRUTH,
)
_VERSION: Final = shaped(
    version=WHOLE,
    state=TEXT,
    status=maybe(TEXT),
    cause=TEXT,
    recorded_at=INSTANT,
    fetched_at=INSTANT,
    api_version=TEXT,
    content_hash=TEXT,
    body=maybe(OBJECT),
)
_DELIVERY: Final = shaped(
    id=WHOLE,
    account=TEXT,
    event_id=maybe(TEXT),
    type=maybe(TEXT),
    received_at=INSTANT,
    occurred_at=maybe(INSTANT),
    verdict={"type": "string", "enum": list(deliveries.VERDICTS)},
    reason=maybe(TEXT),
    size=WHOLE,
    source=TEXT,
)
_AMOUNT: Final = shaped(amount=TEXT, minor=WHOLE, currency=TEXT, exponent=WHOLE)
_BREAK: Final = shaped(
    id=TEXT,
    status={"type": "string", "enum": ["break", "timing", "resolved"]},
    type=TEXT,
    account=TEXT,
    left=TEXT,
    right=TEXT,
    difference=_AMOUNT,
    age_days=WHOLE,
    opened_at=INSTANT,
    owner=maybe(TEXT),
    note=maybe(TEXT),
)


def status(asked: Asked, _open: bool) -> Any:
    found = asked.room.statuses.get(patience_seconds=10)
    if found is None:
        raise BeingMade("the status is being made")
    document = status_document(found)
    for each in document["findings"]:
        each["text"] = masked_text(each["text"])
    return document


def resources(asked: Asked, _open: bool) -> Any:
    _require_known(asked)
    found = listing.resources(asked.tx, wanted_of(asked), pairs=asked.pairs, after=after_of(asked), limit=_limit(asked))
    return {
        "resources": [
            {
                "ref": str(each.ref),
                "state": each.state.value,
                "status": each.status,
                "version": each.version,
                "changed_at": instant(each.changed_at),
                "created_at": instant(each.created_at),
                "dirty": each.dirty,
                "dead": each.dead,
            }
            for each in found.rows
        ],
        "after": None if found.after is None else "/".join(found.after),
    }


def versions(asked: Asked, open_: bool) -> Any:
    ref = ref_of(asked.query.text("ref"))
    found = asked.view.resource(ref)
    if found is None:
        raise NotThere(f"the ledger has never heard of {ref}")
    before = asked.query.whole("after", least=1, most=2**62)
    limit = _limit(asked)
    rows = listing.versions(asked.tx, found.id, as_of=asked.as_of, before=before, limit=limit, most_bytes=_MOST_BYTES)
    return {
        "versions": [
            {
                "version": each.version,
                "state": each.state.value,
                "status": each.status,
                "cause": each.cause.value,
                "recorded_at": instant(each.recorded_at),
                "fetched_at": instant(each.fetched_at),
                "api_version": each.api_version,
                "content_hash": each.content_hash,
                "body": _body(each.body, open_=open_),
            }
            for each in rows
        ],
        "after": str(rows[-1].version) if rows and rows[-1].version > 1 else None,
    }


def list_deliveries(asked: Asked, open_: bool) -> Any:
    _require_told_of(asked)
    wanted, after = deliveries.wanted_of(asked), deliveries.after_of(asked)
    found = listing.deliveries(asked.tx, wanted, after=after, limit=_limit(asked))
    return {
        "deliveries": [_delivery(each, open_=open_) for each in found.rows],
        "after": None if found.after is None else f"{found.after[0]}.{found.after[1]}",
    }


def one_delivery(asked: Asked, open_: bool) -> Any:
    text = asked.names["id"]
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise NotThere("there is no such delivery")
    found = listing.delivery(asked.tx, int(text))
    if found is None:
        raise NotThere("there is no such delivery")
    content = deliveries.parsed(found.body)
    return {
        **_delivery(found.listed, open_=open_),
        "headers": {
            name: value if open_ or not deliveries.telling(name) else MASK for name, value in found.headers.items()
        },
        "body": deliveries.shown_body(found.body, content, open_=open_),
    }


def missed(asked: Asked, _open: bool) -> Any:
    _require_told_of(asked)
    since, until = deliveries.stretch_of(asked)
    found = listing.missed_events(
        asked.tx,
        account=asked.query.text("account")[:200],
        since=since,
        until=until,
        as_of=asked.as_of,
        after=deliveries.missed_after(asked),
        limit=_limit(asked),
    )
    return {
        "missed": [
            {
                "event_id": each.event_id,
                "account": each.account,
                "type": each.type,
                "occurred_at": instant(each.occurred_at),
                "noticed_at": instant(each.noticed_at),
            }
            for each in found.rows
        ],
        "after": None if found.after is None else "/".join(str(each) for each in found.after),
    }


def report(asked: Asked, _open: bool) -> bytes:
    """The canonical form, byte for byte what a sign-off keeps."""
    return b"".join([canonical.encode(asked.report())])


def list_breaks(asked: Asked, _open: bool) -> Any:
    """By their ids, which a report made anew between two pages leaves in their order."""
    every = asked.room.reports.worklist(asked.report())
    wanted = Wanted.of(asked.query, asked.query.one_of("status", STATUSES, "break"), every)
    after, limit = asked.query.text("after"), _limit(asked)
    behind = (each for each in every if each.item.break_id > after and wanted.passes(each))
    found = nsmallest(limit + 1, behind, key=lambda each: each.item.break_id)
    return {
        "breaks": [_break(each) for each in found[:limit]],
        "after": found[limit - 1].item.break_id if len(found) > limit else None,
    }


def _break(each: Listed) -> dict[str, Any]:
    item = each.item
    return {
        "id": item.break_id,
        "status": each.status,
        "type": item.type.value,
        "account": item.account,
        "left": item.left,
        "right": item.right,
        "difference": {
            "amount": item.difference.text,
            "minor": item.difference.minor,
            "currency": item.difference.currency,
            "exponent": item.difference.exponent,
        },
        "age_days": item.age_days,
        "opened_at": instant(item.opened_at),
        "owner": item.owner,
        "note": item.note,
    }


QUESTIONS: Final = (
    Operation("GET", "/api/v1/status", "status", "What `reconcile status --format json` says.", OBJECT, look=status),
    Operation(
        "GET",
        "/api/v1/resources",
        "resources",
        "Resources, in the order of their references.",
        page_of("resources", _RESOURCE),
        look=resources,
        parameters=(
            ACCOUNT,
            Parameter("kind", "Only this kind."),
            Parameter("status", "Only with this status."),
            Parameter("condition", "Only in this condition.", {"type": "string", "enum": list(CONDITIONS)}),
            *PAGED,
        ),
    ),
    Operation(
        "GET",
        "/api/v1/versions",
        "resources",
        "The versions of one resource, newest first.",
        page_of("versions", _VERSION),
        look=versions,
        parameters=(Parameter("ref", "provider/account/kind/id", _REF, required=True), *PAGED),
    ),
    Operation(
        "GET",
        "/api/v1/deliveries",
        "deliveries",
        "Webhooks as received, newest first, with what became of each.",
        page_of("deliveries", _DELIVERY),
        look=list_deliveries,
        parameters=(
            ACCOUNT,
            Parameter("verdict", "Only with this verdict.", {"type": "string", "enum": list(deliveries.VERDICTS)}),
            Parameter("type", "Only of this type; a star at its end stands for any ending."),
            Parameter("event", "Only of this event."),
            Parameter("since", "From the beginning of this day, UTC.", DAY),
            Parameter("until", "To the end of this day, UTC.", DAY),
            *PAGED,
        ),
    ),
    Operation(
        "GET",
        "/api/v1/deliveries/{id}",
        "deliveries",
        "One webhook with its headers and its body.",
        {
            **_DELIVERY,
            "properties": {**_DELIVERY["properties"], "headers": OBJECT, "body": TEXT},
            "required": [*_DELIVERY["required"], "headers", "body"],
        },
        look=one_delivery,
        parameters=(Parameter("id", "Its number in this ledger.", SHORT, "path", required=True),),
    ),
    Operation(
        "GET",
        "/api/v1/missed-deliveries",
        "deliveries",
        "Events of the providers' own feeds that never reached us.",
        page_of(
            "missed",
            shaped(event_id=TEXT, account=TEXT, type=TEXT, occurred_at=maybe(INSTANT), noticed_at=INSTANT),
        ),
        look=missed,
        parameters=(
            ACCOUNT,
            Parameter("since", "Happened from the beginning of this day, UTC.", DAY),
            Parameter("until", "Happened before the end of this day, UTC.", DAY),
            *PAGED,
        ),
    ),
    Operation(
        "GET",
        "/api/v1/report",
        "report",
        "The finance report, in its canonical form.",
        OBJECT,
        look=report,
        parameters=(FROM, TO, AS_OF),
        raw=True,
    ),
    Operation(
        "GET",
        "/api/v1/breaks",
        "breaks",
        "What finance must explain, in the order of its ids.",
        page_of("breaks", _BREAK),
        look=list_breaks,
        parameters=(
            FROM,
            TO,
            *PAGED,
            Parameter("status", "Default: break.", {"type": "string", "enum": list(STATUSES)}),
            Parameter("type", "Only of this type.", {"type": "string", "enum": [each.value for each in BreakType]}),
            Parameter("currency", "Only in this currency."),
            Parameter("owner", "Only this owner's; `nobody` for those without one."),
            Parameter("least", "Only differences of at least this much, in major units."),
        ),
    ),
)


def ref_of(text: str) -> ResourceRef:
    """Raises UsageError."""
    try:
        return ResourceRef.parse(text[:600])
    except ValueError as error:
        raise UsageError(str(error)) from None


def _require_known(asked: Asked) -> None:
    """Raises UsageError for an account or a kind nobody ever heard of: an empty list would be no answer."""
    query = asked.query
    accounts, kinds = ([text] if (text := query.text(name)) else [] for name in ("account", "kind"))
    if accounts or kinds:
        require_held(asked.view, accounts, kinds, asked.desk.accounts)


def _require_told_of(asked: Asked) -> None:
    """The same of a list of deliveries, which come to accounts of which nothing else is held, and to none at all."""
    account = asked.query.text("account")
    if account != UNKNOWN and not listing.is_told_of(asked.tx, account):
        _require_known(asked)


def _limit(asked: Asked) -> int:
    return asked.query.whole("limit", least=1, most=500) or 100


def _body(body: bytes | None, *, open_: bool) -> Any:
    if body is None:
        return None
    found = orjson.loads(body)
    return found if open_ else masked(found)


def _delivery(each: ListedDelivery, *, open_: bool) -> dict[str, Any]:
    return {
        "id": each.id,
        "account": each.account,
        "event_id": each.event_id,
        "type": each.type,
        "received_at": instant(each.received_at),
        "occurred_at": instant(each.occurred_at),
        "verdict": each.verdict,
        "reason": each.reason,
        "size": each.size,
        "source": each.source if open_ else MASK if each.source else "",
    }
