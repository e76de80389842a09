"""Storms: "does not exist", answered for too many resources at once, as a wrong key answers for everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from reconciler.clock import Clock
from reconciler.health import STORM_LEAST, STORM_PERIOD, Health, storm_limit
from reconciler.ledger import GATE_STORM, Claim, Gate, GroupCommit, Ledger, Mark
from reconciler.model import Cause, Finding, Reading, ResourceRef, Severity, State, Tombstone
from reconciler.planner import WITNESSES_GO
from reconciler.provider import Kind

STORM_WAIT: Final = timedelta(minutes=15)
"""How long a "missing" that is not believed rests before it is asked again."""

_WITNESSES: Final = 6
_OF_A_KIND: Final = 2
_LONGEST: Final = timedelta(days=1)
_YOUNG: Final = timedelta(days=30)
"""How old a witness may be: credentials may see nothing that is much older."""

log = structlog.get_logger(__name__)


class Storms:
    """Of one account."""

    def __init__(
        self, account: str, kinds: Mapping[str, Kind], ledger: GroupCommit, clock: Clock, health: Health
    ) -> None:
        self._account = account
        parts = {part for kind in kinds.values() if kind.deletable for part in kind.covers}
        self._lasting = [
            kind.name
            for kind in kinds.values()
            if not kind.deletable and kind.singleton is None and kind.name not in parts
        ]
        self._ledger = ledger
        self._clock = clock
        self._health = health
        self._witnesses: tuple[datetime, frozenset[ResourceRef]] | None = None
        """Of the storm that began then: it is asked once, for all that is recent has to be looked through."""

    async def refused(self, pairs: Sequence[tuple[Claim, Reading]]) -> list[Claim]:
        """The claims whose tombstones cannot be believed."""
        news = [claim for claim, r in pairs if isinstance(r, Tombstone) and claim.state is not State.DELETED]
        if not news:
            return []
        now = self._clock.now()
        missing = self._health.missing((claim.ref for claim in news if claim.state is State.PRESENT), now)
        gates = await self._ledger.read(lambda ledger: ledger.gates())
        raging = any(gate.account == self._account and gate.reason == GATE_STORM for gate in gates)
        if not raging and (missing <= STORM_LEAST or missing <= await self._ledger.read(self._limit)):
            return []
        if not raging:
            await self._raise(missing, now)
        return news

    async def ended_by(self, there: Collection[ResourceRef], gate: Gate) -> bool:
        """Whether reading these shows that the key is the account's own.

        A resource that is there shows it only if it was ours before: the lists of another account brought in what is
        there under its key, and every account has a balance. After a day anything that is there is believed: whatever
        was wrong has been told for as long, and witnesses may be gone in a way that no kind tells.
        """
        now = self._clock.now()
        if not there or now - gate.opened_at >= _LONGEST:
            return bool(there)
        witnesses = await self._known_before(gate.opened_at)
        return not witnesses or not witnesses.isdisjoint(there)

    async def _known_before(self, began: datetime) -> frozenset[ResourceRef]:
        """What cannot have been deleted, and was known before anything that a wrong key may have brought: nothing in a
        ledger that is still young, or of an account of which nothing is."""
        if self._witnesses is None or self._witnesses[0] != began:
            found = await self._ledger.read(
                lambda ledger: ledger.longest_known(
                    self._account, self._lasting, since=began - _YOUNG, before=began - STORM_PERIOD, each=_OF_A_KIND,
                    limit=_WITNESSES,
                )
            )  # fmt: skip
            self._witnesses = began, frozenset(found)
        return self._witnesses[1]

    def _limit(self, ledger: Ledger) -> int:
        with ledger.view() as view:
            counted = (each for each in view.holdings() if each.account == self._account)
            return storm_limit(sum(each.present for each in counted if self._health.counts(each.kind)))

    async def _raise(self, missing: int, now: datetime) -> None:
        """The gate is left ajar: one read at a time goes on, because what was deleted in earnest must not hold up
        payments. The first witness that is there lifts it, and all of them are asked for."""
        text = f"{missing} resources that were present answered 'missing' within ten minutes; none is believed"
        finding = Finding(
            code=GATE_STORM,
            severity=Severity.ERROR,
            account=self._account,
            text=text,
            remedy="check that the key belongs to this account and mode (live or test); reading resumes by itself",
        )

        witnesses = sorted(await self._known_before(now), key=str)

        def act(ledger: Ledger) -> None:
            ledger.gate(self._account, "", reason=GATE_STORM, note=text, until=now, now=now)
            ledger.note_findings(self._account, [finding], codes=frozenset({GATE_STORM}), now=now)
            ledger.mark([Mark(ref, Cause.SWEEP, priority=WITNESSES_GO) for ref in witnesses], now)

        await self._ledger.call(act)
        log.error("too many resources missing at once", account=self._account, missing=missing)
