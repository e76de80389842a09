"""Every command in README.md's shell blocks runs, as it stands; against the sandbox where it needs Stripe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from reconciler.cli.table import COMMANDS
from reconciler.config import load
from reconciler.demo.children import reserved_port
from reconciler.loading import load_accounts
from tests.databases import Postgres

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text()
SECRET = "whsec_of_the_readme"
LINES = [
    line.strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
LASTING = ("reconcile run", "reconcile sandbox")
"""Commands that run until they are stopped."""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.fixture
def command_folder(tmp_path: Path) -> Path:
    """A folder with the README's own config.toml, and a `reconcile` on the path that is this tree's."""
    config, _ = blocks("toml")
    (tmp_path / "config.toml").write_text(config)
    tool = tmp_path / "bin" / "reconcile"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n')
    tool.chmod(0o755)
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), **more}


@contextmanager
def lasting(line: str, folder: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A line of the page that runs until SIGTERM, and then ends well."""
    running = subprocess.Popen(
        ["sh", "-c", f"exec {line}" if "=" not in line.split()[0] else f"exec env {line}"],
        cwd=folder, env=dict(variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=180)
    assert running.returncode == 0, told


def until(running: subprocess.Popen[str], words: str) -> None:
    assert running.stderr is not None
    told = []
    for line in running.stderr:
        told.append(line)
        if words in line:
            return
    raise AssertionError("".join(told))


def ran(line: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=dict(variables), text=True, capture_output=True, timeout=180, check=False
    )


def test_every_line_of_the_page_is_run_by_a_test_here() -> None:
    assert {line.split()[0] for line in LINES} == {"make", "export", "reconcile", POSTGRES_LINE.split()[0]}
    assert len(BRIEF_LINES) + len(MAKE_LINES) + 4 == len(LINES), LINES


MAKE_LINES = [line for line in LINES if line.startswith("make ")]
(POSTGRES_LINE,) = [line for line in LINES if line.startswith("RECONCILER__")]
(SANDBOX_LINE,) = [line for line in LINES if line.startswith("reconcile sandbox")]
BRIEF_LINES = [line for line in LINES if line.startswith("reconcile ") and not line.startswith(LASTING)]


@pytest.fixture
def port() -> Iterator[int]:
    """Nobody listens there, unless the test does."""
    with reserved_port() as port:
        yield port


@pytest.mark.parametrize("line", MAKE_LINES)
def test_make_knows_its_targets(line: str) -> None:
    """Only what they would run: `make test` would run this again; continuous integration runs both."""
    told = subprocess.run(
        [*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert told.returncode == 0, told.stderr
    assert {"make demo": "/reconcile demo", "make test": "-m pytest"}[line] in told.stdout


@pytest.mark.long
def test_first_account_in_five_minutes_goes_as_told(command_folder: Path, port: int) -> None:
    """The sandbox's line, then the page's configuration and commands, with what the sandbox said to put where."""
    told_to_send = SANDBOX_LINE.replace("12111", "0").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    plain = environment(command_folder)
    sender = f"{told_to_send} --secret {SECRET}".replace("--send-test-events 3", "")
    with lasting(sender, command_folder, plain) as sandbox:
        assert sandbox.stdout is not None
        ready = orjson.loads(sandbox.stdout.readline())
        variables = environment(
            command_folder,
            STRIPE_API_KEY=ready["api_key"],
            STRIPE_WEBHOOK_SECRET=ready["secret"],
            RECONCILER__SERVER__PORT=str(port),
            RECONCILER__ACCOUNTS__MAIN__BASE_URL=ready["url"],
        )
        with lasting("reconcile run", command_folder, variables) as daemon:
            until(daemon, '"running"')
            sent = httpx.post(f"{ready['url']}/_sandbox/send_test_event", timeout=180).json()
            assert {each["standing"] for each in sent["deliveries"]} == {"delivered"}
            for line in BRIEF_LINES:
                done = ran(line, command_folder, variables)
                assert done.returncode in (0, 3), f"{line}: {done.stderr}"
                assert done.stdout.strip(), line


@pytest.mark.long
def test_sandbox_sends_test_events_and_says_how_they_were_answered(command_folder: Path, port: int) -> None:
    """Its line as it stands, but for the port; nobody listens, and it says so."""
    line = SANDBOX_LINE.replace("12111", "0").replace(":8080", f":{port}")
    with lasting(line, command_folder, environment(command_folder)) as sandbox:
        until(sandbox, "payment_intent.succeeded: waiting")


@pytest.mark.long
def test_line_for_postgres_runs(command_folder: Path, postgres: Postgres, port: int) -> None:
    name = postgres.create()
    try:
        line = POSTGRES_LINE.replace("postgresql+psycopg://user@host/database", f"'{postgres.url(name)}'")
        keys = {"STRIPE_API_KEY": "sk_test_x", "STRIPE_WEBHOOK_SECRET": SECRET, "RECONCILER__SERVER__PORT": "0"}
        nowhere = {"RECONCILER__ACCOUNTS__MAIN__BASE_URL": f"http://127.0.0.1:{port}"}
        with lasting(line, command_folder, environment(command_folder, **keys, **nowhere)) as daemon:
            until(daemon, '"running"')
    finally:
        postgres.drop(name)


def test_accounts_of_the_page_are_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("\n".join(blocks("toml")))
    config = load(path, dict.fromkeys(re.findall(r"env:(\w+)", path.read_text()), "x"))
    assert [account.provider.name for account in load_accounts(config).values()] == ["stripe", "shopify"]


def test_table_of_commands_is_complete() -> None:
    named = set(re.findall(r"`reconcile ([a-z][a-z-]*)", PAGE))
    assert named == set(COMMANDS)


def test_every_path_and_link_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / target).exists(), target
