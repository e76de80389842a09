"""Signatures: our verdict agrees with the SDK's wherever the SDK has one, and closes what it leaves open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import SignatureVerificationError, WebhookSignature

from providers.stripe.signatures import check
from reconciler.errors import SignatureRejected

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOLERANCE = timedelta(minutes=5)
T = int(NOW.timestamp())
BODY = '{"id": "evt_1", "name": "Zoë"}'
OLD, NEW = "whsec_old", "whsec_new"


def header(secret: str = NEW, at: int = T, body: str = BODY) -> str:
    return str(WebhookSignature.generate_signature_header(body, secret, timestamp=at))


def reason(value: str | None, *, body: bytes = BODY.encode(), secrets: tuple[str, ...] = (OLD, NEW)) -> str:
    try:
        check(value, body, secrets, received_at=NOW, tolerance=TOLERANCE)
    except SignatureRejected as refused:
        return refused.reason
    return "good"


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (header(), "good"),
        (header(OLD), "good"),
        (header().replace(",", ", "), "good"),
        (f"  {header()} ,", "good"),
        (header() + ",v0=" + "0" * 64, "good"),
        (f"t={T},v1={'0' * 64},{header().split(',')[1]}", "good"),
        (f"{header().split(',')[1]},t={T}", "good"),
        (header("whsec_somebody_elses"), "wrong"),
        (header(body=BODY + " "), "wrong"),
        (header(at=T - 300), "good"),
        (header(at=T - 301), "too_old"),
        (header(at=T + 300), "good"),
        (header(at=T + 301), "in_the_future"),
        (header(at=T + 86400 * 365), "in_the_future"),
        (header("whsec_somebody_elses", at=T - 301), "wrong"),
        (header().replace("v1=", "v0="), "malformed"),
        (header().replace("v1=", "V1="), "malformed"),
        (header().upper(), "malformed"),
        (f"t={T}", "malformed"),
        (header().split(",")[1], "malformed"),
        (header().replace(f"t={T}", "t="), "malformed"),
        (header().replace(f"t={T}", f"t=+{T}"), "malformed"),
        (header().replace(f"t={T}", f"t={T}.0"), "malformed"),
        (header().replace(f"t={T}", "t=１７９５２６２４００"), "malformed"),
        (header().replace(f"t={T}", "t=" + "9" * 400), "malformed"),
        (f"t={T - 1}," + header(), "malformed"),
        (header() + (",v1=" + "0" * 64) * 16, "malformed"),
        (header() + "," * 5000, "malformed"),
        ("nonsense", "malformed"),
        ("\x00", "malformed"),
        ("", "missing"),
        ("   ", "missing"),
        (None, "missing"),
    ],
)
def test_verdicts(value: str | None, verdict: str) -> None:
    assert reason(value) == verdict


def test_without_a_secret_nothing_is_good() -> None:
    assert reason(header(), secrets=()) == "no_secret"
    assert reason(header(""), secrets=("",)) == "wrong"
    assert reason(header("  "), secrets=("  ",)) == "wrong"


def test_body_that_is_not_utf8_is_judged_by_its_bytes() -> None:
    assert reason(header(), body=BODY.encode()[:-4] + b"\xff\xff") == "wrong"


@given(body=st.text(), secret=st.sampled_from([OLD, NEW, "whsec_other"]), at=st.integers(T - 600, T + 600))
def test_agrees_with_the_sdk_apart_from_the_bound_on_the_future(body: str, secret: str, at: int) -> None:
    encodable = body.encode(errors="replace")
    value = header(secret, at, encodable.decode())
    try:
        genuine = any(_sdk_accepts(encodable, value, known) for known in (OLD, NEW))
    except UnicodeDecodeError:
        genuine = False
    assert (reason(value, body=encodable) == "good") == (genuine and abs(T - at) <= 300)


def _sdk_accepts(body: bytes, value: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(body, value, secret))
    except SignatureVerificationError:
        return False


@given(value=st.text(max_size=300), body=st.binary(max_size=100))
def test_any_header_and_any_body_end_in_a_verdict(value: str, body: bytes) -> None:
    assert reason(value, body=body) in {"missing", "malformed", "wrong"}
