"""The command as an operator meets it: a configuration file that points at a fresh ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Ran, run_here


@pytest.fixture
def config_file(tmp_path: Path, ledger_url: str) -> Path:
    path = tmp_path / "reconcile.toml"
    path.write_text(
        f'[ledger]\nurl = "{ledger_url}"\n[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET_ANYWHERE"\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def reconcile(config_file: Path) -> Callable[..., Ran]:
    """Runs the command in this process, on that configuration."""

    def run(*arguments: str, stdin: str | None = None) -> Ran:
        return run_here("--config", str(config_file), *arguments, stdin=stdin)

    return run
