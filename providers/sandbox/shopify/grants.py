"""Who may ask: static tokens, tokens for a day, and tokens for an hour whose refresh tokens rotate."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson

from providers.sandbox.answers import Answer, Call
from providers.sandbox.dice import Dice
from reconciler.clock import Clock

_DAY = timedelta(seconds=86_399)
_HOUR = timedelta(hours=1)


class Grants:
    def __init__(
        self, clock: Clock, *, token: str, client_id: str, client_secret: str, scopes: tuple[str, ...]
    ) -> None:
        self._clock = clock
        self._client = (client_id, client_secret)
        self._scopes = scopes
        self._dice = Dice(token, client_id)
        self._tokens: dict[str, datetime | None] = {token: None}
        self._refresh: dict[str, str | None] = {}
        """Refresh tokens that are good, each with the access token whose first use ends the one before it."""
        self.granted = 0
        """How many tokens were given out."""

    def first_refresh_token(self) -> str:
        """What an installation hands out."""
        token = f"shprt_{self._dice.text(24)}"
        self._refresh[token] = None
        return token

    def issue(self, token: str, *, until: datetime | None = None) -> None:
        """A token that somebody made by hand; `until` in the past: one that has expired."""
        self._tokens[token] = until

    def revoke(self, token: str) -> None:
        self._tokens.pop(token, None)

    def revoke_all(self) -> None:
        """The app was uninstalled."""
        self._tokens.clear()
        self._refresh.clear()

    def knows(self, token: str) -> bool:
        if token not in self._tokens:
            return False
        end = self._tokens[token]
        if end is not None and end <= self._clock.now():
            return False
        # The new pair is in use, so the refresh token that brought it is spent.
        for spent in [old for old, access in self._refresh.items() if access == token]:
            del self._refresh[spent]
        return True

    def grant(self, call: Call) -> Answer:
        try:
            asked = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            return _refused("invalid_request")
        if (asked.get("client_id"), asked.get("client_secret")) != self._client:
            return _refused("application_cannot_be_found")
        match asked.get("grant_type"):
            case "client_credentials":
                return self._give(_DAY, None)
            case "refresh_token" if asked.get("refresh_token") in self._refresh:
                return self._give(_HOUR, asked["refresh_token"])
            case _:
                return _refused("invalid_grant")

    def _give(self, life: timedelta, spent: str | None) -> Answer:
        self.granted += 1
        access = f"shpat_{self._dice.text(32)}"
        self._tokens[access] = self._clock.now() + life
        body = {"access_token": access, "scope": ",".join(self._scopes), "expires_in": int(life.total_seconds())}
        if spent is not None:
            following = f"shprt_{self._dice.text(24)}"
            self._refresh[following] = None
            # Since 2026-08-28 the one before stays good until the new pair is used.
            self._refresh[spent] = access
            body |= {"refresh_token": following, "refresh_token_expires_in": 7_776_000}
        return Answer(200, orjson.dumps(body), {"content-type": "application/json"})


def _refused(error: str) -> Answer:
    return Answer(400, orjson.dumps({"error": error}), {"content-type": "application/json"})
