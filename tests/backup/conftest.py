"""Places for ledgers, and a backup of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.ledger.backup import take
from tests.backup.ledgers import ledger_at
from tests.databases import Postgres, sqlite_url
from tests.ledger.factories import NOON, answer, by_hand, claim_all, ref, snapshot


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Iterator[str]]:
    """As many empty databases as the story needs."""
    if request.param == "sqlite":
        yield (sqlite_url(tmp_path / f"{number}.db") for number in range(1000))
        return
    server: Postgres = request.getfixturevalue("postgres")
    made: list[str] = []

    def fresh() -> Iterator[str]:
        while True:
            made.append(server.create())
            yield server.url(made[-1])

    yield fresh()
    for name in made:
        server.drop(name)


@pytest.fixture
def kept(places: Iterator[str], tmp_path: Path) -> Path:
    file = tmp_path / "one.zip"
    with ledger_at(next(places)) as ledger:
        ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(50)], NOON)
        for claim in claim_all(ledger, NOON):
            answer(ledger, claim, snapshot(claim.ref, "x" * 500), now=NOON)
        take(ledger.store, file, now=NOON)
    return file
