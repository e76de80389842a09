"""The HTTP API: what programs may, what they are told, and what happens to nonsense."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from reconciler.console.access import machines
from reconciler.console.access.machines import SCOPES
from reconciler.console.query import Query
from reconciler.console.worklist import Listed, Wanted
from reconciler.errors import UsageError
from reconciler.intake import UNKNOWN
from reconciler.ledger.breaks import audit_rows
from reconciler.ledger.deliveries import Rejection
from reconciler.model import Delivery, Notice, ResourceRef, Snapshot
from tests.console.serving import PATIENCE, Served
from tests.console.shop import CHARGE, DEAD, EMAIL, NOW
from tests.ledger.factories import DEEPEST, nested, settle

PROBLEM = "application/problem+json"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def token(console: Served, *scopes: str, **more: Any) -> str:
    with console.ledger.store.write() as tx:
        given = {"expires_at": None, "by": "test", "now": NOW, **more}
        return machines.make(tx, "till", scopes or tuple(SCOPES), **given).secret


def program(console: Served, *scopes: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {token(console, *scopes)}"}
    return httpx.Client(base_url=console.base, timeout=PATIENCE, headers=headers)


def test_a_program_without_a_token_is_told_so(reading: Served) -> None:
    for header in ({}, {"authorization": "Bearer rct_x"}, {"authorization": "Basic b3Blcjp4"}):
        answer = httpx.get(f"{reading.base}/api/v1/status", headers=header, timeout=PATIENCE)
        assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)
        assert answer.json()["detail"].startswith("send Authorization: Bearer")
    cookie = {"cookie": f"reconciler_session={reading.known('oper').client.cookies['reconciler_session']}"}
    assert httpx.get(f"{reading.base}/api/v1/status", headers=cookie, timeout=PATIENCE).status_code == 401, (
        "no person's session"
    )


def test_a_token_may_what_its_scopes_say_and_no_more(console: Served) -> None:
    with program(console, "status") as client:
        assert client.get("/api/v1/status").json()["resources"]["dead"] == len(DEAD)
        refused = client.get("/api/v1/resources")
        assert (refused.status_code, refused.json()["detail"]) == (403, "this needs the scope resources")


def test_a_revoked_or_expired_token_is_worth_nothing(console: Served) -> None:
    secret = token(console, "status")
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.get(f"{console.base}/api/v1/status", headers=headers, timeout=PATIENCE).status_code == 200
    assert console.client("oper").post("/console/tokens/revoke", {"id": secret[4:16]}).status_code == 303
    assert httpx.get(f"{console.base}/api/v1/status", headers=headers, timeout=PATIENCE).status_code == 401


@pytest.mark.parametrize(("name", "step", "least"), [("resources", 7, 50), ("deliveries", 7, 50), ("breaks", 2, 5)])
def test_lists_page_by_key_and_miss_nothing(console: Served, name: str, step: int, least: int) -> None:
    path = f"/api/v1/{name}"
    wanted = {"status": "all"} if name == "breaks" else {}
    with program(console, name) as client:
        every = client.get(path, params={"limit": 500, **wanted}).json()[name]
        paged: list[Any] = []
        after: str | None = ""
        while after is not None:
            page = client.get(path, params={"limit": step, **wanted, **({"after": after} if after else {})}).json()
            assert len(page[name]) <= step
            paged += page[name]
            after = page["after"]
    assert paged == every
    assert len(every) >= least


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("resources", {"kind": "nope"}, "there is no kind 'nope'"),
        ("resources", {"kind": "charges"}, "did you mean 'charge'?"),
        ("resources", {"account": "mian"}, "no account 'mian' is configured; did you mean 'main'?"),
        ("deliveries", {"account": "mian"}, "did you mean 'main'?"),
        ("missed-deliveries", {"account": "mian"}, "did you mean 'main'?"),
        ("breaks", {"currency": "dollars"}, "'dollars' is no currency"),
    ],
)
def test_what_narrows_a_list_down_to_nothing_for_ever_is_refused(
    reading: Served, path: str, asked: dict[str, str], said: str
) -> None:
    with program(reading) as client:
        refused = client.get(f"/api/v1/{path}", params=asked)
    assert (refused.status_code, said in refused.json()["detail"]) == (400, True)


def test_what_is_configured_or_held_is_no_mistake(reading: Served) -> None:
    with program(reading) as client:
        for path, asked in (
            ("deliveries", {"account": UNKNOWN}),
            ("missed-deliveries", {"account": UNKNOWN}),
            ("resources", {"account": "shop", "kind": "draft_order"}),
            ("deliveries", {"account": "shop"}),
            ("missed-deliveries", {"account": "shop"}),
            ("breaks", {"currency": "usd"}),
            ("breaks", {"currency": "CHF"}),
        ):
            assert client.get(f"/api/v1/{path}", params=asked).status_code == 200
        some = [client.get("/api/v1/breaks", params={"currency": name}).json()["breaks"] for name in ("usd", "USD")]
    assert some[0] == some[1] != []


def test_the_deliveries_of_an_account_of_which_nothing_else_is_held_are_listed(console: Served) -> None:
    console.ledger.reject([Rejection("stripe", Delivery("past", NOW, {}, b"{}", "203.0.113.7"), "signature", 2)])
    console.ledger.note_missed("gone", [Notice("evt_1", "charge.refunded", NOW, ())], NOW)
    with program(console, "deliveries") as client:
        (row,) = client.get("/api/v1/deliveries", params={"account": "past"}).json()["deliveries"]
        (event,) = client.get("/api/v1/missed-deliveries", params={"account": "gone"}).json()["missed"]
    assert (row["account"], event["account"]) == ("past", "gone")


def test_a_currency_that_only_a_break_has_can_be_asked_for() -> None:
    gold = cast("Listed", SimpleNamespace(item=SimpleNamespace(currency="XAU")))
    asked = Query.parse(b"currency=xau")
    assert Wanted.of(asked, "all", [gold]).currency == "XAU"
    with pytest.raises(UsageError):
        Wanted.of(asked, "all", [])


def test_the_versions_of_something_large_come_in_answers_that_are_not(console: Served) -> None:
    large = ResourceRef("stripe", "main", "product", "prod_large")
    for number in range(4):
        body = {"id": large.id, "object": "product", "description": f"{number}" * 3_000_000}
        settle(console.ledger, large, Snapshot(large, body), NOW)
    with program(console, "resources") as client:
        found: list[int] = []
        after: str | None = ""
        while after is not None:
            asked = {"ref": str(large), "limit": "500"} | ({"after": after} if after else {})
            answer = client.get("/api/v1/versions", params=asked)
            assert len(answer.content) < 10_000_000
            found += [each["version"] for each in answer.json()["versions"]]
            after = answer.json()["after"]
    assert found == [4, 3, 2, 1]


def test_whatever_can_be_kept_can_be_shown(console: Served) -> None:
    """By the API and by the pages of it and of a message about it."""
    deep = ResourceRef("stripe", "main", "product", "prod_deep")
    deepest = nested(DEEPEST)
    settle(console.ledger, deep, Snapshot(deep, {"id": deep.id, "object": "product", "value": deepest}), NOW)
    with program(console, "resources", "personal") as client:
        answer = client.get("/api/v1/versions", params={"ref": str(deep)})
        assert [each["body"]["value"] for each in answer.json()["versions"]] == [deepest]
    person = console.known("oper")
    with console.ledger.view() as view:
        found = view.resource(deep)
    assert found is not None
    assert "prod_deep" in person.get("/console/resource", params={"ref": str(deep)}).text
    sent = person.get("/console/subscription/sent", params={"name": "erp", "resource": str(found.id), "version": "1"})
    assert (sent.status_code, "prod_deep" in sent.text) == (200, True)


def test_personal_fields_need_their_scope_and_leave_a_trace(console: Served) -> None:
    with program(console, "resources") as client:
        assert EMAIL not in client.get("/api/v1/versions", params={"ref": str(CHARGE)}).text
    with program(console, "resources", "personal") as client:
        assert EMAIL in client.get("/api/v1/versions", params={"ref": str(CHARGE)}).text
    with console.ledger.store.read() as tx:
        last = audit_rows(tx)[-1]
    assert (last.action, last.actor.startswith("till (token ")) == ("unmask", True)


def test_the_report_is_the_canonical_one(console: Served) -> None:
    with program(console, "report", "breaks") as client:
        asked = {"as_of": "2026-02-01T10:00:00Z"}
        answer = client.get("/api/v1/report", params=asked)
        assert answer.json()["report_id"].startswith("rep_")
        assert answer.content == client.get("/api/v1/report", params=asked).content
        breaks = client.get("/api/v1/breaks", params=asked).json()["breaks"]
    assert len(breaks) == len(answer.json()["breaks"]) > 3


def test_a_program_works_on_a_break_under_its_own_name(console: Served) -> None:
    with program(console, "breaks", "breaks:write") as client:
        first = client.get("/api/v1/breaks").json()["breaks"][0]
        path = f"/api/v1/breaks/{first['id']}/acts"
        assert client.post(path, json={"act": "note", "text": "asked the provider"}).status_code == 201
        resolve = {"act": "resolve", "text": "x", "reason": "data_entry", "difference": first["difference"]["minor"]}
        for wrong, status in (
            ({"reason": "write_off"}, 400), ({"difference": None}, 400), ({"difference": "1"}, 400),
            ({"act": "nope"}, 400), ({"difference": True}, 400), ({"difference": 1.0}, 400),
            ({"difference": 2**63}, 409),
            ({"difference": first["difference"]["minor"] + 1}, 409), ({"act": "assign"}, 400),
            ({"act": "assign", "owner": "x" * 101}, 400), ({"act": "reopen"}, 409), ({"act": []}, 400),
        ):  # fmt: skip
            refused = client.post(path, json=resolve | wrong)
            assert (refused.status_code, refused.headers["content-type"]) == (status, PROBLEM), wrong
        for _ in range(2):
            assert client.post(path, json=resolve).status_code == 201, "whoever lost the answer asks again"
        refused = client.post(path, json=resolve | {"text": "y"})
        assert (refused.status_code, "resolved already" in refused.json()["detail"]) == (409, True)
        (after,) = [
            each
            for each in client.get("/api/v1/breaks", params={"status": "all"}).json()["breaks"]
            if each["id"] == first["id"]
        ]
    assert (after["status"], after["note"]) == ("resolved", "x"), "the last words stand"
    with console.ledger.store.read() as tx:
        acts = [row.action for row in audit_rows(tx) if row.actor.startswith("till (token ")]
    assert acts == ["break.note", "break.resolve"]


def test_marks_and_expectations_are_stored(console: Served) -> None:
    with program(console, "mark", "expectations") as client:
        assert client.post("/api/v1/marks", json={"refs": [str(DEAD[0])]}).status_code == 202
        wrong = client.post("/api/v1/marks", json={"refs": ["stripe/mian/charge/x"]})
        assert (wrong.status_code, "did you mean 'main'" in wrong.json()["detail"]) == (400, True)
        expected = {"ref": "stripe/main/payment_intent/pi_new", "within": "5m"}
        answer = client.post("/api/v1/expectations", json=expected)
        assert (answer.status_code, answer.json()["due_at"]) == (202, "2026-02-01T10:35:00Z")
    with console.ledger.view() as view:
        found = view.resource(DEAD[0])
    assert found is not None
    assert found.dead_at is None, "revived"


@pytest.mark.long
def test_nothing_that_can_be_sent_breaks_it(console: Served) -> None:
    """Every operation, fuzzed from the API's own description: no 5xx, and no answer that it does not describe."""
    headers = {"authorization": f"Bearer {token(console)}"}
    schema = schemathesis.openapi.from_url(f"{console.base}/api/v1/openapi.json")
    operations = [cast("Any", found).ok() for found in schema.get_all_operations()]
    assert {each.label for each in operations} >= {"GET /api/v1/status", "POST /api/v1/marks", "GET /api/v1/report"}
    for operation in operations:
        _fuzz(operation, headers)


def _answered(case: Any, headers: dict[str, str]) -> Any:
    """Again while it is told to: a busy machine may take longer to make a report than a program waits for it."""
    for _ in range(60):
        answer = case.call(headers=headers, timeout=PATIENCE)
        if answer.status_code != 503:
            break
        threading.Event().wait(1)
    return answer


def _fuzz(operation: Any, headers: dict[str, str]) -> None:
    @settings(max_examples=15, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def never(case: Any) -> None:
        case.validate_response(_answered(case, headers), checks=CHECKS)

    never()
