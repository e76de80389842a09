"""`reconcile report`, `breaks` and `audit` as finance meets them, on both databases."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from reconciler.asking import period
from reconciler.ledger import Ledger
from reconciler.ledger.breaks import LockState, period_locks
from reconciler.report.periods import Calendar
from tests.cli.running import Ran
from tests.ledger.factories import by_hand, ref
from tests.report.books import BEGINNING, END, Books, on

Reconcile = Callable[..., Ran]
JANUARY = ("report", "--from", "2026-01-01", "--to", "2026-01-31")
AS_OF = ("--as-of", "2026-02-10T00:00:00Z")
UTC_DAYS = Calendar.of("UTC")


@pytest.fixture
def books(ledger: Ledger) -> Books:
    """January: one charge of 100.00, one refund of 25.00; the account `main` only."""
    books = Books(ledger, with_shop=False)
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, fee=320, at=on(5))
    books.refund(charge, 2500, at=on(9))
    books.covers()
    return books


@pytest.fixture
def balanced(books: Books) -> Books:
    books.states(7180, at=END)
    return books


@pytest.fixture
def broken(books: Books) -> Books:
    """The provider says 5.00 more than the entries do."""
    books.states(7680, at=END)
    return books


def test_a_report_beside_a_newer_version_says_why_it_takes_longer(reconcile: Reconcile, balanced: Books) -> None:
    """And leaves what that one keeps as it is."""
    assert "newer version" not in reconcile(*JANUARY, *AS_OF).err
    with balanced.ledger.together() as tx:
        tx.run(text("UPDATE aside_state SET readings = :newer"), {"newer": '{"main":["stripe",99,1]}'})

    ran = reconcile(*JANUARY, *AS_OF)

    assert (ran.code, "newer version of this program" in ran.err) == (0, True)
    with balanced.ledger.store.read() as tx:
        assert tx.run(text("SELECT readings FROM aside_state")).scalar_one() == '{"main":["stripe",99,1]}'


def test_amounts_that_no_sum_holds_end_the_command_with_a_name(reconcile: Reconcile, balanced: Books) -> None:
    with balanced.ledger.together() as tx:
        tx.run(text(f"UPDATE entry SET gross = {2**62}, fee = 0, net = {2**62}"))

    ran = reconcile(*JANUARY, *AS_OF)

    assert ran.code == 2
    assert f"the largest of them is {2**62} minor units of USD, of stripe/main/balance_transaction/" in ran.err


# --- the question ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        ("2026-02-01T00:00:00", ("2026-01-01", "2026-01-31")),
        ("2026-02-01T09:00:00", ("2026-01-01", "2026-01-31")),
        ("2026-02-02T09:00:00", ("2026-02-01", "2026-02-01")),
        ("2026-02-28T23:59:59", ("2026-02-01", "2026-02-27")),
        ("2026-01-01T12:00:00", ("2025-12-01", "2025-12-31")),
    ],
)
def test_without_a_period_it_is_what_can_be_proved_of_the_month(as_of: str, expected: tuple[str, str]) -> None:
    found = period(None, None, UTC_DAYS, datetime.fromisoformat(as_of).replace(tzinfo=UTC))
    assert tuple(day.isoformat() for day in found) == expected


def test_a_running_day_of_a_late_zone_is_left_out() -> None:
    calendar = Calendar.of("America/Los_Angeles", time(6))
    now = datetime(2026, 3, 1, 13, 59, tzinfo=UTC)  # 05:59 there, so the business day is still the 28th of February
    assert period(None, None, calendar, now) == (date(2026, 2, 1), date(2026, 2, 27))
    assert period(None, None, calendar, now + timedelta(minutes=1)) == (date(2026, 2, 1), date(2026, 2, 28))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "january"), "'january' is no day; write 2026-11-30"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "the period ends (2026-01-01) before it begins"),
        (("--tz", "Mars/Base"), "--tz Mars/Base: no time zone"),
        (("--day-start", "noon"), "--day-start noon: write HH:MM"),
        (("--day-start", "06:00+02:00"), "--day-start 06:00+02:00: write HH:MM"),
        (("--from", "9999-12-01", "--to", "9999-12-31"), "'9999-12-31' lies too far away: only the years 2 to 9998"),
        (("--to", "0001-01-01", "--tz", "Asia/Tokyo"), "'0001-01-01' lies too far away"),
        (("--as-of", "9999-12-31T23:59:59-14:00"), "'9999-12-31T23:59:59-14:00' lies too far away"),
        (("--as-of", "0001-01-01"), "'0001-01-01' lies too far away"),
        (("--currency", "dollars"), "--currency dollars: write three letters"),
        (("--currency", "XXQ"), "--currency XXQ is no currency; known are AED, AFN,"),
        (("--account", "mian"), "no account 'mian'"),
        (("--compare", "last"), "--compare last: nobody has signed"),
        (("--compare", "rep_1"), "--compare rep_1: no such report was kept"),
        (("--section", "brakes"), "there is no section 'brakes'"),
        (("--format", "pdf"), "--format pdf: this command knows table, json"),
        (("--format", "csv,json"), "several formats are several files: add --out DIR"),
        (("--format", "xlsx"), "--format xlsx writes files: add --out DIR"),
        (("--format", "json", "--section", "breaks"), "--format json is always the whole report"),
        (("--by", "Ann"), "--by signs: add --prepare"),
        (("--lock", "--by", "Ann"), "say --review --lock"),
        (("--prepare",), "add --by NAME"),
    ],
)
def test_a_question_that_has_no_answer_is_explained(
    reconcile: Reconcile, balanced: Books, arguments: tuple[str, ...], said: str
) -> None:
    ran = reconcile("report", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


# --- the answer -----------------------------------------------------------------------------------


def test_a_balanced_month_exits_with_nought(reconcile: Reconcile, balanced: Books) -> None:
    ran = reconcile(*JANUARY, *AS_OF)
    assert ran.code == 0
    assert "USD  ✓ BALANCED" in ran.out
    assert "as of 2026-02-10 00:00:00Z · report rep_" in ran.out


def test_a_broken_month_says_so_first_and_exits_with_one(reconcile: Reconcile, broken: Books) -> None:
    ran = reconcile(*JANUARY, *AS_OF)
    assert ran.code == 1
    assert ran.out.index("✗ BREAKS") < ran.out.index("Opening balance") < ran.out.index("BALANCE_UNEXPLAINED")


@pytest.mark.parametrize(("fail_on", "code"), [("breaks", 1), ("unproven", 0), ("none", 0)])
def test_the_exit_code_speaks_of_what_was_asked(reconcile: Reconcile, broken: Books, fail_on: str, code: int) -> None:
    assert reconcile(*JANUARY, *AS_OF, "--fail-on", fail_on).code == code


def test_a_month_without_the_providers_word_is_unproven(reconcile: Reconcile, books: Books) -> None:
    ran = reconcile(*JANUARY, *AS_OF)
    assert ran.code == 3
    assert "? UNPROVEN" in ran.out
    assert reconcile(*JANUARY, *AS_OF, "--fail-on", "none").code == 0


def test_the_same_command_prints_the_same_bytes(reconcile: Reconcile, broken: Books) -> None:
    for format_ in ("table", "json", "md", "beancount", "hledger"):
        first = reconcile(*JANUARY, *AS_OF, "--format", format_)
        broken.charge(333, at=on(7), known=on(20, month=2))
        broken.ledger.mark([by_hand(ref("ch_9"))], on(21, month=2))
        assert reconcile(*JANUARY, *AS_OF, "--format", format_).out == first.out, format_


def test_stdout_is_the_digest_of_the_report(reconcile: Reconcile, balanced: Books, tmp_path: Path) -> None:
    ran = reconcile(*JANUARY, *AS_OF, "--format", "json")
    reconcile(*JANUARY, *AS_OF, "--format", "json,csv", "--out", str(tmp_path / "january"))
    manifest = orjson.loads((tmp_path / "january" / "manifest.json").read_bytes())
    assert hashlib.sha256(ran.out.removesuffix("\n").encode()).hexdigest() == manifest["digest"]
    assert (tmp_path / "january" / "report.json").read_text(encoding="utf-8") == ran.out.removesuffix("\n")
    assert ran.json["report_id"] == manifest["report_id"]


def test_one_section_as_csv_goes_to_stdout(reconcile: Reconcile, balanced: Books) -> None:
    lines = reconcile(*JANUARY, *AS_OF, "--format", "csv", "--section", "entries").out.splitlines()
    assert lines[0].startswith("account,balance_type,currency,balance_transaction_id,created")
    assert [line.rsplit(",", 3)[1:] for line in lines[1:]] == [
        ["100.00", "3.20", "96.80"],
        ["-25.00", "0.00", "-25.00"],
    ]


def test_days_of_another_zone_are_cut_there(reconcile: Reconcile, balanced: Books) -> None:
    balanced.entry("charge", 100, at=on(31, 23))
    shown = reconcile(*JANUARY, *AS_OF, "--tz", "Europe/Berlin", "--format", "json").json
    assert (shown["params"]["start"], shown["params"]["end"]) == ("2025-12-31T23:00:00Z", "2026-01-31T23:00:00Z")
    (charges,) = [line for line in shown["balance"][0]["lines"] if line["code"] == "charge"]
    assert charges["count"] == 1


def test_what_changed_since_an_instant_is_listed(reconcile: Reconcile, balanced: Books) -> None:
    late = balanced.entry("charge", 50, at=on(20), known=on(12, month=2))
    ran = reconcile(*JANUARY, "--as-of", "2026-02-13", "--compare", "2026-02-10", "--format", "json")
    assert [(each["id"], each["net"]["minor"]) for each in ran.json["changes"]] == [(late, 50)]


# --- evidence -------------------------------------------------------------------------------------


def test_a_report_as_of_now_says_what_the_ledger_holds(reconcile: Reconcile, balanced: Books) -> None:
    balanced.ledger.mark([by_hand(ref("ch_9"))], on(21, month=2))
    ran = reconcile(*JANUARY, "--format", "json")
    assert ran.json["evidence"]["resources"]["dirty"] == 1
    assert {"kinds", "missed_deliveries", "unconfirmed", "not_looked_at", "deliveries"} <= set(ran.json["evidence"])
    assert "Not looked at" in reconcile(*JANUARY).out
    assert ran.code == 0, "a period that was named is judged by itself"


def test_a_report_as_of_an_instant_has_no_evidence_of_now(reconcile: Reconcile, balanced: Books) -> None:
    assert "evidence" not in reconcile(*JANUARY, *AS_OF, "--format", "json").json


def test_a_ledger_without_money_has_a_report_and_is_unproven_until_it_was_looked_at(
    reconcile: Reconcile, ledger: Ledger
) -> None:
    ran = reconcile(*JANUARY, *AS_OF)
    assert ran.code == 3
    assert "No money moved in this period" in ran.out
    Books(ledger, with_shop=False).covers()
    ran = reconcile(*JANUARY, *AS_OF)
    assert ran.code == 0
    assert "No money moved in this period" in ran.out


# --- sign-off -------------------------------------------------------------------------------------


def test_two_people_sign_and_the_report_stays_as_it_was(reconcile: Reconcile, balanced: Books) -> None:
    before = reconcile(*JANUARY, *AS_OF, "--format", "json")
    prepared = reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Ann")
    assert prepared.code == 0
    assert "--review --lock --by NAME" in prepared.err
    alone = reconcile(*JANUARY, *AS_OF, "--review", "--lock", "--by", "Ann")
    assert (alone.code, "another person" in alone.err) == (2, True)
    locked = reconcile(*JANUARY, *AS_OF, "--review", "--lock", "--by", "Bo", "--policy", "restate")
    assert locked.code == 0
    assert "main: locked by Bo" in locked.err
    balanced.charge(900, at=on(7), known=on(20, month=2))
    assert reconcile(*JANUARY, *AS_OF, "--format", "json").out == before.out
    again = reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Cy")
    assert (again.code, "locked already" in again.err) == (2, True)


def test_whoever_signs_is_told_what_is_still_to_be_read(reconcile: Reconcile, balanced: Books) -> None:
    """The report speaks for its instant, and says nothing of what a webhook has just announced."""
    quiet = reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Ann")
    assert "dirty" not in quiet.err
    balanced.ledger.mark([by_hand(ref("ch_new"))], on(20, month=2))
    told = "at this moment 1 resource is dirty and 0 are dead: what they turn out to be is not in this report"
    for signing in (("--prepare", "--by", "Ann"), ("--review", "--lock", "--by", "Bo")):
        assert told in reconcile(*JANUARY, *AS_OF, *signing).err
    assert "dirty" not in reconcile(*JANUARY, *AS_OF).err


def test_an_unbalanced_month_is_locked_with_a_reason_only(reconcile: Reconcile, broken: Books) -> None:
    assert reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Ann").code == 1
    refused = reconcile(*JANUARY, *AS_OF, "--review", "--lock", "--by", "Bo")
    assert (refused.code, refused.out) == (2, "")
    assert "needs a reason" in refused.err
    locked = reconcile(*JANUARY, *AS_OF, "--review", "--lock", "--by", "Bo", "--reason", "ticket 12")
    assert locked.code == 1
    assert "(ticket 12)" in locked.err


def test_a_lock_is_taken_back_with_a_reason(reconcile: Reconcile, balanced: Books) -> None:
    reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Ann")
    reconcile(*JANUARY, *AS_OF, "--review", "--lock", "--by", "Bo")
    assert reconcile(*JANUARY, *AS_OF, "--reopen", "--by", "Ann").code == 2
    assert reconcile(*JANUARY, *AS_OF, "--reopen", "--by", "Ann", "--reason", "late invoice").code == 0
    with balanced.ledger.store.read() as tx:
        assert [each.state for each in period_locks(tx, ["main"])][-1] is LockState.REOPENED
    assert reconcile(*JANUARY, *AS_OF, "--reopen", "--by", "Ann", "--reason", "again").code == 2


def test_compare_last_is_the_last_sign_off(reconcile: Reconcile, balanced: Books) -> None:
    signed = reconcile(*JANUARY, *AS_OF, "--prepare", "--by", "Ann", "--format", "json").json["report_id"]
    late = balanced.entry("charge", 50, at=on(20), known=on(12, month=2))
    for compare in ("last", signed):
        ran = reconcile(*JANUARY, "--as-of", "2026-02-13", "--compare", compare, "--format", "json")
        assert [each["id"] for each in ran.json["changes"]] == [late]


# --- breaks ---------------------------------------------------------------------------------------

IN_JANUARY = ("--from", "2026-01-01", "--to", "2026-01-31")


def one_break(reconcile: Reconcile, *more: str) -> dict[str, object]:
    (found,) = reconcile("breaks", "list", *IN_JANUARY, *more, "--format", "json").json["breaks"]
    return dict(found)


def test_breaks_are_listed_worked_on_resolved_and_reopened(reconcile: Reconcile, broken: Books) -> None:
    found = one_break(reconcile)
    name = str(found["break_id"])
    assert (found["type"], found["status"], found["owner"]) == ("BALANCE_UNEXPLAINED", "break", None)
    assert reconcile("breaks", "assign", name[:10], "Ann", "--by", "Bo", *IN_JANUARY).code == 0
    assert reconcile("breaks", "note", name, "ticket 12", "--by", "Ann", *IN_JANUARY).code == 0
    found = one_break(reconcile, "--owner", "Ann", "--min-amount", "5.00", "--type", "balance_unexplained")
    assert (found["owner"], found["note"]) == ("Ann", "ticket 12")
    resolved = reconcile(
        "breaks", "resolve", name, "--reason", "provider_correction", "--note", "credited", "--by", "Ann", *IN_JANUARY
    )
    assert (resolved.code, "is resolved" in resolved.err) == (0, True)
    assert reconcile(*JANUARY, "--format", "json").json["verdicts"]["USD"] == "BALANCED"
    found = one_break(reconcile, "--status", "resolved")
    assert (found["reason"], found["resolved_by"]) == ("provider_correction", "Ann")
    assert reconcile("breaks", "reopen", name, "--note", "not credited", "--by", "Bo", *IN_JANUARY).code == 0
    assert one_break(reconcile)["status"] == "break"
    shown = reconcile("breaks", "show", name, *IN_JANUARY, "--format", "json").json
    assert [each["action"] for each in shown["events"]] == ["assign", "note", "resolve", "reopen"]


def test_filters_leave_out_what_was_not_asked_for(reconcile: Reconcile, broken: Books) -> None:
    for more in (("--min-amount", "5.01"), ("--owner", "Ann"), ("--type", "duplicate"), ("--status", "timing")):
        assert reconcile("breaks", "list", *IN_JANUARY, *more, "--format", "json").json["breaks"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("breaks", "note", "brk_nope", "x", "--by", "Ann"), "this report has no break brk_nope"),
        (("breaks", "note", "brk_", " ", "--by", "Ann"), "a note needs words"),
        (("breaks", "resolve", "brk_", "--reason", "because", "--note", "x", "--by", "Ann"), "'because' is no reason"),
        (("breaks", "resolve", "brk_", "--reason", "fx_rounding", "--by", "Ann"), "needs a note or evidence"),
        (("breaks", "resolve", "brk_", "--reason", "write_off", "--note", "x", "--by", "Ann"), "cannot be written off"),
        (("breaks", "reopen", "brk_", "--note", "x", "--by", "Ann"), "is open already"),
        (("breaks", "assign", "brk_", "Ann", "--by", " "), "add --by NAME"),
        (("breaks", "attach", "brk_", "/no/such/file", "--by", "Ann"), "cannot be read"),
    ],
)
def test_work_that_cannot_be_kept_is_refused_and_leaves_no_trace(
    reconcile: Reconcile, broken: Books, arguments: tuple[str, ...], said: str
) -> None:
    ran = reconcile(*arguments, *IN_JANUARY)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert reconcile("audit", "verify", "--format", "json").json["rows"] == 0


def test_evidence_is_kept_by_its_fingerprint(reconcile: Reconcile, broken: Books, tmp_path: Path) -> None:
    paper = tmp_path / "letter.txt"
    paper.write_text("we owe you 5.00", encoding="utf-8")
    name = str(one_break(reconcile)["break_id"])
    assert reconcile("breaks", "attach", name, str(paper), "--by", "Ann", *IN_JANUARY).code == 0
    events = reconcile("breaks", "show", name, *IN_JANUARY, "--format", "json").json["events"]
    assert events[0]["evidence_sha256"] == hashlib.sha256(paper.read_bytes()).hexdigest()


# --- audit ----------------------------------------------------------------------------------------


def test_the_chain_holds_and_a_changed_row_is_found(reconcile: Reconcile, broken: Books) -> None:
    name = str(one_break(reconcile)["break_id"])
    for words in ("one", "two"):
        reconcile("breaks", "note", name, words, "--by", "Ann", *IN_JANUARY)
    ran = reconcile("audit", "verify", "--format", "json")
    assert (ran.code, ran.json["rows"], ran.json["faults"]) == (0, 2, [])
    head = ran.json["head"]
    assert reconcile("audit", "verify", "--head", head).code == 0
    assert [row["actor"] for row in reconcile("audit", "list", "--format", "json").json["rows"]] == ["Ann", "Ann"]
    forge(broken.ledger, "UPDATE audit_log SET actor = 'Eve' WHERE seq = 1")
    ran = reconcile("audit", "verify")
    assert ran.code == 1
    assert "row 1: was changed after it was written" in ran.out


def test_rows_cut_off_at_the_end_are_found_with_the_head_that_was_kept(reconcile: Reconcile, broken: Books) -> None:
    name = str(one_break(reconcile)["break_id"])
    for words in ("one", "two"):
        reconcile("breaks", "note", name, words, "--by", "Ann", *IN_JANUARY)
    head = reconcile("audit", "verify", "--format", "json").json["head"]
    forge(broken.ledger, "DELETE FROM audit_log WHERE seq = 2")
    assert reconcile("audit", "verify").code == 0
    ran = reconcile("audit", "verify", "--head", head)
    assert ran.code == 1
    assert "the head that was given is not in the log" in ran.out


def forge(ledger: Ledger, statement: str) -> None:
    with ledger.together() as tx:
        tx.run(text(statement))
