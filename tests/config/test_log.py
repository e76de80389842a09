"""Logs: one JSON object a line where no terminal is, and never a secret."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from reconciler import log
from reconciler.blotting import REDACTED


def logged(**facts: Any) -> dict[str, Any]:
    out = io.StringIO()
    log.configure(stream=out)
    try:
        structlog.get_logger().info("something happened", **facts)
    finally:
        structlog.reset_defaults()
    line: dict[str, Any] = json.loads(out.getvalue())
    return line


SECRETS = [
    "sk_live_51abcDEF",
    "rk_test_51abcDEF",
    "sk_org_live_51abc",
    "whsec_abc/DEF+123=",
    "shpat_0123456789abcdef",
    "shpss_0123456789abcdef",
    "Bearer abcdefgh.ijkl",
]


def test_a_line_is_a_constant_message_and_facts() -> None:
    line = logged(ref="stripe/main/charge/ch_1", version=3)
    assert line["event"] == "something happened"
    assert (line["level"], line["ref"], line["version"]) == ("info", "stripe/main/charge/ch_1", 3)
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_not_logged_wherever_it_stands(secret: str) -> None:
    line = json.dumps(logged(note=f"with {secret} inside", nested={"deep": [{"x": secret}]}, error=ValueError(secret)))
    assert secret not in line
    assert REDACTED in line


@pytest.mark.parametrize("name", ["api_key", "webhook_secrets", "access_token", "Authorization", "password", "Cookie"])
def test_what_is_called_a_secret_is_not_logged_whatever_it_looks_like(name: str) -> None:
    assert "harmless" not in json.dumps(logged(**{name: "harmless"}, inner={name: ["harmless"]}))


def test_the_password_of_a_database_is_not_logged() -> None:
    line = logged(url="postgresql+psycopg://me:hunter2@db.internal/ledger")
    assert line["url"] == f"postgresql+psycopg://{REDACTED}@db.internal/ledger"


def test_references_and_counters_stay_readable() -> None:
    facts = {"ref": "stripe/main/payment_intent/pi_3abc", "lease_token": 17, "charge": "ch_3abc", "risk": "risk_low"}
    line = logged(**facts)
    assert {name: line[name] for name in facts} == facts


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip  # noqa: E501
def test_redacting_any_value_yields_something_that_json_can_hold(value: Any) -> None:
    json.dumps(log.redact(None, "info", {"value": value}))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("out", [io.StringIO(), _Terminal()])
def test_a_traceback_never_shows_local_variables(out: io.StringIO) -> None:
    log.configure(stream=out)
    try:
        _fail_beside_a_secret()
    except ValueError:
        structlog.get_logger().exception("something failed")
    finally:
        structlog.reset_defaults()
    assert "_fail_beside_a_secret" in out.getvalue()
    assert "the reason" in out.getvalue()
    assert "plainsecret" not in out.getvalue()


def _fail_beside_a_secret() -> None:
    body = "plain" + "secret"
    assert body
    raise ValueError("the reason")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_a_line_that_cannot_be_written_is_dropped(error: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    log.configure(stream=Broken())
    try:
        structlog.get_logger().info("something happened")
    finally:
        structlog.reset_defaults()
