"""Which resources a delivery named: the same answers whenever it came, before there were eras or after."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, deliveries, listing, retention
from reconciler.ledger.links import ERA, LATELY
from reconciler.ledger.moving import export_lines
from reconciler.ledger.redaction import FORGOTTEN, Asked, Done, conclude, is_stored
from reconciler.model import Redaction, ResourceRef
from tests.ledger.factories import NOON, receipt, ref, table, webhook

CHARGES = [ref(f"ch_{number}") for number in range(5)]
DELIVERIES = 60


def fill(ledger: Ledger) -> dict[str, list[ResourceRef]]:
    """Deliveries of several eras; what each of them named."""
    chance = random.Random(7)
    named = {}
    for number in range(DELIVERIES):
        name, at = f"evt_{number:02}", NOON + timedelta(seconds=number)
        named[name] = chance.sample(CHARGES, chance.randrange(1, 4))
        with ledger.together() as tx:
            tx.ticks(chance.choice((1, ERA, ERA * 2)))
            ledger.receive([receipt(name, *map(webhook, named[name]), at=at)], at)
    assert len({each["era"] for each in table(ledger, "delivery_link")}) > DELIVERIES / 4
    return named


def leave_as_before(ledger: Ledger, chance: random.Random) -> None:
    """As the program of schema 0012 stored the links of the older deliveries, and of some beside this one's."""
    every = [each["delivery_id"] for each in table(ledger, "delivery_link", "delivery_id")]
    then = {*every[: len(every) // 3], *chance.sample(every, len(every) // 4)}
    with ledger.store.write() as tx:
        for each in then:
            given = {"id": each}
            tx.run(
                text(
                    "INSERT INTO delivery_mark (account, kind, remote_id, delivery_id)"
                    " SELECT account, kind, remote_id, delivery_id FROM delivery_link WHERE delivery_id = :id"
                ),
                given,
            )
            tx.run(text("DELETE FROM delivery_link WHERE delivery_id = :id"), given)
    assert table(ledger, "delivery_mark")


@pytest.fixture(params=["all by era", "some from before"])
def filled(request: pytest.FixtureRequest, ledger: Ledger) -> tuple[Ledger, dict[str, list[ResourceRef]]]:
    named = fill(ledger)
    if request.param == "some from before":
        leave_as_before(ledger, random.Random(8))
    return ledger, named


def test_who_named_a_resource_is_told_in_order(filled: tuple[Ledger, dict[str, list[ResourceRef]]]) -> None:
    ledger, named = filled
    then = NOON + timedelta(seconds=DELIVERIES * 2 // 3)
    for charge in CHARGES:
        oldest_first = [name for name, refs in named.items() if charge in refs]
        known_then = [name for name in oldest_first if int(name[4:]) <= DELIVERIES * 2 // 3]
        with ledger.view() as view:
            assert [each.event_id for each in view.deliveries_of(charge)] == oldest_first
            assert [each.event_id for each in view.deliveries_of(charge, then, limit=4)] == known_then[:4]
        with ledger.store.read() as tx:
            pages, before = list[str | None](), None
            while page := listing.deliveries_of(tx, charge, as_of=None, before=before, limit=7):
                pages, before = pages + [each.event_id for each in page], page[-1].id
            assert pages == oldest_first[::-1]


def test_who_asks_at_every_read_is_told_of_the_last_deliveries(
    filled: tuple[Ledger, dict[str, list[ResourceRef]]],
) -> None:
    ledger, named = filled
    then = NOON + timedelta(seconds=DELIVERIES * 2 // 3)
    ids = {each["id"]: each["event_id"] for each in table(ledger, "delivery")}
    links = table(ledger, "delivery_link")
    first = sorted({each["era"] for each in links})[-LATELY:][0]
    before_eras = {ids[each["delivery_id"]] for each in table(ledger, "delivery_mark")}
    lately = {ids[each["delivery_id"]] for each in links if each["era"] >= first} | before_eras
    assert before_eras or len(lately) < len(named)
    for charge in CHARGES:
        expected = [name for name, refs in named.items() if charge in refs and name in lately and name <= "evt_40"]
        with ledger.store.read() as tx:
            assert deliveries.announced_by(tx, charge, before=then, limit=5) == expected[::-1][:5]
            assert deliveries.announced_by(tx, charge, before=then, limit=DELIVERIES) == expected[::-1]


def test_what_a_delivery_named_is_told(filled: tuple[Ledger, dict[str, list[ResourceRef]]]) -> None:
    ledger, named = filled
    ids = {each["event_id"]: each["id"] for each in table(ledger, "delivery")}
    every = [each.id for each in CHARGES]
    with ledger.store.read() as tx:
        for name, refs in named.items():
            told = listing.named_by(tx, ids[name], "stripe", "main", ("charge", "refund"), every)
            assert told == sorted(refs)
        assert listing.named_by(tx, ids["evt_00"], "stripe", "other", ("charge",), every) == []


def test_an_export_tells_them_all(ledger: Ledger) -> None:
    fill(ledger)
    lines = list(export_lines(ledger.store))
    leave_as_before(ledger, random.Random(9))
    assert list(export_lines(ledger.store)) == lines


def test_whoever_was_named_is_known_for_a_redaction(filled: tuple[Ledger, dict[str, list[ResourceRef]]]) -> None:
    ledger, _ = filled
    with ledger.store.write() as tx:
        assert is_stored(tx, "main", Redaction("charge", "ch_1"))
        assert not is_stored(tx, "main", Redaction("charge", "ch_11"))
        assert not is_stored(tx, "other", Redaction("charge", "ch_1"))


def test_all_deliveries_that_named_somebody_are_emptied(filled: tuple[Ledger, dict[str, list[ResourceRef]]]) -> None:
    ledger, named = filled
    asked = Asked("main", Redaction("charge", "ch_1"), "evt_asked")
    with ledger.store.write() as tx:
        assert conclude(tx, asked, Done(), NOON) == sum(ref("ch_1") in refs for refs in named.values())
        left = tx.run(text("SELECT event_id FROM delivery WHERE body <> :forgotten"), {"forgotten": FORGOTTEN})
        assert {row.event_id for row in left} == {name for name, refs in named.items() if ref("ch_1") not in refs}


def test_links_go_with_their_deliveries_and_no_others(filled: tuple[Ledger, dict[str, list[ResourceRef]]]) -> None:
    ledger, named = filled
    going = [name for name in named if int(name[4:]) % 3 == 0]
    with ledger.store.write() as tx:
        for name in going:
            tx.run(text("DELETE FROM delivery WHERE event_id = :name"), {"name": name})
    after: Mapping[str, Any] | None = retention.BEGINNING
    gone = 0
    while after is not None:
        with ledger.store.write() as tx:
            keys, after = retention.unnamed(tx, after, limit=9)
            gone += retention.unname(tx, keys) if keys else 0
    assert gone == sum(len(named[name]) for name in going)
    left = sum(len(table(ledger, each)) for each in ("delivery_link", "delivery_mark"))
    assert left == sum(len(refs) for name, refs in named.items() if name not in going)
