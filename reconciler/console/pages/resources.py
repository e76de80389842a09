"""Finding resources: by any id that somebody pastes, or by what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, columns, in_memory, paged
from reconciler.errors import UsageError
from reconciler.ledger import listing
from reconciler.ledger.listing import (
    CONDITIONS,
    DeliveryFilter,
    ListedDelivery,
    ListedResource,
    ResourceFilter,
)
from reconciler.model import ResourceRef
from reconciler.report.formats.columns import Kind, Value

PAGE = 50
BATCH = 2000
_FOUND = 50
_COLUMNS = columns(
    "resource",
    "account",
    "kind",
    "state",
    "status",
    ("version", Kind.COUNT),
    ("last_changed", Kind.INSTANT),
    ("created", Kind.INSTANT),
    "condition",
)


def resources(asked: Asked) -> Page:
    wanted = wanted_of(asked)
    ledger, pairs = asked.desk.ledger, asked.pairs
    found = listing.resources(asked.tx, wanted, pairs=pairs, after=after_of(asked), limit=PAGE)

    def every() -> Iterator[tuple[Value, ...]]:
        after: tuple[str, str, str] | None = None
        while True:
            with ledger.store.read() as tx:
                stretch = listing.resources(tx, wanted, pairs=pairs, after=after, limit=BATCH)
            yield from (_values(each) for each in stretch.rows)
            if stretch.after is None:
                return
            after = stretch.after

    older = "" if found.after is None else asked.here(after="/".join(found.after))
    table = paged(
        "resources",
        "Resources",
        _COLUMNS,
        (_line(asked, each) for each in found.rows),
        every,
        empty="No resource is like that. Take a filter away, or search by an id above.",
        older=older,
        newer=asked.first() if asked.query.text("after") else "",
        note=f"Looked through {listing.SCANNED_RESOURCES:,} resources; go on to look further." if found.cut else "",
    )
    accounts = asked.desk.accounts
    return Page(
        "resources.html.j2",
        "Resources",
        {
            "accounts": sorted(accounts),
            "kinds": sorted({kind for account in accounts.values() for kind in account.kinds}),
            "conditions": CONDITIONS,
            "wanted": wanted,
        },
        [table],
        active="resources",
    )


def search(asked: Asked) -> Page:
    """Whatever was pasted: a reference, an id, its beginning, or an event's id."""
    text = asked.query.text("q")[:300]
    refs = _matches(asked, text) if text else []
    events = _events(asked, text) if text else ()
    found = in_memory(
        "found",
        "Resources",
        columns("resource", "account", "kind"),
        ((Cell(str(each), href=asked.resource(each), code=True), each.account, each.kind) for each in refs),
        asked.query,
        asked.here,
        empty="The ledger knows no resource whose id begins so. Ids are compared from their first letter on.",
    )
    told = in_memory(
        "events",
        "Deliveries of an event with this id",
        columns("event", "account", "type", ("received", Kind.INSTANT), "verdict"),
        (
            (
                Cell(each.event_id, href=asked.link("/console/delivery", id=str(each.id)), code=True),
                each.account,
                each.type,
                each.received_at,
                each.verdict,
            )
            for each in events
        ),
        asked.query,
        asked.here,
        empty="No delivery carried an event with this id.",
    )
    only = asked.resource(refs[0]) if len(refs) == 1 and not events else ""
    return Page("search.html.j2", "Search", {"q": text, "only": only}, [found, told], active="resources")


def _events(asked: Asked, text: str) -> Sequence[ListedDelivery]:
    wanted = DeliveryFilter(accounts=tuple(asked.desk.accounts), event_id=text)
    return listing.deliveries(asked.tx, wanted, after=None, limit=10).rows


def _matches(asked: Asked, text: str) -> list[ResourceRef]:
    if text.count("/") >= 3:
        try:
            ref = ResourceRef.parse(text)
        except ValueError:
            return []
        return [ref] if asked.view.resource(ref) is not None else []
    found = listing.find(asked.tx, text, asked.pairs, limit=_FOUND)
    exact = [each for each in found if each.id == text]
    return exact or found


def wanted_of(asked: Asked) -> ResourceFilter:
    query = asked.query
    return ResourceFilter(
        account=query.text("account")[:200],
        kind=query.text("kind")[:200],
        status=query.text("status")[:200],
        condition=query.one_of("condition", CONDITIONS),
        as_of=asked.as_of,
    )


def after_of(asked: Asked) -> tuple[str, str, str] | None:
    text = asked.query.text("after")
    if not text:
        return None
    parts = text.split("/", 2)
    if len(parts) != 3:
        raise UsageError("after: expected account/kind/id")
    return parts[0], parts[1], parts[2]


def _condition(each: ListedResource) -> Cell:
    if each.dead:
        return Cell("dead letter", tone="bad")
    return Cell("dirty", tone="warn") if each.dirty else Cell("")


def _line(asked: Asked, each: ListedResource) -> Line:
    return (
        Cell(each.ref.id, href=asked.resource(each.ref), code=True),
        each.ref.account,
        each.ref.kind,
        Cell(each.state.value, tone="quiet" if each.state.value != "present" else ""),
        each.status,
        each.version,
        each.changed_at,
        each.created_at,
        _condition(each),
    )


def _values(each: ListedResource) -> tuple[Value, ...]:
    return (
        str(each.ref),
        each.ref.account,
        each.ref.kind,
        each.state.value,
        each.status,
        each.version,
        each.changed_at,
        each.created_at,
        _condition(each).value,
    )
