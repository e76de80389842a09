"""Each way in which `reconcile run` ends has the code that docs/operations.md promises to supervisors."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from reconciler.ledger import open_ledger
from tests.cli.running import ROOT, run_here

PAGE = (ROOT / "docs" / "operations.md").read_text()
PATIENCE_SECONDS = 180

_CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = {port}
[accounts.main]
provider = "{provider}"
api_key = "env:KEY"
base_url = "http://127.0.0.1:9"
"""


def configured(folder: Path, *, ledger: str = "", port: int = 0, provider: str = "stripe", more: str = "") -> Path:
    folder.mkdir()
    path = folder / "config.toml"
    url = ledger or f"sqlite:///{folder}/ledger.db"
    path.write_text(_CONFIG.format(ledger=url, port=port, provider=provider) + more)
    return path


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", "--config", str(config), "run"],
        cwd=config.parent,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "KEY": "rk_test_x"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    return process.returncode, said


def signalled(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Once it runs."""
    assert process.stderr is not None
    line = next((line for line in process.stderr if '"running"' in line), None)
    assert line is not None, "it ended before it ran"
    process.send_signal(number)
    return ended(process)


def newer_schema(folder: Path) -> str:
    url = f"sqlite:///{folder}/newer.db"
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        with ledger.together() as tx:
            tx.run(text("UPDATE alembic_version SET version_num = 'of tomorrow'"))
    return url


def junk(folder: Path) -> str:
    """What no restart ever mends."""
    (folder / "junk.db").write_bytes(b"this is no database" * 100)
    return f"sqlite:///{folder}/junk.db"


def refused(config: Path) -> tuple[int, str]:
    """In this process: what the command gives to its interpreter as the exit code."""
    ran = run_here("--config", str(config), "run")
    return ran.code, ran.err


@pytest.mark.long
def test_every_way_to_end_has_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "rk_test_x")
    broken = "tests.operations.broken:Broken"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ways: dict[str, tuple[int, str, Callable[[Path], tuple[int, str]]]] = {
            "asked": (0, "stopping", lambda folder: signalled(start(configured(folder)), signal.SIGTERM)),
            "killed": (-9, "", lambda folder: signalled(start(configured(folder)), signal.SIGKILL)),
            "our fault": (
                70, "nobody foresaw this", lambda folder: ended(start(configured(folder, provider=broken)))
            ),
            "configuration": (
                2, "unknown key", lambda folder: refused(configured(folder, more="[sever]\nport = 1\n"))
            ),
            "schema": (
                2, "upgrade this program", lambda folder: refused(configured(folder, ledger=newer_schema(tmp_path)))
            ),
            "no ledger": (
                2, "damaged or no database", lambda folder: refused(configured(folder, ledger=junk(tmp_path)))
            ),
            "port": (2, "cannot listen on", lambda folder: refused(configured(folder, port=port))),
            "ledger away": (
                75, "database", lambda folder: refused(configured(folder, ledger="postgresql+psycopg://x@127.0.0.1:9/x"))
            ),
        }  # fmt: skip
        for name, (code, words, ended_so) in ways.items():
            ended_with, said = ended_so(tmp_path / name.replace(" ", "_"))
            assert (ended_with, words in said) == (code, True), (name, ended_with, said)
    table = PAGE[PAGE.index("| exit code of") : PAGE.index("**Logs**")]
    documented = {int(each) for each in re.findall(r"^\| (-?\d+)", table, re.MULTILINE)}
    assert documented == {code for code, _, _ in ways.values()}


@pytest.mark.long
def test_a_port_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """By the process before, for one, which still finishes: after exit code 2 a supervisor would not start it again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(configured(tmp_path / "held", port=taken.getsockname()[1]))
        assert process.stderr is not None
        line = next((line for line in process.stderr if "waiting" in line), None)
    try:
        assert line is not None, "it ended instead"
        code, said = signalled(process, signal.SIGTERM)
    finally:
        process.kill()
    assert (code, "stopping" in said) == (0, True)


@pytest.mark.long
def test_who_waits_for_a_port_can_be_stopped(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(configured(tmp_path / "held", port=taken.getsockname()[1]))
        try:
            assert process.stderr is not None
            assert any("waiting" in line for line in process.stderr), "it ended instead"
            process.send_signal(signal.SIGTERM)
            code, _ = ended(process)
        finally:
            process.kill()
    assert code == 0
