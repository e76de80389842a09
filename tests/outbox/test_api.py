"""Subscriptions over HTTP: made by a program, within its scopes, and every act in the audit log."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.config import load
from reconciler.console.access import machines
from reconciler.ledger import Ledger
from tests.console.serving import Served
from tests.console.shop import NOW
from tests.ledger.factories import ref, settle, snapshot, table

KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Program:
    served: Served
    secret: str

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        client = self.served.client().client
        headers = {"authorization": f"Bearer {self.secret}"}
        answer = client.request(method, f"/api/v1/subscriptions{path}", json=body, headers=headers)
        return answer.status_code, answer.json()


def program(served: Served, *scopes: str) -> Program:
    with served.ledger.together() as tx:
        made = machines.make(tx, "the shop", scopes, expires_at=None, by="ada", now=NOW)
    return Program(served, made.secret)


@pytest.fixture
def served(sqlite_ledger_url: str, tmp_path: Any) -> Any:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[ledger]\nurl = "{sqlite_ledger_url}"\n[outbox]\nallowed_networks = ["127.0.0.0/8"]\n'
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:STRIPE_KEY"\n'
    )
    with Served(sqlite_ledger_url, config=load(path, {"RECONCILER_TOKEN_KEY": KEY, "STRIPE_KEY": "rk_x"})) as opened:
        yield opened


WRONG_SUBSCRIPTIONS: tuple[dict[str, Any], ...] = (
    {"url": "ftp://x"},
    {"url": "https://user:pass@x.example"},
    {"name": "Not A Name"},
    {"order": "x"},
    {"kinds": "charge"},
    {"concurrency": "4"},
    {"causes": ["magic"]},
    {"kinds": ["chrage"]},
    {"accounts": ["mian"]},
)
WRONG_ACTS: tuple[dict[str, Any], ...] = (
    {"act": "sing"},
    {"act": ["pause"]},
    {"act": 1},
    {"act": "replay"},
    {"act": "replay", "since": 5},
)
ERP: dict[str, Any] = {"name": "erp", "url": "https://erp.example/hook", "kinds": ["charge"], "order": "newest"}


def test_a_program_makes_and_looks_after_a_subscription(served: Served) -> None:
    shop = program(served, "subscriptions", "subscriptions:write")
    status, made = shop.ask("POST", "", ERP)
    assert (status, made["name"], made["secret"].startswith("whsec_")) == (201, "erp", True)
    assert shop.ask("POST", "", ERP)[0] == 400, "the name is taken"
    ledger: Ledger = served.ledger
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOW)
    _, listed = shop.ask("GET", "")
    (found,) = listed["subscriptions"]
    assert (found["state"], found["pending"], found["kinds"], found["order"]) == ("active", 1, ["charge"], "newest")
    assert made["secret"] not in str(listed)
    assert shop.ask("POST", "/erp/acts", {"act": "pause"})[0] == 200
    assert shop.ask("GET", "")[1]["subscriptions"][0]["state"] == "paused"
    preview = shop.ask(
        "POST", "/erp/acts", {"act": "replay", "since": "2020-01-01", "until": "2099-01-01", "preview": True}
    )
    assert (preview[1]["changes"], preview[1]["secret"]) == (1, None)
    assert shop.ask("POST", "/erp/acts", {"act": "rotate"})[1]["secret"] != made["secret"]
    assert shop.ask("GET", "/erp/attempts") == (200, {"attempts": [], "dead": []})
    assert shop.ask("POST", "/erp/acts", {"act": "resume"})[0] == 200
    assert shop.ask("POST", "/erp/acts", {"act": "remove"})[0] == 200
    assert shop.ask("GET", "/erp/attempts")[0] == 404
    acts = [(row["actor"].startswith("the shop (token"), row["action"]) for row in table(ledger, "audit_log", "seq")]
    assert [action for mine, action in acts if mine] == [
        f"subscription {act}" for act in ("make", "pause", "rotate", "resume", "remove")
    ]


def test_a_test_event_that_finds_nobody_says_so_and_is_logged(served: Served) -> None:
    shop = program(served, "subscriptions", "subscriptions:write")
    assert shop.ask("POST", "", ERP | {"url": "http://127.0.0.1:9/hook"})[0] == 201
    status, said = shop.ask("POST", "/erp/acts", {"act": "test"})
    assert (status, said["status"], "no connection" in said["error"]) == (200, None, True)
    (attempt,) = shop.ask("GET", "/erp/attempts")[1]["attempts"]
    assert (attempt["ref"], attempt["status"]) == (None, None)


def test_what_may_not_be_is_refused(served: Served) -> None:
    reader = program(served, "subscriptions")
    assert reader.ask("GET", "")[0] == 200
    assert reader.ask("POST", "", ERP)[0] == 403
    writer = program(served, "subscriptions:write")
    for made in WRONG_SUBSCRIPTIONS:
        assert writer.ask("POST", "", ERP | made)[0] == 400, made
    assert writer.ask("POST", "", ERP)[0] == 201
    for act in WRONG_ACTS:
        assert writer.ask("POST", "/erp/acts", act)[0] == 400, act
    assert writer.ask("POST", "/nobody/acts", {"act": "pause"})[0] == 404
