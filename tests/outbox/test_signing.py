"""What the official verifier of Standard Webhooks says of our signatures; and what an answer means to us."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks

from reconciler.ledger.changes import Change
from reconciler.model import Cause, State
from reconciler.outbox.policy import (
    Again,
    Answered,
    Decision,
    GiveUp,
    NeverAgain,
    NoAnswer,
    Policy,
    Sent,
    decide,
    read_retry_after,
)
from reconciler.outbox.signing import Signer, UnusableSecret, message_id, new_secret
from tests.ledger.factories import NOON, ref, seconds

OLD, NEW = new_secret(), new_secret()
BODY = '{"type":"resource.changed","data":{"name":"Zoë"}}'


def verify(secret: str, body: str, headers: dict[str, str]) -> None:
    standardwebhooks.Webhook(secret).verify(body, headers)


def test_the_official_verifier_accepts_what_is_ours_and_fresh() -> None:
    headers = dict(Signer([NEW]).headers("msg_1", BODY, datetime.now(UTC)))
    verify(NEW, BODY, headers)
    for changed in (
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
        {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
    ):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(NEW, BODY, headers | changed)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verify(NEW, BODY.replace("Zoë", "Zoe"), headers)


@pytest.mark.parametrize("age", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_an_old_one_is_refused(age: timedelta) -> None:
    headers = dict(Signer([NEW]).headers("msg_1", BODY, datetime.now(UTC) - age))
    with pytest.raises(standardwebhooks.WebhookVerificationError, match="too"):
        verify(NEW, BODY, headers)


def test_while_a_secret_is_replaced_both_verify_and_a_retired_one_does_not() -> None:
    now = datetime.now(UTC)
    both = dict(Signer([NEW, OLD]).headers("msg_1", BODY, now))
    assert len(both["webhook-signature"].split(" ")) == 2
    verify(OLD, BODY, both)
    verify(NEW, BODY, both)
    after = dict(Signer([NEW]).headers("msg_1", BODY, now))
    with pytest.raises(standardwebhooks.WebhookVerificationError, match="No matching"):
        verify(OLD, BODY, after)


def test_secrets_are_long_and_base64_and_never_shown() -> None:
    Signer([base64.b64encode(bytes(24)).decode(), "whsec_" + base64.b64encode(bytes(24)).decode().rstrip("=")])
    for wrong in ("whsec_", "whsec_not base64!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(UnusableSecret) as raised:
            Signer([wrong])
        assert wrong.removeprefix("whsec_") not in str(raised.value).replace("whsec_", "") or wrong == "whsec_"
    with pytest.raises(UnusableSecret):
        Signer([])


def test_an_id_stands_for_one_version_told_to_one_subscription() -> None:
    change = Change(1, ref(), 3, State.PRESENT, Cause.WEBHOOK, NOON, ("x",), {})
    again = Change(9, ref(), 3, State.PRESENT, Cause.WEBHOOK, NOON, ("x",), {"later": "redacted"}, position=5)
    assert message_id("erp", change) == message_id("erp", again)
    other_past = Change(1, ref(), 3, State.PRESENT, Cause.WEBHOOK, NOON + seconds(1), ("x",), {})
    ids = {message_id("erp", change), message_id("mail", change), message_id("erp", other_past)}
    assert len(ids) == 3


# --- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "attempts", "days", "decision"),
    [
        (Answered(200), 1, 0, Sent()),
        (Answered(204), 99, 9, Sent()),
        (Answered(410), 1, 0, NeverAgain("answered 410: the subscriber wants nothing more")),
        (Answered(500), 1, 0, Again(seconds(1), "answered 500")),
        (Answered(400), 3, 0, Again(seconds(4), "answered 400")),
        (Answered(301), 1, 0, Again(seconds(1), "answered 301: redirects are not followed")),
        (NoAnswer("too late"), 2, 0, Again(seconds(2), "too late")),
        (Answered(503, seconds(90)), 1, 0, Again(seconds(90), "answered 503", hold=True)),
        (Answered(429, timedelta(days=9)), 1, 0, Again(timedelta(days=1), "answered 429", hold=True)),
        (Answered(404, seconds(90)), 1, 0, Again(seconds(90), "answered 404")),
        (Answered(503, seconds(1)), 11, 0, Again(seconds(1024), "answered 503", hold=True)),
        (Answered(500), 9, 4, Again(seconds(256), "answered 500")),
        (Answered(500), 10, 2.9, Again(seconds(512), "answered 500")),
        (Answered(500), 10, 3, GiveUp("answered 500")),
    ],
)
def test_what_an_answer_means(answer: Answered | NoAnswer, attempts: int, days: float, decision: Decision) -> None:
    tried = NOON - timedelta(days=days)
    assert decide(answer, attempts=attempts, first_tried_at=tried, policy=Policy(), jitter=1.0, now=NOON) == decision


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("120", seconds(120)),
        ("Tue, 05 May 2026 12:01:00 GMT", seconds(60)),
        ("Tue, 05 May 2026 11:00:00 GMT", None),
        ("soon", None),
        ("-5", None),
        ("9" * 400, timedelta(seconds=10**9)),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, wait: timedelta | None) -> None:
    assert read_retry_after(value, NOON) == wait


def test_the_breaker_opens_after_five_failures_and_probes_every_five_minutes() -> None:
    policy = Policy()
    assert [policy.probe_after(failures, 1.0) for failures in (0, 4)] == [None, None]
    assert policy.probe_after(5, 1.0) == seconds(2)
    assert policy.probe_after(500, 1.0) == timedelta(minutes=5)
