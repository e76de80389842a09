"""People whom somebody else has logged in: a trusted proxy, or an issuer of OpenID Connect; and users by command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from reconciler.clock import ManualClock
from reconciler.config import Config
from reconciler.console.access.oidc import CALLBACK, Issuer, SingleSignOn
from reconciler.console.access.signing import Signer
from reconciler.errors import UsageError
from reconciler.ledger import Ledger, people
from reconciler.ledger.people import Role
from reconciler.provider import Reply, Request
from tests.cli.conftest import config_file, reconcile  # noqa: F401  # fixtures
from tests.cli.running import Ran
from tests.console.serving import PATIENCE, Served
from tests.console.shop import PASSWORD, config_of

ISSUER = "https://id.example"


# --- a proxy --------------------------------------------------------------------------------------


def behind_proxy(url: str, trusted: str) -> Config:
    section = {"trusted_proxies": [trusted], "proxy_user_header": "X-User", "proxy_role_header": "X-Role"}
    config = config_of(url)
    return Config.model_validate(config.model_dump(exclude={"accounts"}) | {"accounts": {}, "console": section})


def test_a_trusted_proxy_says_who_somebody_is(sqlite_ledger_url: str) -> None:
    with Served(sqlite_ledger_url, config=behind_proxy(sqlite_ledger_url, "127.0.0.0/8")) as console:
        browser = console.client()
        page = browser.get("/console/me", headers={"x-user": "pia", "x-role": "finance"})
        assert (page.status_code, "pia" in page.text, ">finance<" in page.text) == (200, True, True)
        assert ">viewer<" in browser.get("/console/me", headers={"x-user": "pia", "x-role": "root"}).text
        assert browser.get("/console/me").status_code == 303, "it says nobody"
        twice = httpx.get(
            f"{console.base}/console/me", headers=[("x-user", "pia"), ("x-user", "oper")], timeout=PATIENCE
        )
        assert twice.status_code == 303, "one of them came from outside"
        assert browser.post("/console/me/sessions", csrf="x", headers={"x-user": "pia"}).status_code == 403


def test_anybody_elses_headers_mean_nothing(sqlite_ledger_url: str) -> None:
    with Served(sqlite_ledger_url, config=behind_proxy(sqlite_ledger_url, "10.0.0.0/8")) as console:
        answer = console.client().get("/console/me", headers={"x-user": "oper", "x-role": "operator"})
        assert answer.status_code == 303


# --- an issuer ------------------------------------------------------------------------------------


class FakeIssuer:
    """Says what an issuer would, signed with a key of its own; a test bends one thing at a time."""

    def __init__(self, clock: ManualClock) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
        self.clock = clock
        self.claims: dict[str, Any] = {"groups": ["accounting", "party"], "email": "pia@example.com"}
        self.nonce = ""
        self.challenge = ""
        self.signs_with = self.key

    async def send(self, request: Request) -> Reply:
        path = urlsplit(request.url).path
        if path.endswith("openid-configuration"):
            document: dict[str, Any] = {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
            }
        elif path == "/keys":
            document = {"keys": KeySet([self.key]).as_dict(private=False)["keys"]}
        else:
            form = parse_qs((request.content or b"").decode())
            assert form["grant_type"] == ["authorization_code"]
            assert request.headers["authorization"].startswith("Basic ")
            now = int(self.clock.now().timestamp())
            claims = {"iss": ISSUER, "aud": "us", "sub": "1", "iat": now, "exp": now + 300, "nonce": self.nonce}
            token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims | self.claims, self.signs_with)
            document = {"id_token": token, "access_token": "x", "token_type": "Bearer"}
        return Reply(200, {}, orjson.dumps(document))


@pytest.fixture
def issuer(clock: ManualClock) -> FakeIssuer:
    return FakeIssuer(clock)


@pytest.fixture
def sign_on(issuer: FakeIssuer, clock: ManualClock) -> SingleSignOn:
    roles = {"accounting": Role.FINANCE, "on-call": Role.OPERATOR}
    whom = Issuer(ISSUER, "us", "secret", "https://books.example", "email", "groups", roles)
    return SingleSignOn(whom, issuer, clock, Signer(b"k" * 32))


async def begin(sign_on: SingleSignOn, issuer: FakeIssuer) -> tuple[str, str]:
    """(cookie, state), as a browser carries them."""
    begun = await sign_on.begin("/console/breaks")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.location).query).items()}
    assert begun.location.startswith(f"{ISSUER}/authorize?")
    assert asked["redirect_uri"] == f"https://books.example{CALLBACK}"
    assert asked["code_challenge_method"] == "S256"
    issuer.nonce = asked["nonce"]
    return begun.cookie, asked["state"]


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_the_issuers_groups_give_the_role(sign_on: SingleSignOn, issuer: FakeIssuer) -> None:
    async def story() -> None:
        cookie, state = await begin(sign_on, issuer)
        admitted = await sign_on.finish(cookie, state, "code")
        assert (admitted.name, admitted.role, admitted.wanted) == ("pia@example.com", Role.FINANCE, "/console/breaks")

    run(story())


BENT: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "them"},
    "too old": {"exp": 1},
    "another nonce": {"nonce": "x"},
    "no group of ours": {"groups": ["party"]},
    "no groups": {"groups": None},
    "no name": {"email": ""},
    "a mail address that nobody proved": {"email_verified": False},
}


@pytest.mark.parametrize("how", [*BENT, "another key", "another state", "no code", "late", "another browser"])
def test_nobody_gets_in_with_a_bent_answer(
    sign_on: SingleSignOn, issuer: FakeIssuer, clock: ManualClock, how: str
) -> None:
    async def story() -> None:
        cookie, state = await begin(sign_on, issuer)
        issuer.claims |= BENT.get(how, {})
        if how == "another key":
            issuer.signs_with = RSAKey.generate_key(2048, {"kid": "k1"})
        if how == "late":
            clock.advance(timedelta(minutes=11))
        if how == "another browser":
            cookie, _ = await begin(sign_on, issuer)
        with pytest.raises(UsageError):
            await sign_on.finish(cookie, "x" if how == "another state" else state, "" if how == "no code" else "code")

    run(story())


# --- by command -----------------------------------------------------------------------------------


def test_users_come_and_go_by_command(reconcile: Callable[..., Ran], ledger: Ledger) -> None:  # noqa: F811
    added = reconcile("user", "add", "ann", "--role", "finance", stdin=f"{PASSWORD}\n")
    assert (added.code, "ann may log in as finance" in added.err) == (0, True)
    assert reconcile("user", "add", "ann", stdin=f"{PASSWORD}\n").code == 2
    assert reconcile("user", "add", "bo", stdin="short\n").code == 2
    assert reconcile("user", "list", "--format", "json").json["users"][0]["role"] == "finance"
    assert reconcile("user", "role", "ann", "viewer").code == 0
    assert reconcile("user", "passwd", "ann", stdin="another long password\n").code == 0
    with ledger.store.read() as tx:
        user = people.user(tx, "ann")
    assert user is not None
    assert (user.role, PASSWORD in user.password_hash) == (Role.VIEWER, False)
    assert reconcile("user", "remove", "ann").code == 0
    assert reconcile("user", "remove", "ann").code == 2
    assert reconcile("audit", "verify").code == 0


def test_tokens_come_and_go_by_command(reconcile: Callable[..., Ran]) -> None:  # noqa: F811
    made = reconcile("token", "add", "till", "--scope", "expectations", "--expires", "30d")
    assert (made.code, made.out.startswith("rct_")) == (0, True)
    (listed,) = reconcile("token", "list", "--format", "json").json["tokens"]
    assert (listed["name"], listed["scopes"], listed["valid"]) == ("till", ["expectations"], True)
    assert made.out.strip() not in reconcile("token", "list", "--format", "json").out
    assert reconcile("token", "revoke", listed["id"]).code == 0
    assert reconcile("token", "list", "--format", "json").json["tokens"][0]["valid"] is False
    assert reconcile("token", "add", "till", "--scope", "everything").code == 2
