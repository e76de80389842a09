"""A snapshot's bytes are made once, for its hash and for the ledger; a changed copy makes its own."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model import Snapshot, canonical, content_hash
from tests.ledger.factories import ref


def test_what_is_stored_holds_what_the_hash_leaves_out() -> None:
    body = {"id": "ch_1", "amount": 5, "client_secret": "a"}
    volatile = frozenset({"client_secret"})
    snapshot = Snapshot(ref("ch_1"), body, volatile=volatile)
    assert snapshot.content_hash == content_hash({"id": "ch_1", "amount": 5})
    assert snapshot.canonical == canonical(body)
    assert Snapshot(ref("ch_1"), body).content_hash == content_hash(body) != snapshot.content_hash


def test_a_copy_with_another_body_is_hashed_and_stored_as_that_body() -> None:
    first = Snapshot(ref("ch_1"), {"id": "ch_1", "amount": 5})
    assert first.content_hash
    assert first.canonical
    other = replace(first, body={"id": "ch_1", "amount": 6})
    assert other.content_hash == content_hash(other.body)
    assert other.canonical == canonical(other.body)
