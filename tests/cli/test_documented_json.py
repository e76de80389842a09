"""docs/json.md says what every command's JSON holds: no key more, and none less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.ledger import Coverage, Ledger, open_ledger
from reconciler.ledger.alerts import Alert
from reconciler.model import Notice, Snapshot, Window
from tests.cli.running import ROOT, run_here
from tests.ledger.factories import ref, settle

PAGE = (ROOT / "docs" / "json.md").read_text()


def documented() -> dict[str, Any]:
    blocks = re.findall(r"^## `reconcile (.+?)`\n```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", PAGE, re.MULTILINE)
    return {command: json.loads(text) for command, text in (*blocks, *rows)}


def differences(said: Any, printed: Any, where: str = "") -> Iterator[str]:
    """What was said as `"..."` may be anything; what is null may be."""
    if said == "..." or printed is None:
        return
    if isinstance(said, dict) and isinstance(printed, dict):
        yield from (f"{where}.{key}: not on the page" for key in printed.keys() - said.keys())
        yield from (f"{where}.{key}: not printed" for key in said.keys() - printed.keys())
        for key in said.keys() & printed.keys():
            yield from differences(said[key], printed[key], f"{where}.{key}")
    elif isinstance(said, list) and isinstance(printed, list):
        for each in printed:
            yield from differences(said[0] if said else "...", each, f"{where}[]")
    elif isinstance(said, dict | list) or isinstance(printed, dict | list):
        yield f"{where}: another sort of value"


ASKED = {
    "status": ["status"],
    "show REF": ["show", "stripe/main/charge/ch_told"],
    "report": ["report"],
    "check": ["check"],
    "dead-letters": ["dead-letters"],
    "dead-letters retry --all": ["dead-letters", "retry", "--all"],
    "dead-letters discard REF": ["dead-letters", "discard", "stripe/main/charge/ch_dead_1"],
    "mark REF": ["mark", "stripe/main/charge/ch_told"],
    "expect REF": ["expect", "stripe/main/payment_intent/pi_late"],
    "--since 2h --preview": ["--since", "2h", "--preview"],
    "breaks": ["breaks"],
    "subscriptions": ["subscriptions"],
    "user list": ["user", "list"],
    "token list": ["token", "list"],
    "bank list": ["bank", "list"],
    "audit list": ["audit", "list"],
    "audit verify": ["audit", "verify"],
    "migrate": ["migrate"],
    "redact REF --yes": ["redact", "stripe/main/charge/ch_told", "--yes"],
}


def test_every_document_on_the_page_is_asked_for_by_a_test() -> None:
    assert set(documented()) == {*ASKED, "--since T"}, "that one is looked at in test_backfill.py"


@pytest.fixture
def configured(tmp_path: Path, shop_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_1")
    path = tmp_path / "config.toml"
    account = 'provider = "stripe"\napi_key = "env:STRIPE_API_KEY"\nbase_url = "http://127.0.0.1:9"\n'
    path.write_text(f'[ledger]\nurl = "{shop_url}"\n[accounts.main]\n{account}')
    with closing(open_ledger(shop_url)) as ledger:
        _an_hour_of_trouble(ledger, SystemClock().now())
    return path


def _an_hour_of_trouble(ledger: Ledger, now: datetime) -> None:
    """What the shop of the console's tests lacks, because its day is long over."""
    since = now - timedelta(minutes=30)
    ledger.gate("main", "refund", reason="permission", note="refused", until=now + timedelta(hours=1), now=since)
    ledger.note_missed("main", [Notice("evt_now", "charge.refunded", since, ())], since)
    ledger.record_coverage([Coverage("main", "charge", Window(since, now), False, "throttled")], now)
    ledger.keep_alerts([Alert("backlog", "", "warning", "it waits", "look", since)])
    charge = ref("ch_new")
    settle(ledger, charge, Snapshot(charge, {"id": "ch_new"}), since)


@pytest.mark.parametrize("command", list(ASKED))
def test_a_command_prints_what_the_page_says(command: str, configured: Path) -> None:
    if command == "token list":
        run_here("--config", str(configured), "token", "add", "till", "--scope", "status")
    ran = run_here("--config", str(configured), "--format", "json", *ASKED[command])
    assert ran.code in (0, 1, 3), ran.err
    assert list(differences(documented()[command], ran.json)) == []


def test_the_ledger_of_these_tests_has_something_to_say_in_every_list(configured: Path) -> None:
    """Or a key that is missing there would go unnoticed."""
    said = run_here("--config", str(configured), "--format", "json", "status").json
    said["gaps"] = [gap for each in said["coverage"] for gap in each["gaps"]]
    assert {key for key, value in said.items() if value == []} == set()
    told = run_here("--config", str(configured), "--format", "json", *ASKED["show REF"]).json
    assert told["versions"]
    assert told["deliveries"]


def test_a_resource_with_money_lines_is_shown_as_the_page_says(configured: Path, shop_url: str) -> None:
    with closing(open_ledger(shop_url)) as ledger, ledger.view() as view:
        paid = next(each.ref for each in view.resources() if each.ref.kind == "balance_transaction")
    shown = run_here("--config", str(configured), "--format", "json", "show", str(paid)).json
    assert shown["entries"]
    assert list(differences(documented()["show REF"], shown)) == []
