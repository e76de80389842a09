"""Single sign-on: OpenID Connect's code flow with PKCE, state and nonce, against one issuer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from reconciler.clock import Clock
from reconciler.console.access.signing import Signer, fresh_token
from reconciler.errors import ProviderError, UsageError
from reconciler.ledger.people import NAME_CHARACTERS, Role
from reconciler.provider import Request, Transport

FLOW: Final = "reconciler_oidc"
"""The cookie that ties an answer of the issuer to the browser that asked."""
FLOW_LASTS: Final = timedelta(minutes=10)
CALLBACK: Final = "/console/oidc/callback"
_FRESH_FOR: Final = timedelta(hours=1)
_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
_LEEWAY_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who is believed about people, and what of their words."""

    url: str
    client_id: str
    client_secret: str
    public_url: str
    """Ours, as browsers see it: where the issuer sends them back."""
    name_claim: str
    role_claim: str
    roles: Mapping[str, Role]
    """By a value of the role claim."""


@dataclass(frozen=True, slots=True)
class Begun:
    location: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Admitted:
    name: str
    role: Role
    wanted: str
    """The page that they came for."""


class SingleSignOn:
    """Raises UsageError, with nothing of a token in it, for whatever does not check."""

    def __init__(self, issuer: Issuer, transport: Transport, clock: Clock, signer: Signer) -> None:
        self._issuer = issuer
        self._transport = transport
        self._clock = clock
        self._signer = signer
        self._known: dict[str, tuple[datetime, dict[str, Any]]] = {}

    async def begin(self, wanted: str) -> Begun:
        found = await self._discovered()
        state, nonce, verifier = fresh_token(), fresh_token(), fresh_token()
        location = prepare_grant_uri(
            str(found["authorization_endpoint"]),
            self._issuer.client_id,
            "code",
            redirect_uri=self._redirect,
            scope="openid email profile",
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        ends = int((self._clock.now() + FLOW_LASTS).timestamp())
        flow = orjson.dumps([state, nonce, verifier, ends, wanted[:1000]])
        return Begun(location, self._signer.sign("oidc", base64.urlsafe_b64encode(flow).decode()))

    async def finish(self, cookie: str, state: str, code: str) -> Admitted:
        begun = self._signer.signed("oidc", cookie[:4000])
        if begun is None:
            raise UsageError("this login was not begun in this browser; begin anew")
        expected, nonce, verifier, ends, wanted = orjson.loads(base64.urlsafe_b64decode(begun))
        if not state or state != expected or self._clock.now().timestamp() > ends or not code:
            raise UsageError("this login is too old, or not the one that was begun here; begin anew")
        claims = await self._claims(await self._id_token(code, verifier), nonce)
        return Admitted(self._name(claims), self._role(claims), wanted)

    # --- inside ---

    @property
    def _redirect(self) -> str:
        return self._issuer.public_url.rstrip("/") + CALLBACK

    async def _id_token(self, code: str, verifier: str) -> str:
        found = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
        }
        # RFC 6749 2.3.1: both halves are form-encoded before they are joined.
        pair = f"{quote(self._issuer.client_id, safe='')}:{quote(self._issuer.client_secret, safe='')}"
        headers = {
            "authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        url = str(found["token_endpoint"])
        answer = await self._asked(Request("POST", url, headers, urlencode(form).encode()))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise UsageError("the issuer gave no ID token for this login")
        return token

    async def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        found = await self._discovered()
        keys = await self._fetched(str(found["jwks_uri"]))
        try:
            decoded = jwt.decode(token, KeySet.import_key_set({"keys": keys["keys"]}), algorithms=_ALGORITHMS)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": self._issuer.url},
                    "aud": {"essential": True, "value": self._issuer.client_id},
                    "exp": {"essential": True},
                    "nonce": {"essential": True, "value": nonce},
                },
                params={"client_id": self._issuer.client_id, "nonce": nonce},
            )
            claims.validate(now=int(self._clock.now().timestamp()), leeway=_LEEWAY_SECONDS)
        except (JoseError, ValueError, KeyError) as error:
            raise UsageError(f"the issuer's word could not be believed ({type(error).__name__})") from None
        except Exception as error:  # authlib's own errors share no base with joserfc's
            if type(error).__module__.split(".")[0] != "authlib":
                raise
            raise UsageError(f"the issuer's word could not be believed ({type(error).__name__})") from None
        return dict(decoded.claims)

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._issuer.name_claim)
        unproved = self._issuer.name_claim == "email" and claims.get("email_verified") is False
        if not isinstance(name, str) or not name.strip() or unproved or len(name) > NAME_CHARACTERS:
            raise UsageError(f"the issuer says no {self._issuer.name_claim} that could be used as a name")
        return name.strip()

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The largest that any of the claim's values gives. Nobody gets in for being known to the issuer alone."""
        given = claims.get(self._issuer.role_claim, [])
        values = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        roles = [self._issuer.roles[each] for each in values if isinstance(each, str) and each in self._issuer.roles]
        if not roles:
            raise UsageError("you are known to the issuer, but nothing that it says of you gives you a role here")
        return max(roles, key=lambda role: role.rank)

    async def _discovered(self) -> dict[str, Any]:
        found = await self._fetched(f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._issuer.url:
            raise UsageError("the issuer calls itself differently than console.oidc_issuer does")
        return found

    async def _fetched(self, url: str) -> dict[str, Any]:
        known = self._known.get(url)
        if known is not None and self._clock.now() - known[0] < _FRESH_FOR:
            return known[1]
        found = await self._asked(Request("GET", url, {"accept": "application/json"}))
        self._known[url] = (self._clock.now(), found)
        return found

    async def _asked(self, request: Request) -> dict[str, Any]:
        try:
            reply = await self._transport.send(request)
            found = orjson.loads(reply.content) if reply.status == 200 else None
        except (ProviderError, orjson.JSONDecodeError) as error:
            raise UsageError("the issuer cannot be reached just now; try again") from error
        if not isinstance(found, dict):
            raise UsageError(f"the issuer answered {reply.status}; begin anew")
        return found
