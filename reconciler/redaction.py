"""Carrying out what people asked to be forgotten, a little at a time, so that nobody else has to wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Final

import structlog

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.ledger.redaction import Asked, Done, Keeping, Unreadable
from reconciler.model import Redaction
from reconciler.periodic import Ended, Periodic
from reconciler.provider import Kind

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=1)
_STRETCH: Final = 200
"""Versions in one transaction."""
_DELIVERIES: Final = 500
"""Looked at in one read; few of them are opened."""
_AT_ONCE: Final = 10_000
"""Requests in one run: a person with more payments than that is forgotten by several."""
_BEGINNING: Final = (-(2**63), 0)
_Along = Sequence[tuple[str, str, Sequence[str]]]
"""Which kinds go with another one, that one, and where they name it."""


def keeping_of(kinds: Mapping[str, Kind]) -> Keeping:
    """What survives of the bodies of a provider with these kinds."""
    words = {name: kind.words_kept_when_redacted for name, kind in kinds.items()}
    return Keeping(
        {name: kind.kept_when_redacted for name, kind in kinds.items()},
        {name: pattern for name, pattern in words.items() if pattern is not None},
    )


class Redactor:
    """The redactions of one account name: whatever is stored under it, also from another provider that it was at."""

    def __init__(
        self,
        account: str,
        kinds_of: Callable[[str], Mapping[str, Kind]],
        ledger: GroupCommit,
        clock: Clock,
        *,
        provider: str | None = None,
    ) -> None:
        """`kinds_of`: by the provider's name. Of a provider without kinds nothing survives. `provider`: where the
        account is by the configuration."""
        self._account = account
        self._provider = provider
        self._kinds_of = kinds_of
        self._ledger = ledger
        self._clock = clock

    def periodic(self) -> Periodic:
        return Periodic(f"redact/{self._account}", lambda: EVERY, self.run)

    async def run(self, job: Job) -> Ended:
        """Everything that was asked for until now. One that is interrupted begins anew, and finds less to do.

        What is damaged is gone past, and named with the request that it may belong to. Raises SealedElsewhere where a
        key is missing: what is not done then stays asked for.
        """
        works: defaultdict[Asked, Done] = defaultdict(Done)
        while new := [asked for asked in await self._pending() if asked not in works]:
            along = await self._along()
            for asked in new:
                await self._reach(asked, along, works[asked], job)
        if works:
            await self._empty_unmarked(works, job)
        for asked, done in works.items():
            await self._redact(asked, done, job)
        return Ended(complete=True)

    async def reaches(self, what: Redaction) -> bool:
        """Whether a request for it would find anything. Where it would not, this has looked through as much."""
        if await self._ledger.read(lambda ledger: ledger.redactions.is_stored(self._account, what)):
            return True
        for kind, owner, path in await self._along():
            if owner == what.kind:
                async for named, _ in self._stretches(kind, path, what.id):
                    if named:
                        return True
        return False

    async def _along(self) -> _Along:
        """Of the account's own provider, and of every other of which anything is stored."""

        def providers(ledger: Ledger) -> list[str]:
            own = set() if self._provider is None else {self._provider}
            with ledger.view() as view:
                return sorted(own | {provider for account, provider in view.providers() if account == self._account})

        found = await self._ledger.read(providers)
        kinds = (kind for provider in found for kind in self._kinds_of(provider).values())
        return tuple(dict.fromkeys((kind.name, owner, path) for kind in kinds for owner, path in kind.forgotten_with))

    async def _pending(self) -> list[Asked]:
        return await self._ledger.read(lambda ledger: ledger.redactions.pending(self._account, limit=_AT_ONCE))

    async def _reach(self, asked: Asked, along: _Along, done: Done, job: Job) -> None:
        """Ask for what the request means and does not name, before it is carried out: afterwards nobody would know."""
        for kind, owner, path in along:
            if owner == asked.what.kind:
                also = [Redaction(kind, name) for name in sorted(await self._naming(kind, path, asked, done, job))]
                await self._ask(also, asked.event_id)

    async def _naming(self, kind: str, path: Sequence[str], asked: Asked, done: Done, job: Job) -> set[str]:
        found: set[str] = set()
        async for named, unreadable in self._stretches(kind, path, asked.what.id):
            self._pass_by(unreadable, done)
            now = self._clock.now()
            await self._ledger.call(
                lambda ledger, now=now: ledger.renew_job(job, progress={}, now=now)  # type: ignore[misc]  # mypy does not infer a default's type
            )
            found |= named
        return found

    async def _stretches(self, kind: str, path: Sequence[str], name: str) -> AsyncIterator[tuple[set[str], Unreadable]]:
        """The ids of those that name it inside, one stretch of the kind's versions after the other."""
        after: tuple[int, int] | None = _BEGINNING
        while after is not None:
            since = after
            named, unreadable, after = await self._ledger.read(
                lambda ledger, since=since: ledger.redactions.named_inside(  # type: ignore[misc]  # mypy does not infer a default's type
                    self._account, kind, path, name, after=since, limit=_STRETCH
                )
            )
            yield named, unreadable

    def _pass_by(self, unreadable: Unreadable, done: Done) -> None:
        for name, error in unreadable.items():
            if name not in done.unreadable:
                log.error("a damaged body cannot be redacted", account=self._account, body=name, error=str(error))
        done.unreadable |= unreadable.keys()

    async def _ask(self, also: Sequence[Redaction], event_id: str) -> None:
        now = self._clock.now()
        await self._ledger.call(lambda ledger: ledger.redactions.ask(self._account, also, event_id=event_id, now=now))

    async def _empty_unmarked(self, works: dict[Asked, Done], job: Job) -> None:
        """Deliveries that made no mark, and so are found under no reference. Once for all that was asked for, and
        before any of it is concluded, so that a run that dies half way is begun anew.

        Rejected ones, of which nobody knows whom they speak of, only where a whole shop is forgotten, or somebody of
        whom anything is stored: a name that was mistyped must not cost what tells why deliveries are rejected.
        """
        first = {asked.what.id: done for asked, done in reversed(works.items())}
        known = await self._ledger.read(
            lambda ledger: next(
                (
                    done
                    for asked, done in works.items()
                    if not asked.what.kind or ledger.redactions.is_stored(self._account, asked.what)
                ),
                None,
            )
        )
        after = -1
        while True:
            since, now = after, self._clock.now()
            found, end = await self._ledger.read(
                lambda ledger, since=since: ledger.redactions.unmarked_naming(  # type: ignore[misc]  # mypy does not infer a default's type
                    self._account, first, rejected=known is not None, after=since, limit=_DELIVERIES
                )
            )
            if found:
                await self._ledger.call(lambda ledger, found=found: ledger.redactions.empty_deliveries(found))  # type: ignore[misc]  # mypy does not infer a default's type
            await self._ledger.call(
                lambda ledger, now=now: ledger.renew_job(job, progress={}, now=now)  # type: ignore[misc]  # mypy does not infer a default's type
            )
            for name in found.values():
                if name is not None:
                    first[name].deliveries += 1
                elif known is not None:
                    known.rejected += 1
            if end is None:
                return
            after = end

    async def _redact(self, asked: Asked, done: Done, job: Job) -> None:
        keeping = cache(lambda provider: keeping_of(self._kinds_of(provider)))
        after: tuple[int, int] | None = _BEGINNING
        while after is not None:
            since, now = after, self._clock.now()
            versions, unreadable, after = await self._ledger.call(
                lambda ledger, since=since: ledger.redactions.shrink(  # type: ignore[misc]  # mypy does not infer a default's type
                    asked, keeping, after=since, limit=_STRETCH
                )
            )
            await self._ledger.call(
                lambda ledger, now=now: ledger.renew_job(job, progress={}, now=now)  # type: ignore[misc]  # mypy does not infer a default's type
            )
            done.versions += versions
            self._pass_by(unreadable, done)
        now = self._clock.now()
        deliveries = await self._ledger.call(lambda ledger: ledger.redactions.conclude(asked, done, now))
        log.info(
            "redacted",
            account=self._account,
            kind=asked.what.kind,
            versions=done.versions,
            deliveries=deliveries,
            rejected=done.rejected,
        )
