"""`reconcile export` and `reconcile import`: a user outgrows the file and moves to Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from providers.stripe import reading
from providers.stripe.entries import entries
from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, open_ledger
from reconciler.model import Snapshot
from reconciler.money import LARGEST, as_stored
from tests.cli.running import Ran, run_apart, run_here
from tests.ledger.factories import DEEPEST, answer, by_hand, claim_all, nested, receipt, ref, settle, tombstone, webhook

Reconcile = Callable[..., Ran]
LINE = ref("txn_1", kind="balance_transaction")
BODY = {
    "id": "txn_1", "object": "balance_transaction", "amount": 1000, "fee": 59, "net": 941, "currency": "eur",
    "created": 1777982400, "available_on": 1778241600, "reporting_category": "charge", "source": "ch_1",
    "fee_details": [], "status": "available",
}  # fmt: skip


def configured(folder: Path, url: str) -> Path:
    path = folder / "other.toml"
    account = '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET"\n'
    path.write_text(f'[ledger]\nurl = "{url}"\n{account}', encoding="utf-8")
    return path


def past(ledger: Ledger, clock: ManualClock) -> None:
    ledger.receive([receipt("evt_1", webhook(ref("ch_1")), by_hand(LINE))], clock.now())
    settle(ledger, LINE, reading.snapshot(LINE, BODY, "2026-10-28"), clock.now())
    settle(ledger, ref("ch_2"), Snapshot(ref("ch_2"), {"id": "ch_2", "object": "charge"}), clock.now())
    settle(ledger, ref("ch_2"), tombstone(ref("ch_2")), clock.now())


def lines(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def test_a_ledger_is_moved_and_nothing_is_lost(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    past(ledger, clock)
    out = tmp_path / "ledger.jsonl"
    assert reconcile("export", "--out", str(out)).code == 0
    new = configured(tmp_path, f"sqlite:///{tmp_path}/new.db")
    ran = run_here("--config", str(new), "import", str(out), "--format", "json")
    assert ran.code == 0
    assert ran.json["version"] == {"lines": 3, "new": 3}
    assert run_here("--config", str(new), "export").out == out.read_text(encoding="utf-8")
    for command in (["show", str(LINE)], ["show", str(ref("ch_2"))], ["show", str(ref("ch_1"))]):
        shown = run_here("--config", str(new), *command, "--format", "json").json
        assert shown == reconcile(*command, "--format", "json").json


def test_whatever_can_be_kept_can_be_moved_and_printed(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    deepest = {"id": "ch_1", "object": "charge", "metadata": nested(DEEPEST)}
    settle(ledger, ref("ch_1"), Snapshot(ref("ch_1"), deepest), clock.now())
    out = tmp_path / "ledger.jsonl"
    assert reconcile("export", "--out", str(out)).code == 0
    new = configured(tmp_path, f"sqlite:///{tmp_path}/new.db")
    assert run_here("--config", str(new), "import", str(out)).code == 0
    (line,) = lines(run_here("--config", str(new), "changes", "--body"))
    assert line["body"] == deepest
    shown = run_here("--config", str(new), "show", str(ref("ch_1")), "--format", "json")
    assert shown.json["body"] == deepest
    assert run_here("--config", str(new), "show", str(ref("ch_1"))).code == 0


def test_a_line_whose_body_is_nested_too_deep_is_a_wrong_line(reconcile: Reconcile, tmp_path: Path) -> None:
    body = '{"id":"ch_1","object":"charge","metadata":' + "[" * 300 + "]" * 300 + "}"
    at = '"version":1,"recorded_at":"2026-05-05T12:00:00Z","cause":"manual","state":"present"'
    path = tmp_path / "ledger.jsonl"
    path.write_text(f'{{"ref":"stripe/main/charge/ch_1",{at},"body":{body}}}\n', encoding="utf-8")
    ran = reconcile("import", str(path))
    assert ran.code == 2
    assert "line 1: the body is nested too deep" in ran.err


def test_a_ledger_with_an_amount_from_before_there_was_a_bound_is_moved_as_it_is(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    absurd = BODY | {"id": "txn_2", "amount": LARGEST * 10, "net": LARGEST * 10 - 59}
    other = ref("txn_2", kind="balance_transaction")
    ledger.mark([by_hand(other)], clock.now())
    (claim,) = claim_all(ledger, clock.now(), kind=other.kind)
    read = reading.snapshot(other, absurd, "2026-10-28")
    with as_stored():
        answer(ledger, claim, read, now=clock.now(), entries=entries(read), least=timedelta(0))
    out = tmp_path / "ledger.jsonl"
    assert reconcile("export", "--out", str(out)).code == 0
    new = configured(tmp_path, f"sqlite:///{tmp_path}/new.db")

    ran = run_here("--config", str(new), "import", str(out))

    assert (ran.code, ran.err) == (0, "")
    assert run_here("--config", str(new), "export").out == out.read_text(encoding="utf-8")
    shown = reconcile("show", str(other), "--format", "json").json
    assert [each["gross"]["minor"] for each in shown["entries"]] == [LARGEST * 10], shown
    assert run_here("--config", str(new), "show", str(other), "--format", "json").json == shown
    month = (
        "report",
        "--from",
        "2026-05-01",
        "--to",
        "2026-05-31",
        "--as-of",
        "2026-06-02T00:00:00Z",
        "--format",
        "json",
    )
    there, here = run_here("--config", str(new), *month), reconcile(*month)
    assert (there.code, there.json["balance"]) == (here.code, here.json["balance"])
    assert str(LARGEST * 10) in here.out


def test_the_lines_are_the_documented_ones(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    past(ledger, clock)
    told = lines(reconcile("export"))
    versions = [line for line in told if "ref" in line]
    assert [(line["ref"], line["version"], line["state"]) for line in versions] == [
        (str(LINE), 1, "present"),
        (str(ref("ch_2")), 1, "present"),
        (str(ref("ch_2")), 2, "deleted"),
    ]
    assert versions[0]["body"] == BODY
    assert versions[2]["body"] is None
    assert list(versions[0])[:6] == ["ref", "version", "recorded_at", "cause", "state", "body"]
    (delivery,) = [line["delivery"] for line in told if "delivery" in line]
    assert (delivery["event_id"], delivery["body"]) == ("evt_1", "e30=")
    assert sorted(delivery["marks"]) == sorted([str(LINE), str(ref("ch_1"))])


def test_a_wrong_line_stops_the_import_with_its_number(reconcile: Reconcile, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"coverage": {}}\n\n{"ref": 7}\n', encoding="utf-8")
    ran = reconcile("import", str(path))
    assert ran == Ran(
        2,
        "",
        "reconcile: line 1: account: missing\nreconcile: line 3: ref: expected text\nreconcile: nothing was imported\n",
    )


def test_an_export_does_not_overwrite(reconcile: Reconcile, tmp_path: Path) -> None:
    out = tmp_path / "there.jsonl"
    out.write_text("precious", encoding="utf-8")
    ran = reconcile("export", "--out", str(out))
    assert ran.code == 2
    assert "exists; name another file" in ran.err
    assert out.read_text(encoding="utf-8") == "precious"


def test_an_export_that_cannot_be_ended_leaves_nothing_behind(
    sqlite_ledger_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    """Half a ledger beside the full disk that it filled would keep it full."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        past(ledger, clock)
        with ledger.together() as tx:
            tx.run(text("UPDATE version SET body = :damaged WHERE body IS NOT NULL"), {"damaged": b"s damaged"})
    config = str(configured(tmp_path, sqlite_ledger_url))
    ran = run_here("--config", config, "export", "--out", str(tmp_path / "out.jsonl"))
    assert (ran.code, "damaged" in ran.err) == (2, True)
    assert list(tmp_path.glob("out.jsonl*")) == []


@pytest.mark.parametrize("name", ["/absent.jsonl", "/"])
def test_a_file_that_cannot_be_read_is_named(reconcile: Reconcile, name: str) -> None:
    ran = reconcile("import", name)
    assert ran.code == 2
    assert f"reconcile: {name} cannot be read: " in ran.err


def test_from_pipe_to_pipe_in_processes_of_their_own(
    sqlite_ledger_url: str, postgres_ledger_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    with closing(open_ledger(sqlite_ledger_url)) as first:
        past(first, clock)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    told = run_apart("--config", str(configured(old, sqlite_ledger_url)), "export", folder=tmp_path)
    assert (told.code, told.err) == (0, "")
    target = str(configured(new, postgres_ledger_url))
    took = run_apart("import", "-", "--config", target, folder=tmp_path, stdin=told.out)
    assert took.code == 0, took.err
    assert run_apart("export", "--config", target, folder=tmp_path).out == told.out
