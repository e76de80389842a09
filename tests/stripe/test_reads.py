"""Reads over a real socket: what is asked of Stripe, and what its answers become."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from providers.stripe import Stripe
from providers.stripe.events import ALL_TYPES
from providers.stripe.kinds import KINDS, ROUTES
from providers.stripe.lists import LISTS
from reconciler.errors import AccessDenied, AccessScope, BadReply, Throttled, Unavailable, UsageError
from reconciler.model import NoticePage, Page, Reading, ResourceRef, Snapshot, Tombstone, Window
from tests import corpus
from tests.stripe.server import ACCOUNT, NOW, Asked, Says, Script, body, error, listing, played

DAY = Window(NOW - timedelta(days=1), NOW)


def ref(kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, kind, resource_id)


def fetched(script: Script, refs: Sequence[ResourceRef], **overrides: Any) -> Sequence[Reading]:
    return played(script, lambda stripe: stripe.fetch(refs), **overrides)


def always(says: Says) -> Script:
    return Script(lambda asked: says)


def known_id(kind: str) -> str:
    return str(corpus.resources()[kind].get("id", "balance"))


# --- single reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_fetched_at_its_own_address(kind: str) -> None:
    script = always(body(corpus.resources()[kind]))
    [first, *_] = fetched(script, [ref(kind, known_id(kind))])
    assert isinstance(first, Snapshot)
    assert first.api_version == "2026-10-28.endive"
    [asked] = script.asked
    route = ROUTES[kind]
    assert asked.path == (route.path if kind == "balance" else f"{route.path}/{known_id(kind)}")
    assert asked.all("expand[]") == list(route.expand)
    assert asked.headers["stripe-version"] == "2026-10-28.endive"
    assert asked.headers["authorization"] == "Bearer rk_test_abc"
    assert "stripe-account" not in asked.headers
    assert "x-stripe-client-telemetry" not in asked.headers


def test_expanded_answer_comes_with_each_object_inside_it() -> None:
    samples = corpus.resources()
    charge = {**samples["charge"], "balance_transaction": samples["balance_transaction"]}
    intent = {**samples["payment_intent"], "latest_charge": charge}
    readings = fetched(always(body(intent)), [ref("payment_intent", intent["id"])])
    assert [one.ref.kind for one in readings] == ["payment_intent", "charge", "balance_transaction"]


def test_several_refs_are_answered_in_their_order_before_what_came_along() -> None:
    samples = corpus.resources()

    def answer(asked: Asked) -> Says:
        resource_id = asked.path.rpartition("/")[2]
        if resource_id == "ch_gone":
            return error(404, "resource_missing", "No such charge: 'ch_gone'")
        transaction = {**samples["balance_transaction"], "id": f"txn_{resource_id}"}
        return body({**samples["charge"], "id": resource_id, "balance_transaction": transaction})

    refs = [ref("charge", "ch_2"), ref("charge", "ch_gone"), ref("charge", "ch_1")]
    readings = fetched(Script(answer), refs)
    assert [one.ref for one in readings[:3]] == refs
    assert isinstance(readings[1], Tombstone)
    assert {one.ref.id for one in readings[3:]} == {"txn_ch_1", "txn_ch_2"}


def test_nothing_asked_nothing_read() -> None:
    script = always(error(500))
    assert fetched(script, []) == []
    assert script.asked == []


def test_kinds_are_not_mixed_in_one_fetch() -> None:
    with pytest.raises(ValueError, match="one kind"):
        fetched(always(error(500)), [ref("charge", "ch_1"), ref("refund", "re_1")])


@pytest.mark.parametrize("kind", sorted(kind for kind, known in KINDS.items() if known.deletable))
def test_deleted_is_a_tombstone_by_flag_and_by_absence(kind: str) -> None:
    deleted = corpus.resources()[f"deleted_{kind}"]
    [flagged] = fetched(always(body(deleted)), [ref(kind, deleted["id"])])
    [absent] = fetched(always(error(404, "resource_missing", "No such thing")), [ref(kind, deleted["id"])])
    assert isinstance(flagged, Tombstone)
    assert isinstance(absent, Tombstone)


@pytest.mark.parametrize(
    "says",
    [
        error(404),
        error(404, "url_invalid"),
        Says(404, b"<html>not here</html>"),
        body({"id": "cus_1"}, 404),
        body([], 404),
    ],
)
def test_other_404s_never_make_a_tombstone(says: Says) -> None:
    with pytest.raises(BadReply):
        fetched(always(says), [ref("customer", "cus_1")])


def test_failures_keep_their_class() -> None:
    wanted = [ref("charge", "ch_1")]
    with pytest.raises(Unavailable):
        fetched(always(error(500)), wanted)
    with pytest.raises(Throttled):
        fetched(always(error(429, stripe_rate_limited_reason="endpoint-rate", retry_after="3")), wanted)
    with pytest.raises(AccessDenied):
        fetched(always(error(403, message="Having the 'rak_charge_read' permission would allow this")), wanted)
    with pytest.raises(Unavailable):
        fetched(always(Says(200, b'{"id": "ch_1", "object": "cha')), wanted)


def test_answer_about_another_resource_is_a_bad_reply() -> None:
    with pytest.raises(BadReply, match="another id"):
        fetched(always(body(corpus.resources()["charge"])), [ref("charge", "ch_1")])


@pytest.mark.parametrize("resource_id", [".", "..", "a/b", "a?b=c", "a#b", "a b", "ü", "%2e%2e"])
def test_odd_ids_reach_no_other_address(resource_id: str) -> None:
    script = always(error(404, "resource_missing"))
    try:
        fetched(script, [ref("product", resource_id)])
    except BadReply:
        assert script.asked == []
        return
    [asked] = script.asked
    assert asked.path.startswith("/v1/products/")
    assert asked.path.count("/") == 3
    assert asked.query == []


def test_connected_accounts_resource_is_read_on_its_behalf() -> None:
    samples = corpus.resources()
    charge = {**samples["charge"], "balance_transaction": samples["balance_transaction"]}
    script = always(body(charge))
    first, second = fetched(script, [ref("charge", f"acct_X/{charge['id']}")])
    assert first.ref.id == f"acct_X/{charge['id']}"
    assert second.ref.id == f"acct_X/{samples['balance_transaction']['id']}"
    assert script.asked[0].headers["stripe-account"] == "acct_X"
    assert script.asked[0].path == f"/v1/charges/{charge['id']}"
    [balance] = fetched(script := always(body(samples["balance"])), [ref("balance", "acct_X/balance")])
    assert balance.ref.id == "acct_X/balance"
    assert script.asked[0].path == "/v1/balance"


# --- the mode -------------------------------------------------------------------------------------


def test_answer_of_the_other_mode_stops_the_account_and_is_no_state() -> None:
    charge = {**corpus.resources()["charge"], "livemode": True}
    for story in (lambda s: s.fetch([ref("charge", charge["id"])]), lambda s: s.page("charge", None, None)):
        script = Script(lambda asked: listing(charge) if asked.path == "/v1/charges" else body(charge))
        with pytest.raises(AccessDenied, match="test mode") as refused:
            played(script, story)
        assert refused.value.scope is AccessScope.ACCOUNT
        played(script, story, api_key=SecretStr("rk_live_abc"))


def test_key_that_does_not_tell_its_mode_learns_it_from_the_first_answer() -> None:
    charge = corpus.resources()["charge"]
    modes = iter([True, True, False])

    async def story(stripe: Stripe) -> None:
        for _ in range(3):
            await stripe.fetch([ref("charge", charge["id"])])

    with pytest.raises(AccessDenied, match="live mode and Stripe answered in test mode"):
        played(Script(lambda asked: body({**charge, "livemode": next(modes)})), story, api_key=SecretStr("sk_org_abc"))


# --- products by the hundred ----------------------------------------------------------------------


def test_products_are_read_in_one_request_and_what_it_leaves_out_singly() -> None:
    sample = corpus.resources()["product"]

    def answer(asked: Asked) -> Says:
        if asked.path == "/v1/products":
            return listing(*({**sample, "id": one} for one in asked.all("ids[]") if one not in ("gone", "inactive")))
        if asked.path.endswith("/gone"):
            return body({"id": "gone", "object": "product", "deleted": True})
        return body({**sample, "id": "inactive", "active": False})

    script = Script(answer)
    refs = [ref("product", one) for one in ("b", "gone", "a", "inactive")]
    readings = fetched(script, refs)
    assert [one.ref for one in readings] == refs
    assert [type(one) for one in readings] == [Snapshot, Tombstone, Snapshot, Snapshot]
    assert [asked.path for asked in script.asked] == ["/v1/products", "/v1/products/gone", "/v1/products/inactive"]
    assert script.asked[0].one("limit") == "100"


def test_single_product_is_a_single_read() -> None:
    sample = corpus.resources()["product"]
    script = always(body(sample))
    fetched(script, [ref("product", sample["id"])])
    assert script.asked[0].path == f"/v1/products/{sample['id']}"


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_list_row_has_the_same_hash_as_the_single_read(kind: str) -> None:
    samples = corpus.resources()
    row = samples[kind]
    whole = dict(row)
    for name, inner in ROUTES[kind].embeds.items():
        row = {**row, name: samples[inner]["id"]}
        whole[name] = samples[inner]
    script = Script(lambda asked: listing(row) if asked.path == ROUTES[kind].path else body(whole))

    async def story(stripe: Stripe) -> tuple[Page, Reading]:
        page = await stripe.page(kind, None, None)
        return page, (await stripe.fetch([page.rows[0].ref]))[0]

    page, single = played(script, story)
    assert isinstance(single, Snapshot)
    assert page.rows[0].content_hash == single.content_hash
    assert page.rows[0] == single


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_list_asks_for_everything_in_the_window(kind: str) -> None:
    script = always(listing())
    window = Window(NOW.replace(microsecond=600_000), (NOW + timedelta(seconds=5)).replace(microsecond=1))
    played(script, lambda stripe: stripe.page(kind, window, None))
    [asked] = script.asked
    assert asked.path == ROUTES[kind].path
    assert asked.one("created[gte]") == str(int(NOW.timestamp()))
    assert asked.one("created[lt]") == str(int(NOW.timestamp()) + 6)
    assert asked.one("limit") == "100"
    assert asked.all("expand[]") == list(ROUTES[kind].list_expand)
    sent = {name for name, _ in asked.query} - {"created[gte]", "created[lt]", "limit", "expand[]"}
    assert sent == set(LISTS[kind].walks[0])


def test_subscriptions_are_listed_with_the_cancelled_ones() -> None:
    script = always(listing())
    played(script, lambda stripe: stripe.page("subscription", DAY, None))
    assert script.asked[0].one("status") == "all"


def stored(kind: str, count: int) -> Script:
    """A list that pages as Stripe's do: newest first, after an id."""
    rows = [{**corpus.resources()[kind], "id": f"{kind}_{n:04}"} for n in range(count)]

    def answer(asked: Asked) -> Says:
        mine = rows
        if active := asked.one("active"):
            mine = [row for n, row in enumerate(rows) if (n % 3 == 0) is (active == "false")]
        after = asked.one("starting_after")
        at = next((n + 1 for n, row in enumerate(mine) if row["id"] == after), 0)
        limit = int(asked.one("limit") or 10)
        return listing(*mine[at : at + limit], more=at + limit < len(mine))

    return Script(answer)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
@pytest.mark.parametrize("kind", ["charge", "price"])
def test_pages_end_and_name_every_row_once(kind: str, count: int) -> None:
    async def story(stripe: Stripe) -> list[str]:
        found: list[str] = []
        cursor = None
        for _ in range(20):
            page = await stripe.page(kind, DAY, cursor)
            found += [row.ref.id for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                return found
        raise AssertionError("the list never ends")

    found = played(stored(kind, count), story)
    assert sorted(found) == [f"{kind}_{n:04}" for n in range(count)]


@pytest.mark.parametrize(
    "says",
    [
        body({"object": "list"}),
        body({"data": []}),
        body({"data": {}, "has_more": False}),
        body({"data": [], "has_more": "yes"}),
        listing(more=True),
        listing("not an object"),
        error(404, "resource_missing", "No such charge: 'ch_0'"),
    ],
)
def test_list_that_breaks_its_word_is_a_bad_reply(says: Says) -> None:
    with pytest.raises(BadReply):
        played(always(says), lambda stripe: stripe.page("charge", DAY, None))


LONG = f"ch_{'x' * 300}"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"object": "charge"}, "without an id, or with one that is none"),
        ({"object": "charge", "id": ""}, "without an id, or with one that is none"),
        ({"object": "charge", "id": LONG}, f"with one that is none: '{LONG[:40]}'..., 303 characters"),
        ({"object": "refund", "id": "re_1"}, "object of type 'refund'"),
        ({"object": "charge", "id": "ch_2", "balance_transaction": {"object": "balance_transaction"}}, "without an id"),
    ],
    ids=["no id", "empty", "too long", "another kind", "inside"],
)
@pytest.mark.parametrize("created", [None, 1_767_225_600], ids=["", "dated"])
def test_a_row_that_cannot_be_held_is_named_and_hides_no_other(
    broken: dict[str, Any], said: str, created: int | None
) -> None:
    row = {**corpus.resources()["charge"], "id": "ch_1"}
    poison = broken | ({} if created is None else {"created": created})
    found = played(always(listing(row, poison, {**row, "id": "ch_3"})), lambda stripe: stripe.page("charge", DAY, None))
    assert [each.ref.id for each in found.rows if each.ref.kind == "charge"] == ["ch_1", "ch_3"]
    (named,) = found.broken
    assert said in named.said
    assert (named.created_at is None) == (created is None)


def test_a_walk_goes_on_behind_a_row_that_cannot_be_held() -> None:
    row = {**corpus.resources()["charge"], "id": "ch_1"}
    for last, cursor in ((LONG, LONG), (None, "ch_1")):
        says = always(listing(row, {"object": "charge", "id": last}, more=True))
        assert played(says, lambda stripe: stripe.page("charge", DAY, None)).cursor == f"0:{cursor}"


def test_list_that_does_not_advance_is_a_bad_reply() -> None:
    row = {**corpus.resources()["charge"], "id": "ch_1"}
    with pytest.raises(BadReply, match="advance"):
        played(always(listing(row, more=True)), lambda stripe: stripe.page("charge", DAY, "0:ch_1"))


def test_row_that_a_list_shows_as_deleted_is_not_a_snapshot() -> None:
    says = listing({"object": "customer", "id": "cus_1", "deleted": True}, corpus.resources()["customer"])
    page = played(always(says), lambda stripe: stripe.page("customer", DAY, None))
    assert [row.ref.id for row in page.rows] == [known_id("customer")]


@pytest.mark.parametrize("cursor", ["", "ch_1", "9:ch_1", "-1:ch_1", "x:"])
def test_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError):
        played(always(listing()), lambda stripe: stripe.page("charge", DAY, cursor))


@pytest.mark.parametrize("kind", ["balance", "unheard_of"])
def test_what_has_no_list_is_not_listed(kind: str) -> None:
    with pytest.raises(UsageError):
        played(always(listing()), lambda stripe: stripe.page(kind, None, None))


# --- the feed -------------------------------------------------------------------------------------


def _feed(rows: list[dict[str, Any]]) -> Script:
    def answer(asked: Asked) -> Says:
        wanted = [row for row in rows if row["type"] in asked.all("types[]")]
        after = asked.one("starting_after")
        at = next((n + 1 for n, row in enumerate(wanted) if row["id"] == after), 0)
        return listing(*wanted[at : at + 100], more=at + 100 < len(wanted))

    return Script(answer)


async def _walk_feed(stripe: Stripe) -> list[NoticePage]:
    pages = [await stripe.changes(DAY, None)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await stripe.changes(DAY, cursor))
        assert len(pages) < 50
    return pages


def test_feed_is_asked_for_every_type_twenty_at_a_time() -> None:
    rows = [
        {"id": f"evt_{n:04}", "type": event_type, "created": 1_795_000_000, "livemode": False,
         "data": {"object": {"id": "pi_1", "object": "payment_intent"}}}
        for n, event_type in enumerate([*ALL_TYPES, *["payment_intent.succeeded"] * 230])
    ]  # fmt: skip
    script = _feed(rows)
    pages = played(script, _walk_feed)
    assert sorted(notice.event_id for page in pages for notice in page.notices) == [row["id"] for row in rows]
    groups = [tuple(asked.all("types[]")) for asked in script.asked]
    assert max(map(len, groups)) == 20
    assert {event_type for group in groups for event_type in group} == set(ALL_TYPES)
    assert all(asked.one("created[gte]") == str(int(DAY.since.timestamp())) for asked in script.asked)
    assert all(asked.one("delivery_success") is None for asked in script.asked)


def test_feed_row_says_the_same_as_its_delivery() -> None:
    row = {
        "id": "evt_1", "object": "event", "type": "payout.paid", "created": int(NOW.timestamp()), "livemode": False,
        "data": {"object": {"id": "po_1", "object": "payout", "status": "paid"}},
    }  # fmt: skip
    pages = played(_feed([row]), _walk_feed)
    [notice] = [notice for page in pages for notice in page.notices]
    assert (notice.event_id, notice.type, notice.occurred_at) == (
        "evt_1",
        "payout.paid",
        datetime.fromtimestamp(NOW.timestamp(), UTC),
    )
    assert [hint.ref for hint in notice.hints] == [ref("payout", "po_1")]
    assert notice.hints[0].expected == {"is": {"status": "paid"}}


def test_feed_can_be_asked_for_what_was_never_delivered() -> None:
    script = always(listing())
    played(script, lambda stripe: stripe.changes(DAY, None, undelivered=True))
    assert script.asked[0].one("delivery_success") == "false"


def test_feed_row_without_its_parts_is_a_provider_error() -> None:
    with pytest.raises(BadReply):
        played(always(listing({"id": "evt_1"})), lambda stripe: stripe.changes(DAY, None))
