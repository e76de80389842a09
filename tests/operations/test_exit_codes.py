"""Each way in which `reconcile run` ends has the code that docs/operations.md promises to supervisors."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from reconciler.ledger import open_ledger
from tests.cli.running import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()
PATIENCE_SECONDS = 90

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


def start(
    folder: Path, *, ledger: str = "", port: int = 0, provider: str = "stripe", more: str = ""
) -> subprocess.Popen[str]:
    folder.mkdir()
    path = folder / "config.toml"
    url = ledger or f"sqlite:///{folder}/ledger.db"
    path.write_text(_CONFIG.format(ledger=url, port=port, provider=provider) + more)
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", "--config", str(path), "run"],
        cwd=folder,
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


@pytest.mark.long
@pytest.mark.timeout(300)
def test_every_way_to_end_has_its_code(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ways: dict[str, tuple[int, str, Callable[[], tuple[int, str]]]] = {
            "asked": (0, "stopping", lambda: signalled(start(tmp_path / "term"), signal.SIGTERM)),
            "killed": (-9, "", lambda: signalled(start(tmp_path / "kill"), signal.SIGKILL)),
            "configuration": (2, "unknown key", lambda: ended(start(tmp_path / "key", more="[sever]\nport = 1\n"))),
            "schema": (
                2, "upgrade this program", lambda: ended(start(tmp_path / "schema", ledger=newer_schema(tmp_path)))
            ),
            "port": (2, "cannot listen on", lambda: ended(start(tmp_path / "port", port=port))),
            "ledger away": (
                75, "database", lambda: ended(start(tmp_path / "away", ledger="postgresql+psycopg://x@127.0.0.1:9/x"))
            ),
            "our fault": (
                70, "nobody foresaw this",
                lambda: ended(start(tmp_path / "fault", provider="tests.operations.broken:Broken")),
            ),
        }  # fmt: skip
        with ThreadPoolExecutor(2) as pool:
            results = dict(zip(ways, pool.map(lambda way: way[2](), ways.values()), strict=True))
    for name, (code, words, _) in ways.items():
        assert (results[name][0], words in results[name][1]) == (code, True), (name, results[name])
    table = PAGE[PAGE.index("| exit code of") : PAGE.index("**Logs**")]
    documented = {int(each) for each in re.findall(r"^\| (-?\d+)", table, re.MULTILINE)}
    assert documented == {code for code, _, _ in ways.values()}
