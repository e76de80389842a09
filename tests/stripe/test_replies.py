"""What each answer of Stripe means: the class of the error is the policy, so the table is the specification."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.stripe.replies import Asked, Missing, understand
from reconciler.errors import (
    AccessDenied,
    AccessScope,
    BadReply,
    OutOfSight,
    ProviderError,
    Throttled,
    ThrottleScope,
    Unavailable,
)
from reconciler.provider import Reply

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_RATES = {"code": "rate_limit", "message": "Too many requests"}


def understood(
    status: int, content: bytes, headers: dict[str, str] | None = None, *, connected: bool = False
) -> object:
    return understand(Reply(status, headers or {}, content), Asked("stripe/main GET /v1/charges/ch_1", connected, NOW))


def refused(
    status: int, error: object, headers: dict[str, str] | None = None, *, connected: bool = False
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        understood(status, orjson.dumps({"error": error}), headers, connected=connected)
    assert "stripe/main GET /v1/charges/ch_1" in str(caught.value)
    return caught.value


def test_good_answer_is_its_object() -> None:
    assert understood(200, b'{"id": "ch_1"}') == {"id": "ch_1"}


def test_only_resource_missing_says_that_something_does_not_exist() -> None:
    error = {"code": "resource_missing", "message": "No such charge: 'ch_1'"}
    assert isinstance(understood(404, orjson.dumps({"error": error})), Missing)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"<html>nginx</html>", b"{}", b"[]", b"null", b'{"error": null}', b'{"error": "not found"}',
        b'{"error": {"message": "Unrecognized request URL (GET: /v1/chargez)."}}',
        b'{"error": {"code": "url_invalid"}}', b'{"error": {"code": "resource_missing"}',
    ],
)  # fmt: skip
def test_404_of_any_other_shape_is_never_a_tombstone(content: bytes) -> None:
    with pytest.raises(BadReply):
        understood(404, content)


@pytest.mark.parametrize(("here", "there"), [("live", "test"), ("test", "live")])
def test_missing_because_the_key_speaks_of_the_other_mode_is_out_of_sight(here: str, there: str) -> None:
    said = f"No such charge: 'ch_1'; a similar object exists in {there} mode, but a {here} mode key was used."
    assert isinstance(refused(404, {"code": "resource_missing", "message": said}), OutOfSight)


def test_401_stops_the_account() -> None:
    error = refused(401, {"message": "Invalid API Key provided: sk_test_51H8abcdefghijk"})
    assert isinstance(error, AccessDenied)
    assert error.scope is AccessScope.ACCOUNT
    assert "51H8" not in str(error)


@pytest.mark.parametrize(
    ("message", "permission"),
    [
        (
            "The provided key 'rk_test_***' does not have the required permissions for this endpoint on account 'a'. "
            "Having the 'rak_charge_read' permission would allow this request to continue.",
            "rak_charge_read",
        ),
        ("This key lacks payout_read.", "payout_read"),
        ("You may not do this.", None),
        ("", None),
    ],
)
def test_403_stops_the_kind_and_names_the_permission(message: str, permission: str | None) -> None:
    error = refused(403, {"message": message})
    assert isinstance(error, AccessDenied)
    assert (error.scope, error.permission) == (AccessScope.KIND, permission)


def test_403_for_the_whole_account_says_so_but_a_connected_ones_is_its_own() -> None:
    own = refused(403, {"code": "account_invalid", "message": "The account was closed"})
    assert isinstance(own, AccessDenied)
    assert own.scope is AccessScope.ACCOUNT
    assert isinstance(refused(403, {"code": "account_invalid", "message": "revoked"}, connected=True), OutOfSight)


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        ("global-rate", ThrottleScope.ACCOUNT),
        ("global-concurrency", ThrottleScope.ACCOUNT),
        ("endpoint-rate", ThrottleScope.ENDPOINT),
        ("endpoint-concurrency", ThrottleScope.ENDPOINT),
        ("resource-specific", ThrottleScope.RESOURCE),
        ("a-reason-of-next-year", ThrottleScope.ACCOUNT),
    ],
)
def test_throttle_stops_what_its_reason_names(reason: str, scope: ThrottleScope) -> None:
    error = refused(429, _RATES, {"stripe-rate-limited-reason": reason})
    assert isinstance(error, Throttled)
    assert (error.scope, error.reason, error.retry_after) == (scope, reason, None)


def test_throttle_without_a_reason_is_a_lock_on_the_one_resource() -> None:
    error = refused(429, {"code": "lock_timeout", "message": "This object cannot be accessed right now"})
    assert isinstance(error, Throttled)
    assert (error.scope, error.reason) == (ThrottleScope.RESOURCE, "lock_timeout")


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("2.5", timedelta(seconds=2.5)),
        ("0", timedelta(0)),
        ("999999999", timedelta(days=1)),
        ("Sat, 21 Nov 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sat, 21 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, wait: timedelta | None) -> None:
    error = refused(429, _RATES, {"stripe-rate-limited-reason": "global-rate", "retry-after": value})
    assert isinstance(error, Throttled)
    assert error.retry_after == wait


def test_retry_after_date_is_measured_by_the_providers_clock_not_ours() -> None:
    headers = {"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}
    error = refused(429, _RATES, {"stripe-rate-limited-reason": "global-rate", **headers})
    assert isinstance(error, Throttled)
    assert error.retry_after == timedelta(seconds=30)


def test_old_form_of_a_rate_limit_is_a_throttle() -> None:
    assert isinstance(refused(400, _RATES), Throttled)


@pytest.mark.parametrize("status", [409, 408, 500, 502, 503, 504, 599])
def test_passing_failures_are_unavailable(status: int) -> None:
    assert isinstance(refused(status, {"message": "try later"}), Unavailable)
    with pytest.raises(Unavailable):
        understood(status, b"<html>bad gateway</html>")


def test_should_retry_makes_a_refusal_pass_and_its_absence_does_not() -> None:
    assert isinstance(refused(400, {"message": "odd"}, {"stripe-should-retry": "true"}), Unavailable)
    assert isinstance(refused(400, {"message": "odd"}, {"stripe-should-retry": "false"}), BadReply)
    assert isinstance(refused(500, {"message": "odd"}, {"stripe-should-retry": "false"}), Unavailable)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 402, 405, 410, 418, 451])
def test_other_refusals_are_bad_replies_with_stripes_words(status: int) -> None:
    error = refused(
        status, {"code": "parameter_unknown", "message": "Received unknown parameter: foo"}, {"request-id": "req_1"}
    )
    assert isinstance(error, BadReply)
    assert "Received unknown parameter: foo" in str(error)
    assert "req_1" in str(error)


@pytest.mark.parametrize("content", [b"", b"  ", b'{"id": "ch_1", "amou', b'{"data": [{"id": 1}', b"["])
def test_answer_that_ends_too_early_may_succeed_later(content: bytes) -> None:
    with pytest.raises(Unavailable):
        understood(200, content)


@pytest.mark.parametrize("content", [b"<html></html>", b"{'id': 1}", b"[]", b"null", b'"text"', b"7", b"\xff{}"])
def test_answer_that_is_no_object_is_a_bad_reply(content: bytes) -> None:
    with pytest.raises(BadReply):
        understood(200, content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "type", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    status=st.integers(200, 599),
    content=st.binary(max_size=60) | _json.map(orjson.dumps),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "date", "stripe-should-retry", "stripe-rate-limited-reason", "request-id"]),
        st.text(max_size=40),
    ),
    connected=st.booleans(),
)
def test_any_answer_ends_in_an_object_a_missing_or_a_provider_error(
    status: int, content: bytes, headers: dict[str, str], connected: bool
) -> None:
    try:
        found = understood(status, content, headers, connected=connected)
    except ProviderError:
        return
    assert (isinstance(found, dict) and 200 <= status < 300) or (isinstance(found, Missing) and status == 404)
