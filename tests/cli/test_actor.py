"""Whom the audit log names for what was done by command."""

from __future__ import annotations

import getpass
import os
from typing import NoReturn

import pytest

from reconciler.cli.actor import at_the_terminal
from tests.cli.running import run_here


def test_what_is_done_by_command_is_never_put_down_to_root(
    sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LNAME", "nightly")
    monkeypatch.setenv("RECONCILER__LEDGER__URL", sqlite_ledger_url)
    assert run_here("token", "add", "board", "--scope", "status").code == 0
    assert "nightly (command line)" in run_here("audit", "list", "--format", "json").out


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username")])
def test_whoever_has_no_name_is_a_number(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as any number; the command used to end as an error of ours."""

    def nobody() -> NoReturn:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert at_the_terminal() == f"uid {os.getuid()}"
