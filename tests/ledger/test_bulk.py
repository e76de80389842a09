"""Rows reach Postgres as they were given, whatever their text is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.bulk import BYTES, TRUTH, WHOLE, WORDS, Given
from reconciler.ledger.codec import storable

_GIVEN = Given({"number": WHOLE, "words": WORDS, "body": BYTES, "is_so": TRUTH, "more": WORDS})
_WORDS = st.text() | st.text("\\\"'{},nNULtu\n\t\x01\x7f\u2028") | st.sampled_from(["", "NULL", "null", '{"a":"b\\n"}'])
_ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | _WORDS,
        st.none() | st.binary(),
        st.none() | st.booleans(),
        st.none() | _WORDS,
    ),
    max_size=6,
)


@pytest.fixture
def opened_on_postgres(postgres_ledger_url: str) -> Iterator[Ledger]:
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        ledger.require_current_schema()
        yield ledger


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ROWS)
def test_rows_arrive_as_they_were_given(
    opened_on_postgres: Ledger, rows: list[tuple[int | None, str | None, bytes | None, bool | None, str | None]]
) -> None:
    with opened_on_postgres.store.write() as tx:
        arrived = tx.ask_driver(f"SELECT {', '.join(_GIVEN.columns)} FROM {_GIVEN.source}", _GIVEN.parameters(rows))
    assert arrived == [tuple(storable(each) if type(each) is str else each for each in row) for row in rows]
