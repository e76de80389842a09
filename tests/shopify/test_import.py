"""`reconcile import` takes a shop's versions in as it takes any provider's: by its pure `snapshot` and `entries`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson

from reconciler.ledger import open_ledger
from reconciler.model import State
from tests.cli.running import run_here
from tests.shopify.shops import ACCOUNT, START, a_shop, ref

_CONFIG = """
[ledger]
url = "{url}"
[accounts.{account}]
provider = "shopify"
shop = "sandbox.myshopify.com"
access_token = "env:NOT_NEEDED_FOR_AN_IMPORT"
"""


def test_lines_of_every_kind_become_resources_with_their_states_and_entries(
    tmp_path: Path, sqlite_ledger_url: str
) -> None:
    shop = a_shop()
    order = shop.place_order()["id"]
    shop.pay(order)
    shop.refund(order, 100)
    shop.fulfill(order)
    shop.dispute(order, 200)
    shop.create_draft_order(next(int(key) for key, _ in shop.shelf.all("customer")))
    shop.pay_out()
    truth = shop.snapshot()
    objects = {**truth["objects"], "balance": {"balance": truth["balance"]}}
    lines = [
        {"ref": str(ref(kind, key)), "version": 1, "recorded_at": START.isoformat(), "cause": "backfill",
         "state": "present", "body": body, "api_version": "2026-10"}
        for kind, bodies in objects.items() for key, body in bodies.items()
    ]  # fmt: skip
    gone = {"ref": str(ref("product", 1)), "version": 1, "recorded_at": START.isoformat(), "cause": "webhook",
            "state": "deleted", "body": None}  # fmt: skip
    (tmp_path / "config.toml").write_text(_CONFIG.format(url=sqlite_ledger_url, account=ACCOUNT))
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in [*lines, gone]))
    ran = run_here("--config", str(tmp_path / "config.toml"), "import", str(tmp_path / "lines.jsonl"))
    assert ran.code == 0, ran.err

    with closing(open_ledger(sqlite_ledger_url)) as ledger, ledger.view() as view:
        resources = {each.ref: each for each in view.resources()}
        assert len(resources) == len(lines) + 1
        assert resources[ref("product", 1)].state is State.DELETED
        paid = resources[ref("order", order)]
        assert (paid.status, paid.dirty) == ("partially_refunded", False)
        payout = next(each for key, each in resources.items() if key.kind == "payout")
        assert payout.status == "paid"
    report = run_here("--config", str(tmp_path / "config.toml"), "--format", "json", "report",
                      "--from", "2026-11-01", "--to", "2026-11-30")  # fmt: skip
    net = sum(
        line["net"]["minor"]
        for block in orjson.loads(report.out)["balance"]
        for line in block["lines"]
        if line["code"] == "closing"
    )
    assert net == 0, "everything was paid out"
