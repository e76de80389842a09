"""The command itself: help, options before and after, exit codes, and errors in one clear line."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import __version__
from reconciler.cli.options import FLAGS, WITH_VALUE, hoist
from reconciler.cli.table import COMMANDS
from tests.cli.running import ROOT, Ran, run_apart, run_here

Reconcile = Callable[..., Ran]


def test_help_lists_every_command_with_its_line() -> None:
    ran = run_here("--help")
    assert ran.code == 0
    for name, line in COMMANDS.items():
        assert name in ran.out
        assert line.help.split(",")[0].split(":")[0] in ran.out.replace("\n", " ")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_loads_and_explains_itself_with_an_example(name: str) -> None:
    ran = run_here(name, "--help")
    assert ran.code == 0
    assert f"reconcile {name}" in ran.out
    examples = re.search(r"\n  Examples: .*?\n\n", ran.out, re.DOTALL)
    assert examples, "they begin a paragraph"
    assert all(re.search(r"\breconcile\b", line) for line in examples[0].split("\n")[1:-2]), examples[0]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_line_in_the_table_is_the_commands_own_first_sentence(name: str) -> None:
    own = " ".join(run_here(name, "--help").out.split())
    assert COMMANDS[name].help.split(":")[0].split(";")[0].rstrip(".") in own or name == "dead-letters"


def test_help_does_not_wait_for_the_database_libraries() -> None:
    """What would make `--help` slow is what it imports; that is checked instead of the clock."""
    code = (
        "import sys; from reconciler.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'sqlmodel', 'alembic', 'stripe', 'pydantic', 'structlog', 'apscheduler', 'httpx'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=180
    )
    assert ran.stdout.strip().splitlines()[-1] == "LOADED []"


def test_the_version_is_printed() -> None:
    assert run_here("--version") == Ran(0, f"{__version__}\n", "")
    assert run_here("status", "--version") == Ran(0, f"{__version__}\n", "")


def test_without_a_command_the_help_is_shown() -> None:
    assert "Usage:" in run_here().out


def test_a_mistyped_command_is_told_the_nearest() -> None:
    ran = run_here("stauts")
    assert (ran.code, ran.out) == (2, "")
    assert "Did you mean 'status'?" in ran.err


@pytest.mark.parametrize("arguments", [["--format", "json", "status"], ["status", "--format", "json"]])
def test_global_options_stand_before_or_after_the_command(reconcile: Reconcile, arguments: list[str]) -> None:
    ran = reconcile(*arguments)
    assert ran.code == 0
    assert ran.json["resources"]["total"] == 0


def test_a_format_that_the_command_does_not_know_is_refused(reconcile: Reconcile) -> None:
    ran = reconcile("status", "--format", "xlsx")
    assert (ran.code, ran.out) == (2, "")
    assert "--format xlsx: this command knows table, json" in ran.err


PLAIN = st.sampled_from(["status", "show", "--as-of", "-", "x", "2h", "--strict"])
GLOBAL = st.sampled_from([["--config", "a.toml"], ["--config=a.toml"], ["--format", "json"], ["--verbose"]])


@given(st.lists(PLAIN, max_size=5), st.lists(GLOBAL, max_size=4), st.data())
def test_hoisting_moves_the_global_options_and_nothing_else(
    plain: list[str], options: list[list[str]], data: st.DataObject
) -> None:
    mixed: list[list[str]] = [[each] for each in plain]
    places = sorted(data.draw(st.integers(0, len(mixed))) for _ in options)
    for option, place in reversed(list(zip(options, places, strict=True))):
        mixed.insert(place, option)
    hoisted = hoist([word for words in mixed for word in words])
    front = [word for option in options for word in option]
    assert hoisted == [*front, *plain]


def test_after_two_dashes_nothing_is_hoisted() -> None:
    assert hoist(["mark", "--verbose", "--", "--config", "x"]) == ["--verbose", "mark", "--", "--config", "x"]
    assert hoist(["status", "--config"]) == ["--config", "status"]
    assert {"--config", "--format"} == WITH_VALUE
    assert {"--verbose", "--version"} == FLAGS


# --- in a process of its own ----------------------------------------------------------------------


def test_a_broken_configuration_stops_every_command_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nprot = 1\n", encoding="utf-8")
    ran = run_apart("status", folder=tmp_path)
    assert ran == Ran(2, "", "reconcile: server.prot (config.toml, line 2): unknown key; did you mean 'port'?\n")


def test_a_traceback_is_shown_only_on_request(tmp_path: Path) -> None:
    ran = run_apart("status", "--config", "absent.toml", folder=tmp_path)
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "reconcile: absent.toml does not exist; name the file with --config, or copy config.toml"
    ]
    assert "Traceback" in run_apart("status", "--config", "absent.toml", "--verbose", folder=tmp_path).err


@pytest.mark.parametrize("at_once", ["", "1"], ids=["held until the end", "written at once"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_an_output_on_a_full_disk_is_no_error_of_ours(config_file: Path, at_once: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = _status(config_file, full, PYTHONUNBUFFERED=at_once)
    assert ran.returncode == 2
    assert ran.stderr.startswith("reconcile: the output cannot be written: No space left on device; make room")


def test_who_reads_no_further_than_he_wants_is_told_nothing(config_file: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        ran = _status(config_file, closed, "--format", "json", PYTHONUNBUFFERED="")
    assert (ran.returncode, ran.stderr) == (1, ""), "as everything that is built with click ends then"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "2>&-", "<&- >&- 2>&-"])
def test_who_closes_an_output_wants_nothing_from_it(config_file: Path, closed: str) -> None:
    """Neither an error of ours, nor talk among the data, nor an output's number for the ledger's file."""
    command = f'exec "$0" -m reconciler --config "$1" status --format json {closed}'
    ran = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(config_file)],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (_status(config_file, subprocess.DEVNULL).returncode, "")
    assert bool(ran.stdout) == (closed == "2>&-")


def _status(
    config_file: Path, output: IO[bytes] | int, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler", "--config", str(config_file), "status", *options],
        cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, timeout=180, check=False,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("breaks", "list", "--status", "nope"), "Invalid value for '--status': 'nope' is not one of 'break'"),
        (("changes", "--limit", "-1"), "Invalid value for '--limit': expected greater than or equal to 0"),
        (
            ("breaks", "list", "--type", "nope"),
            "--type nope: there is no such type of break; known are MISSING_IN_STRIPE",
        ),
        (("--account", "main"), "a backfill needs to know where to begin"),
        (("--yes",), "a backfill needs to know where to begin"),
        (("--account", "main", "report"), "what stands before 'report' belongs to a backfill; write it behind"),
        (("--kind", "charge", "changes"), "write it behind 'changes'"),
        (("--since", "2h", "status"), "--since is a command of its own; leave out 'status'"),
    ],
)
def test_what_cannot_be_meant_is_said_in_our_words(config_file: Path, arguments: tuple[str, ...], said: str) -> None:
    """An account before the command narrowed nothing down: the report was of all of them, and nobody noticed."""
    ran = run_here("--config", str(config_file), *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())
    assert "Value error" not in ran.err


def test_the_configuration_is_found_by_its_variable_and_overridden_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    environment = {
        "RECONCILER_CONFIG": str(tmp_path / "elsewhere.toml"),
        "RECONCILER__LEDGER__URL": f"sqlite:///{tmp_path}/own.db",
    }
    ran = run_apart("migrate", "--format", "json", folder=tmp_path, environment=environment)
    assert (ran.code, ran.json["changed"]) == (0, True)
    assert (tmp_path / "own.db").exists()


def test_a_ledger_that_does_not_exist_is_not_made_by_looking_at_it(tmp_path: Path) -> None:
    ran = run_apart("status", folder=tmp_path)
    assert ran.code == 2
    assert "there is no ledger at sqlite:///reconciler.db yet; `reconcile run` creates it" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_not_a_ledger_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "reconciler.db") as other:
        other.execute("CREATE TABLE customers (id INTEGER)")
    other.close()
    ran = run_apart("mark", "x/y/z/1", folder=tmp_path)
    assert ran.code == 2
    assert "holds tables that are not a ledger; point ledger.url at an empty database" in ran.err


def test_the_story_of_a_mark_in_processes_of_their_own(tmp_path: Path) -> None:
    """Made, marked, seen dirty: each step another process, as on an operator's shell."""
    (tmp_path / "config.toml").write_text(
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET"\n', encoding="utf-8"
    )
    assert run_apart("migrate", folder=tmp_path).code == 0
    refs = "stripe/main/charge/ch_1\nstripe/main/charge/ch_2\n\nstripe/main/charge/ch_1\n"
    marked = run_apart("mark", "-", "--format", "json", folder=tmp_path, stdin=refs)
    assert marked.json == {"marked": ["stripe/main/charge/ch_1", "stripe/main/charge/ch_2"]}
    status = run_apart("status", "--format", "json", folder=tmp_path).json
    assert (status["resources"]["total"], status["resources"]["dirty"]) == (2, 2)
    assert run_apart("status", "--strict", folder=tmp_path).code == 3
