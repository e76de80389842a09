"""What a simulation holds the ledger to: the promises of docs/guarantees.md, after every commit and inside every act.

Triggers in the ledger's own database say which rows a commit touched, so that each look costs only what happened. A
violation is noted, never raised: the code under test catches exceptions, and must not be able to catch this one.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Any

import orjson

from reconciler.clock import to_micros
from reconciler.ledger.codec import unpack
from reconciler.ledger.facts import entry_row
from reconciler.loading import Remembering
from reconciler.model import ResourceRef
from reconciler.provider import Provider
from tests.ledger.promises import broken_row, broken_versions
from tests.simulation.feed import FeedOracle
from tests.simulation.listening import SIGNING_SECRET, SUBSCRIPTIONS
from tests.simulation.loop import EPOCH, SimulatedLoop
from tests.simulation.scenario import Scenario
from tests.simulation.shop import GONE, Shop, Told

_COLUMNS = (
    "id, account, kind, remote_id, generation, settled_generation, due_at, not_before, lease_token, lease_until,"
    " attempts, dead_at, state, version, content_hash, applied_seq"
)
_LONGEST_SLEEP = timedelta(days=1)
"""No wait that the product knows comes near it here, not even by a clock that was put forward once or twice."""
_TRIGGERS = """
CREATE TEMP TRIGGER noted_insert AFTER INSERT ON main.resource BEGIN SELECT note_resource(NEW.id); END;
CREATE TEMP TRIGGER noted_update AFTER UPDATE ON main.resource BEGIN SELECT note_resource(NEW.id); END;
CREATE TEMP TRIGGER kept_rows AFTER DELETE ON main.resource BEGIN SELECT note_broken('a resource was deleted'); END;
CREATE TEMP TRIGGER kept_versions AFTER UPDATE ON main.version BEGIN SELECT note_broken('a version was rewritten'); END;
CREATE TEMP TRIGGER kept_history AFTER DELETE ON main.version BEGIN SELECT note_broken('a version was deleted'); END;
CREATE TEMP TRIGGER logged AFTER INSERT ON main.delivery WHEN NEW.event_id IS NOT NULL
  BEGIN SELECT note_delivery(NEW.event_id, NEW.verdict); END;
CREATE TEMP TRIGGER missed AFTER INSERT ON main.missed_event BEGIN SELECT note_missed(NEW.event_id); END;
"""


@dataclass(slots=True)
class _Known:
    """What the oracle saw of a row when it last looked."""

    row: Mapping[str, Any] = field(default_factory=dict)
    versions: list[tuple[Any, ...]] = field(default_factory=list)


class Oracle:
    """Belongs to one simulation; reads the ledger's database by the same connection, between and inside commits."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, shop: Shop, database: sqlite3.Connection) -> None:
        self._scenario = scenario
        self._loop = loop
        self._shop = shop
        self._history = shop.history
        self._database = database
        self._known: dict[int, _Known] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._touched: set[int] = set()
        self._events: dict[str, None] = {}
        self.announced: dict[tuple[str, str], int] = {}
        """By (kind, id): the number of the newest state that we have been told of, and have said so in a commit."""
        self.logged: set[str] = set()
        self.missed: set[str] = set()
        self.accepted = 0
        self.doubtful = 0
        """Deliveries that may be stored although nobody was told so: answered 5xx, or not at all because we died."""
        self.first_watermark: datetime | None = None
        self.violation: str | None = None
        self.feed = FeedOracle(database, self.broken, SUBSCRIPTIONS, secret=SIGNING_SECRET, late=scenario.placed_late)
        self.commits = 0
        self.trace = hashlib.blake2b(digest_size=8)
        database.create_function("note_resource", 1, self._note_resource)
        database.create_function("note_broken", 1, self._note_broken)
        database.create_function("note_delivery", 2, self._note_delivery)
        database.create_function("note_missed", 1, self._note_missed)
        database.executescript(_TRIGGERS)

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time())

    def broken(self, what: str) -> None:
        if self.violation is None:
            self.violation = f"after {self._loop.time():.3f} s: {what}"

    # --- what triggers say ---

    def _note_resource(self, row_id: int) -> None:
        self._touched.add(row_id)

    def _note_broken(self, what: str) -> None:
        self.broken(f"invariant 4: {what}")

    def _note_delivery(self, event_id: str, _verdict: str) -> None:
        self._events[event_id] = None

    def _note_missed(self, event_id: str) -> None:
        self._events[event_id] = None

    # --- after each commit ---

    def committed(self) -> None:
        """Look at everything that the commit touched; what a rollback took back is simply not there."""
        self.commits += 1
        self._hear()
        touched, self._touched = sorted(self._touched), set()
        for row_id in touched:
            row = self.row(row_id)
            if row is None:
                continue
            known = self._known.setdefault(row_id, _Known())
            self._ids[row["kind"], row["remote_id"]] = row_id
            self._look(row, known)
            known.row = row
        self.feed.committed()
        self.trace.update(repr((self._loop.time(), touched)).encode())

    def _hear(self) -> None:
        """Events that are on record now, as deliveries or as missed ones."""
        events, self._events = self._events, {}
        for event_id in events:
            if self._one("SELECT 1 FROM delivery WHERE event_id = ? AND verdict <> 'rejected'", event_id):
                self.logged.add(event_id)
            elif self._one("SELECT 1 FROM missed_event WHERE event_id = ?", event_id):
                self.missed.add(event_id)
            else:
                continue
            for told in self._shop.events.get(event_id, ()):
                self._announce(event_id, told)

    def _announce(self, event_id: str, told: Told) -> None:
        self.announced[told.kind, told.id] = max(self.announced.get((told.kind, told.id), 0), told.number)
        row_id = self._one(
            "SELECT id FROM resource WHERE account = 'main' AND kind = ? AND remote_id = ?", told.kind, told.id
        )
        if row_id is None:
            self.broken(f"invariant 1: {event_id} is on record, and {told.kind}/{told.id} was not marked")
        else:
            self._touched.add(row_id)

    def _look(self, row: Mapping[str, Any], known: _Known) -> None:
        name = f"{row['kind']}/{row['remote_id']}"
        broken = broken_row(row, known.row)
        if broken is not None:
            self.broken(f"invariants 4, 9: {name}: {broken}")
        if row["due_at"] is not None and row["due_at"] > to_micros(self._now() + _LONGEST_SLEEP):
            self.broken(f"invariant 9: {name} is pending or leased, and nobody looks at it again within a day")
        if row["version"] != known.row.get("version", 0):
            versions = self._versions(row["id"])
            broken = broken_versions(row, versions, known.versions)
            if broken is not None:
                self.broken(f"invariant 4: {name}: {broken}")
            known.versions = versions
            self._look_at_version(row, name)
        if (known.row.get("state"), row["state"]) == ("deleted", "present"):
            self._look_whether_back(row, name)
        if row["kind"] in self._scenario.kinds:
            self._look_whether_fresh(row, name)

    def _look_whether_back(self, row: Mapping[str, Any], name: str) -> None:
        """Where no replica lags, a read that began after the one that said "gone" says so too, if it still is."""
        lags = "stale" in self._scenario.rates
        if (
            row["kind"] in self._scenario.kinds
            and not lags
            and self._history.current(row["kind"], row["remote_id"]) == GONE
        ):
            self.broken(f"invariant 7: {name} came back from the dead, and is gone")

    def _look_at_version(self, row: Mapping[str, Any], name: str) -> None:
        """What was stored must have been true once, and "gone" only if it went."""
        if row["kind"] not in self._scenario.kinds:
            return
        if self._history.last(row["kind"], row["remote_id"]) < 0:
            self.broken(f"{name}: a version of something that never was")
            return
        ever = self._history.contents_since(row["kind"], row["remote_id"], 1)
        if row["state"] == "present" and row["content_hash"] not in ever:
            self.broken(f"{name}: version {row['version']} was never true")
        if row["state"] == "deleted" and GONE not in ever and self._believes_no_replica:
            self.broken(f"invariants 7, 8: {name}: a tombstone of what always existed")

    @property
    def _believes_no_replica(self) -> bool:
        """Whether the settle window protects from lagging replicas here: it is measured by our clocks."""
        return self._scenario.clocks_agree or "stale" not in self._scenario.rates

    def _look_whether_fresh(self, row: Mapping[str, Any], name: str) -> None:
        number = self.announced.get((row["kind"], row["remote_id"]))
        clean = row["generation"] == row["settled_generation"]
        if number is None or not clean or not self._believes_no_replica:
            return
        if row["content_hash"] not in self._history.contents_since(row["kind"], row["remote_id"], number):
            self.broken(f"invariants 2, 3: LOST UPDATE: {name} is clean, and older than what we were told of")

    def revived(self, ref: ResourceRef, started_at: datetime) -> None:
        """A page that was asked for then brought back what a read had called deleted: it must have been back."""
        if ref.kind not in self._scenario.kinds or not self._scenario.clocks_agree:
            return
        instant = (started_at - EPOCH).total_seconds()
        if self._history.contents_after(ref.kind, ref.id, instant) == {GONE}:
            self.broken(f"invariant 7: {ref}: a page brought back what was gone when it was asked for")

    # --- answers to the provider ---

    def answered(self, event_id: str | None, status: int) -> None:
        """The intake answers a delivery, at this instant."""
        if 200 <= status < 300:
            self.accepted += 1
            if event_id not in self.logged:
                self.broken(f"invariant 1: {event_id} was answered {status} before its commit")
        elif status >= 500:
            self.doubtful += 1

    # --- what single acts did ---

    def expect_unchanged(self, before: Mapping[str, Any], what: str) -> None:
        if self.row(before["id"]) != before:
            self.broken(f"{what}: {before['kind']}/{before['remote_id']}")

    def coverage_recorded(self, kind: str, since: datetime, until: datetime) -> None:
        """A window of a kind is said to have been looked at: then everything in it is in the ledger."""
        if kind not in self._scenario.kinds or not self._scenario.lists_are_whole or not self._scenario.clocks_agree:
            return
        skew = abs(self._scenario.provider_skew)
        for object_id, created in self._shop.existing(kind):
            inside = since <= created and created + timedelta(seconds=1 + skew) <= until
            if inside and not self._holds(kind, object_id):
                self.broken(f"invariant 8: {kind}/{object_id} lies in a window that counts as looked at")

    def _holds(self, kind: str, object_id: str) -> bool:
        return bool(
            self._one("SELECT 1 FROM resource WHERE account = 'main' AND kind = ? AND remote_id = ?", kind, object_id)
        )

    def watermark_moved(self, job: str, watermark: datetime | None, now: datetime) -> None:
        """The feed was read up to `watermark`: then every event until then is on record."""
        if not job.startswith("feed/") or watermark is None:
            return
        if self.first_watermark is None:
            self.first_watermark = watermark
            return
        if not self._scenario.clocks_agree:
            return
        # The first one lies where looking began, and a look soon after it need not move it.
        if watermark > max(self.first_watermark, now - self._scenario.sweeps.overlap):
            self.broken(f"invariant 10: the watermark of {job} is closer than the overlap")
        if not self._scenario.lists_are_whole:
            return  # a feed that leaves events out is beyond what is promised
        for event_id, told in self._shop.events.items():
            at = told[0].at
            if self.first_watermark < at and at + timedelta(seconds=1) <= watermark and not self._recorded(event_id):
                self.broken(f"invariant 10: {job} passed {event_id} of {at:%H:%M:%S}, which is not on record")

    def _recorded(self, event_id: str) -> bool:
        if event_id in self.logged or event_id in self.missed:
            return True
        return not self._shop.follows(event_id)

    # --- bounds, and the end ---

    def overdue(self, bound: timedelta) -> None:
        """Whatever was announced longer ago than `bound` is known, or dirty and so named in the report."""
        for event_id, events in self._shop.events.items():
            for told in events:
                if self._now() - told.at >= bound and self._is_unnamed(told):
                    self.broken(f"{told.kind}/{told.id} is wrong since {event_id}, longer than {bound}, and unnamed")

    def _is_unnamed(self, told: Told) -> bool:
        """Whether it is not known here, and nothing says so."""
        row_id = self._ids.get((told.kind, told.id))
        if row_id is None:
            return True
        row = self._known[row_id].row
        dirty = row["generation"] > row["settled_generation"]
        return not dirty and row["content_hash"] not in self._history.contents_since(told.kind, told.id, told.number)

    def differences(self, *, changed_before: float = inf) -> list[str]:
        """How the ledger differs from the truth now, one line each; in what has been true since `changed_before`.

        Payouts and the feed follow from all of it, so they are looked at when nothing has changed since then.
        """
        rows = {(row["kind"], row["remote_id"]): row for row in self._rows()}
        found, moving = [], False
        for key in self._history.resources():
            if self._history.since(*key) >= changed_before:
                moving = True
                continue
            row, truth = rows.get(key), self._history.current(*key)
            name = "/".join(key)
            if truth == GONE:
                if row is not None and row["state"] == "present":
                    found.append(f"{name} was deleted there")
            elif row is None:
                found.append(f"{name} is unknown here")
            elif row["content_hash"] != truth:
                found.append(f"{name} differs ({row['state']}, version {row['version']})")
            if row is not None and row["generation"] > row["settled_generation"]:
                found.append(
                    f"{name} is dirty ({self._one('SELECT last_error FROM resource WHERE id = ?', row['id'])})"
                )
        return found if moving else found + self._unlike_payouts() + self.feed.differences()

    def members_recorded(self, payout: ResourceRef, members: Collection[ResourceRef]) -> None:
        """A payout is said to be itemised: nothing asks again."""
        wanted = self._shop.itemised().get(payout.id)
        if not self._scenario.lists_are_whole or not self._believes_no_replica or wanted is None:
            return
        if {each.id for each in members} != wanted:
            self.broken(f"{payout} is itemised with {len(members)} of {len(wanted)} members, and for good")

    def _unlike_payouts(self) -> list[str]:
        """Payouts that are not itemised as they should be."""
        if "payout" not in self._scenario.kinds or not self._scenario.lists_are_whole or not self._believes_no_replica:
            return []
        listed = {
            row["payout_id"]: frozenset(ResourceRef.parse(each).id for each in orjson.loads(row["members"]))
            for row in self._all("SELECT payout_id, members FROM payout_members ORDER BY recorded_at")
        }
        return [
            f"payout/{payout} is not itemised"
            for payout, members in self._shop.itemised().items()
            if listed.get(payout, frozenset()) != members
        ]

    def finish(self, provider: Provider) -> None:
        """What holds of a whole ledger at the end: entries, and the log of deliveries."""
        self.feed.finish()
        stored = self._all("SELECT * FROM entry ORDER BY resource_id, version, ordinal")
        if self._rebuilt(provider) != [_without_id(row) for row in stored]:
            self.broken("invariant 11: entries that were rebuilt from the versions differ")
        logged = self._one("SELECT count(*) FROM delivery WHERE verdict <> 'rejected'")
        if not self.accepted <= logged <= self.accepted + self.doubtful:
            self.broken(f"invariant 12: {self.accepted} deliveries were accepted, {logged} are logged")
        tallied = self._one("SELECT COALESCE(sum(count), 0) FROM delivery_tally WHERE verdict <> 'rejected'")
        if tallied != logged:
            self.broken(f"invariant 12: {logged} deliveries are logged, {tallied} are tallied")
        for event_id in self.logged:
            if self._one("SELECT 1 FROM delivery WHERE event_id = ? AND verdict <> 'rejected'", event_id) is None:
                self.broken(f"invariant 1: {event_id} was accepted and is no longer in the log")

    def _rebuilt(self, provider: Provider) -> list[dict[str, Any]]:
        """All entries, from nothing but the versions."""
        assert isinstance(provider, Remembering)
        rebuilt: list[dict[str, Any]] = []
        versions = self._all(
            "SELECT v.resource_id, v.version, v.body, v.recorded_at, v.api_version, r.kind, r.remote_id,"
            " (SELECT recorded_at FROM version n WHERE n.resource_id = v.resource_id AND n.version = v.version + 1)"
            " AS ended_at FROM version v JOIN resource r ON r.id = v.resource_id ORDER BY v.resource_id, v.version"
        )
        for row in versions:
            if row["body"] is None:
                continue
            ref = ResourceRef(self._shop.provider, "main", row["kind"], row["remote_id"])
            snapshot = provider.snapshot(ref, orjson.loads(unpack(row["body"])), row["api_version"])
            rebuilt += [
                entry_row(row["resource_id"], row["version"], ordinal, entry, recorded_at=row["recorded_at"],
                          superseded_at=row["ended_at"])
                for ordinal, entry in enumerate(provider.entries(snapshot))
            ]  # fmt: skip
        return rebuilt

    # --- looking into the database ---

    def row(self, row_id: int) -> dict[str, Any] | None:
        found = self._all(f"SELECT {_COLUMNS} FROM resource WHERE id = ?", row_id)
        return found[0] if found else None

    def row_of(self, ref: ResourceRef) -> dict[str, Any] | None:
        found = self._all(
            f"SELECT {_COLUMNS} FROM resource WHERE account = ? AND kind = ? AND remote_id = ?",
            ref.account, ref.kind, ref.id,
        )  # fmt: skip
        return found[0] if found else None

    def leased(self) -> dict[int, int]:
        return {
            row["id"]: row["lease_until"]
            for row in self._all("SELECT id, lease_until FROM resource WHERE lease_until IS NOT NULL")
        }

    def job_token(self, name: str) -> tuple[int, bool]:
        """The token of a job's lease, and whether it is still held."""
        found = self._all("SELECT lease_token, lease_until FROM job WHERE name = ?", name)
        return (found[0]["lease_token"], found[0]["lease_until"] is not None) if found else (0, False)

    def finished(self, prefix: str) -> dict[str, int]:
        """When each job last ended a complete run, by its own clock."""
        return {
            row["name"]: row["finished_at"] or 0
            for row in self._all("SELECT name, finished_at FROM job WHERE name LIKE ?", f"{prefix}%")
        }

    def dirty(self) -> int:
        return int(self._one("SELECT count(*) FROM resource WHERE generation > settled_generation"))

    def _rows(self) -> list[dict[str, Any]]:
        return self._all(f"SELECT {_COLUMNS} FROM resource")

    def _versions(self, row_id: int) -> list[tuple[Any, ...]]:
        cursor = self._database.execute(
            "SELECT version, state, content_hash, recorded_at, applied_seq FROM version"
            " WHERE resource_id = ? ORDER BY version",
            (row_id,),
        )
        return cursor.fetchall()

    def _one(self, sql: str, *parameters: Any) -> Any:
        row = self._database.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def _all(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        cursor = self._database.execute(sql, parameters)
        names = [each[0] for each in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _without_id(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}
