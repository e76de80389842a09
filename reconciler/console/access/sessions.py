"""Sessions: a signed cookie whose token is a row in the ledger, so that it ends when the row does."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from reconciler.clock import Clock
from reconciler.console.access.person import Person
from reconciler.console.access.signing import Signer, digest, fresh_token
from reconciler.console.pen import Pen
from reconciler.ledger import people
from reconciler.ledger.people import Role, Session

COOKIE: Final = "reconciler_session"
_COOKIE_CHARACTERS: Final = 200
_ADDRESS_CHARACTERS: Final = 64
_TOUCH_EVERY: Final = timedelta(minutes=1)
"""A session in use is written down as such this often, not at every request."""


class Sessions:
    """`length`: how long after the login a session ends in any case; `idle`: after how long without a request."""

    def __init__(self, pen: Pen, clock: Clock, signer: Signer, *, length: timedelta, idle: timedelta) -> None:
        self._pen = pen
        self._clock = clock
        self._signer = signer
        self.length = length
        self._idle = idle

    async def begin(self, name: str, role: Role, method: str, address: str) -> str:
        """Log somebody in; the cookie's value. A new token each time: nobody can be given one beforehand."""
        token, now = fresh_token(), self._clock.now()
        opened = Session(digest(token), name, role, method, now, now + self.length, now, address[:_ADDRESS_CHARACTERS])
        await self._pen.write(lambda tx: people.open_session(tx, opened))
        return self._signer.sign("session", token)

    async def find(self, cookie: str) -> Person | None:
        """Who holds this cookie; None: nobody, or not any more. A forged one never reaches the ledger."""
        token = self._signer.signed("session", cookie) if len(cookie) <= _COOKIE_CHARACTERS else None
        if token is None:
            return None
        token_hash, now = digest(token), self._clock.now()
        found = await self._pen.read(lambda tx: people.session(tx, token_hash, now))
        if found is None or now - found.seen_at > self._idle:
            return None
        if now - found.seen_at > _TOUCH_EVERY:
            await self._pen.write(lambda tx: people.touch_session(tx, token_hash, now))
        return Person(found.user, found.role, found.method, self._signer.mark("form", token_hash), found)

    async def end(self, person: Person) -> None:
        found = person.session
        if found is not None:
            await self._pen.write(lambda tx: people.end_session(tx, found.token_hash))

    async def end_all(self, name: str) -> int:
        return await self._pen.write(lambda tx: people.end_sessions_of(tx, name))
