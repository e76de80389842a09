"""What each answer means: the class of the error is the policy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from providers.shopify.replies import Missing, bucket_of, understand
from reconciler.errors import AccessDenied, AccessScope, BadReply, ProviderError, Throttled, ThrottleScope, Unavailable
from reconciler.provider import Reply
from tests.shopify.server import NOW


def _understand(status: int, content: bytes = b'{"errors": "no"}', **headers: str) -> object:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return understand(Reply(status, sent, content), "shopify/shop GET orders/1", NOW, scope="read_orders")


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (401, b'{"errors": "[API] Invalid API key or access token"}', AccessDenied),
        (402, b'{"errors": "Unavailable Shop"}', AccessDenied),
        (423, b'{"errors": "Locked"}', AccessDenied),
        (403, b'{"errors": "no"}', AccessDenied),
        (301, b"", AccessDenied),
        (404, b"<html>", BadReply),
        (404, b"[]", BadReply),
        (404, b"{}", BadReply),
        (400, b'{"errors": {"page_info": "invalid"}}', BadReply),
        (422, b'{"errors": {"ids": "too many"}}', BadReply),
        (409, b"", Unavailable),
        (500, b"<html>", Unavailable),
        (503, b"", Unavailable),
        (200, b"", Unavailable),
        (200, b'{"orders": [{"id": 1', Unavailable),
        (200, b"<html>", BadReply),
        (200, b"[]", BadReply),
        (200, b"null", BadReply),
    ],
)
def test_an_answer_that_is_no_state_has_a_policy(status: int, content: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error) as raised:
        _understand(status, content)
    assert type(raised.value) is error


def test_not_found_in_shopify_s_words_is_missing() -> None:
    assert isinstance(_understand(404, b'{"errors": "Not Found"}'), Missing)


def test_retry_after_has_decimals() -> None:
    with pytest.raises(Throttled) as raised:
        _understand(429, retry_after="2.5", x_shopify_shop_api_call_limit="40/40")
    assert raised.value.retry_after == timedelta(seconds=2.5)
    assert raised.value.scope is ThrottleScope.ACCOUNT
    assert raised.value.reason == "40/40"


@pytest.mark.parametrize(
    ("value", "wait"),
    [("", None), ("soon", None), ("-1", None), ("9" * 9, timedelta(days=1)),
     ("Sat, 21 Nov 2026 12:00:30 GMT", timedelta(seconds=30))],
)  # fmt: skip
def test_a_strange_retry_after_is_bounded_or_nothing(value: str, wait: timedelta | None) -> None:
    with pytest.raises(Throttled) as raised:
        _understand(429, retry_after=value)
    assert raised.value.retry_after == wait


def test_a_refusal_names_the_scope_that_shopify_named_or_else_the_one_that_is_needed() -> None:
    for content, scope in [
        (b'{"errors": "requires merchant approval for read_customers scope."}', "read_customers"),
        (b'{"errors": "Forbidden"}', "read_orders"),
    ]:
        with pytest.raises(AccessDenied) as raised:
            _understand(403, content)
        assert raised.value.permission == scope
        assert raised.value.scope is AccessScope.KIND


def test_a_token_never_stands_in_a_message() -> None:
    with pytest.raises(AccessDenied) as raised:
        _understand(401, b'{"errors": "the token shpat_0123456789abcdef is revoked"}')
    assert "0123456789" not in str(raised.value)


@pytest.mark.parametrize(("value", "bucket"), [("32/40", 40), ("1/400", 400), ("", None), ("x/y", None), ("0/0", None)])
def test_the_bucket_is_the_denominator(value: str, bucket: int | None) -> None:
    assert bucket_of(Reply(200, {"x-shopify-shop-api-call-limit": value}, b"")) == bucket
