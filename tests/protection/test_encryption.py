"""Bodies at rest: a copy of the ledger shows none of them, keys change without a gap, and a missing one is named."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, text

from reconciler.config import load
from reconciler.errors import ConfigurationError, LedgerError, UsageError
from reconciler.keyring import bodies_seal
from reconciler.ledger import Ledger, Packing, Receipt, open_ledger
from reconciler.ledger.backup.restoring import restore
from reconciler.ledger.backup.taking import take
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.moving import export_lines, import_lines
from reconciler.ledger.packing import Place, SealedElsewhere
from reconciler.ledger.people import signing_key
from reconciler.ledger.redaction import Asked, Keeping
from reconciler.ledger.rotation import COLUMNS, Rotation
from reconciler.ledger.tables import metadata
from reconciler.model import Redaction
from reconciler.sealing import Seal, seal_of
from tests.cli.running import run_here
from tests.databases import sqlite_url
from tests.ledger.factories import NOON, delivery, ref, settle, snapshot, webhook
from tests.moving.ledgers import BooksReader

ADA = "ada@example.com"
"""In every body that these stories store. Bodies this short lie in the file as they are, so that it can be searched."""

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def _seal(*keys: str) -> Seal:
    seal = seal_of([("here", key) for key in keys])
    assert seal is not None
    return seal


@contextmanager
def _opened(url: str, *keys: str) -> Iterator[Ledger]:
    with closing(open_ledger(url, Packing((lambda: _seal(*keys)) if keys else None))) as ledger:
        yield ledger


def _fill(ledger: Ledger, *names: str) -> None:
    for name in names:
        of = ref(name)
        settle(ledger, of, snapshot(of, ADA), NOON)
        got = delivery(json.dumps({"mail": ADA, "id": name}).encode())
        ledger.receive([Receipt("stripe", got, f"evt_{name}", "charge.updated", NOON, (webhook(of),))], NOON)
    with ledger.store.write() as tx:
        signing_key(tx, ADA.encode(), NOON)


def _stored(ledger: Ledger) -> list[bytes]:
    with ledger.store.read() as tx:
        return [
            bytes(value)
            for column in COLUMNS
            for value in tx.run(
                text(f"SELECT {column.name} FROM {column.table} WHERE {column.name} IS NOT NULL")
            ).scalars()
        ]


def _mails(ledger: Ledger) -> list[Any]:
    with ledger.view() as view:
        found = [view.resource(ref(name)) for name in ("ch_1", "ch_2")]
        return [version.body for one in found if one is not None for version in view.versions(one)]


def _exported(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(ledger.store)]


def _rotate(ledger: Ledger, *keys: str, limit: int = 2) -> dict[str, int]:
    rotation = Rotation(ledger.store, _seal(*keys), _seal(*keys))
    counts = {}
    for column, seal in rotation.columns():
        after, counts[column.words] = None, 0
        while True:
            stretch = rotation.step(column, seal, after, limit=limit)
            counts[column.words] += stretch.sealed
            after = stretch.after
            if after is None:
                break
    assert rotation.conclude(counts, actor="op", now=NOON)
    return counts


# --- what lies there ------------------------------------------------------------------------------


def test_without_a_key_bodies_lie_open_and_with_one_none_does(ledger_url: str) -> None:
    with _opened(ledger_url) as ledger:
        _fill(ledger, "ch_1")
        assert len([each for each in _stored(ledger) if ADA.encode() in each]) == 3
    with _opened(ledger_url, NEW) as ledger:
        _fill(ledger, "ch_2")
        assert len([each for each in _stored(ledger) if ADA.encode() in each]) == 3, "only the old ones"
        assert _mails(ledger) == [{"id": "ch_1", "value": ADA}, {"id": "ch_2", "value": ADA}]


def test_every_column_of_bytes_is_sealed_or_known_to_hold_nobody(ledger_url: str) -> None:
    columns = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert columns == {(each.table, each.name) for each in COLUMNS} | {("report_snapshot", "body")}


def test_a_missing_or_a_wrong_key_is_named_with_what_to_do(ledger_url: str) -> None:
    with _opened(ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1")
        ledger.require_keys()
    for keys in ((), (NEW,)):
        with _opened(ledger_url, *keys) as ledger:
            with pytest.raises(ConfigurationError, match=rf"key {_seal(OLD).first}.*rotate-keys"):
                ledger.require_keys()
            with pytest.raises(SealedElsewhere, match=rf"{_seal(OLD).first}.*encryption\.keys"):
                _mails(ledger)
            assert ledger.dead_letters() == [], "whoever reads no body needs no key"
    with _opened(ledger_url, NEW, OLD) as ledger:
        ledger.require_keys()
        assert _mails(ledger) == [{"id": "ch_1", "value": ADA}]


@pytest.mark.parametrize(
    ("pointer", "said"),
    [("env:A", "32 random bytes"), ("env:MISSING", "MISSING"), ("file:/nowhere", "/nowhere"), (NEW, "env:NAME")],
)
def test_a_key_that_cannot_be_read_is_refused_and_not_shown(tmp_path: Path, pointer: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[encryption]\nkeys = ["{pointer}"]\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"encryption\.keys\[1\] .*line 2(.|\n)*{said}") as refused:
        bodies_seal(load(path, {"A": "bm90IDMyIGJ5dGVz"}))
    assert "bm90" not in str(refused.value)
    assert NEW not in str(refused.value)


def test_what_was_sealed_for_one_column_does_not_open_in_another(sqlite_ledger_url: str) -> None:
    packing = Packing(lambda: _seal(NEW))
    sealed = packing.pack(b"x", Place.DELIVERY)
    assert packing.unpack(sealed, Place.DELIVERY) == b"x"
    for spoiled, place in ((sealed, Place.VERSION), (sealed[:-1] + b"~", Place.DELIVERY), (sealed[:9], Place.DELIVERY)):
        with pytest.raises(LedgerError):
            packing.unpack(spoiled, place)


# --- changing keys --------------------------------------------------------------------------------


def test_rotation_leaves_nothing_that_needs_another_key_and_is_in_the_audit_log(ledger_url: str) -> None:
    with _opened(ledger_url) as ledger:
        _fill(ledger, "ch_1")
    with _opened(ledger_url, OLD) as ledger:
        _fill(ledger, "ch_2")
        before = _exported(ledger)
    with _opened(ledger_url, NEW, OLD) as ledger:
        counts = _rotate(ledger, NEW, OLD, limit=1)
        assert counts == {"version.body": 2, "delivery.body": 2, "outbox_attempt.answer": 0, "console_key.secret": 1,
                          "token.sealed": 0, "subscription_secret.sealed": 0}  # fmt: skip
        assert sum(_rotate(ledger, NEW, OLD).values()) == 0, "what is done is known by its key"
    with _opened(ledger_url, NEW) as ledger:
        ledger.require_keys()
        after = _exported(ledger)
        assert [each for each in after if "audit_log" not in each] == before
        with ledger.store.read() as tx:
            assert [row.action for row in audit_rows(tx)] == ["rotate-keys"] * 2
            assert verify_audit(tx) == []
        assert not any(ADA.encode() in each for each in _stored(ledger))


def test_a_killed_rotation_goes_on_and_one_beside_old_nodes_says_so(ledger_url: str) -> None:
    with _opened(ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1", "ch_2")
    with _opened(ledger_url, NEW, OLD) as ledger:
        rotation = Rotation(ledger.store, _seal(NEW, OLD), None)
        columns = list(rotation.columns())
        assert rotation.step(*columns[0], None, limit=1).after is not None  # and here it was killed
        assert [rotation.left(*each) for each in columns] == [1, 2, 0, 1]
        assert not rotation.conclude({}, actor="op", now=NOON), "rows of the old key are left"
        ledger.require_keys()
        assert sum(_rotate(ledger, NEW, OLD).values()) == 4
    with _opened(ledger_url, OLD) as late:  # a node that nobody restarted
        with pytest.raises(ConfigurationError):
            late.require_keys()
        of = ref("ch_3")
        settle(late, of, snapshot(of, ADA), NOON)
    with _opened(ledger_url, NEW) as ledger, pytest.raises(ConfigurationError, match=_seal(OLD).first):
        ledger.require_keys()


def test_a_rotation_without_a_key_or_without_the_right_one_says_what_to_do(sqlite_ledger_url: str) -> None:
    with _opened(sqlite_ledger_url) as ledger:
        with pytest.raises(UsageError, match="no key to seal with"):
            Rotation(ledger.store, None, None)
        fence = ledger.lease_token("shop", seen=0, lease=timedelta(minutes=1), now=NOON)
        assert fence is not None
        ledger.keep_token("shop", _seal(OLD).close(b"token", "shop"), fence=fence, now=NOON)
        rotation = Rotation(ledger.store, None, _seal(NEW))
        (tokens, seal) = next(each for each in rotation.columns() if each[0].table == "token")
        with pytest.raises(LedgerError, match=r"account shop cannot be opened.*Add the key that sealed it"):
            rotation.step(tokens, seal, None, limit=10)


def test_a_body_that_is_redacted_meanwhile_does_not_come_back(ledger_url: str) -> None:
    with _opened(ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1")

    with _opened(ledger_url, NEW, OLD) as ledger:

        class Late(Rotation):
            def _waiting_rows(self, *given: Any) -> list[Any]:
                rows = super()._waiting_rows(*given)
                asked = Asked("main", Redaction("charge", "ch_1"), "evt_1")
                ledger.redactions.shrink(asked, lambda _: Keeping({}), after=(-(2**63), 0), limit=10)
                return rows

        rotation = Late(ledger.store, _seal(NEW, OLD), None)
        assert rotation.step(*next(iter(rotation.columns())), None, limit=10).sealed == 0
        assert _mails(ledger) == [{"redacted": True}]


def test_tokens_and_subscription_secrets_change_their_key_too(sqlite_ledger_url: str) -> None:
    old, new = _seal(OLD), _seal(NEW, OLD)
    with _opened(sqlite_ledger_url) as ledger:
        fence = ledger.lease_token("shop", seen=0, lease=timedelta(minutes=1), now=NOON)
        assert fence is not None
        ledger.keep_token("shop", old.close(b"token", "shop"), fence=fence, now=NOON)
        with ledger.store.write() as tx:
            tx.run(
                text(
                    "INSERT INTO subscription_secret (id, subscription, sealed, created_at)"
                    " VALUES (7, 'erp', :sealed, 0)"
                ),
                {"sealed": b"r" + old.close(b"whsec", "subscription erp")},
            )
        rotation = Rotation(ledger.store, None, new)
        assert [rotation.step(*each, None, limit=10).sealed for each in rotation.columns()] == [1, 1]
        kept = ledger.token("shop").sealed
        assert kept is not None
        assert _seal(NEW).open(kept, "shop") == b"token"
        (secret,) = ledger.telling.secrets("erp", NOON)
        assert _seal(NEW).open(secret, "subscription erp") == b"whsec"


def test_the_command_rotates_and_says_what_may_go(
    sqlite_ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _opened(sqlite_ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1")
    monkeypatch.setenv("OLD_KEY", OLD)
    (tmp_path / "new.key").write_text(f"{NEW}\n", encoding="utf-8")
    path = tmp_path / "c.toml"
    head = (
        f'[ledger]\nurl = "{sqlite_ledger_url}"\n'
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET"\nbase_url = "http://127.0.0.1:9"\n'
    )

    def configure(keys: Sequence[str]) -> None:
        path.write_text(f"{head}[encryption]\nkeys = {json.dumps(list(keys))}\n", encoding="utf-8")

    configure([f"file:{tmp_path / 'new.key'}", "env:OLD_KEY"])
    waiting = run_here("--config", str(path), "rotate-keys", "--preview", "--format", "json")
    assert (waiting.code, waiting.json["rows"]["version.body"], waiting.json["done"]) == (0, 1, False)
    done = run_here("--config", str(path), "rotate-keys", "--format", "json")
    assert (done.code, done.json["done"], done.json["key"]) == (0, True, _seal(NEW).first)
    assert "take the others out" in done.err
    configure([f"file:{tmp_path / 'new.key'}"])
    shown = run_here("--config", str(path), "show", "stripe/main/charge/ch_1", "--format", "json")
    assert shown.json["body"] == {"id": "ch_1", "value": ADA}
    configure(["env:OLD_KEY"])
    refused = run_here("--config", str(path), "show", "stripe/main/charge/ch_1", "--format", "json")
    assert refused.code == 2
    assert "encryption.keys" in refused.err
    configure([])
    assert run_here("--config", str(path), "status", "--format", "json").code in (0, 1, 3)
    monkeypatch.setenv("NOT_SET", "rk_test_of_nobody")
    checks = run_here("--config", str(path), "check", "--format", "json").json["checks"]
    checked = {each["what"]: each for each in checks}
    assert _seal(NEW).first in checked["encryption"]["text"], "the doctor names the missing key"
    assert not checked["encryption"]["ok"]


# --- moving and keeping ---------------------------------------------------------------------------


def test_an_export_is_plain_and_an_import_seals_again(sqlite_ledger_url: str, tmp_path: Path) -> None:
    with _opened(sqlite_ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1", "ch_2")
        lines = list(export_lines(ledger.store))
        assert any(ADA.encode() in line for line in lines)
    with _opened(sqlite_url(tmp_path / "other.db"), NEW) as other:
        other.require_current_schema()
        import_lines(other.store, enumerate(lines, 1), {"main": BooksReader()}, NOON)
        assert list(export_lines(other.store)) == lines
        assert not any(ADA.encode() in each for each in _stored(other))


def test_a_backup_is_sealed_like_its_ledger_and_comes_back_with_the_key(sqlite_ledger_url: str, tmp_path: Path) -> None:
    with _opened(sqlite_ledger_url, OLD) as ledger:
        _fill(ledger, "ch_1")
        take(ledger.store, tmp_path / "one.zip", now=NOON)
    url = sqlite_url(tmp_path / "again.db")
    with _opened(url) as ledger:  # bringing it back needs no key
        restore(ledger.store, tmp_path / "one.zip", actor="op", now=NOON)
        with pytest.raises(ConfigurationError):
            ledger.require_keys()
    with _opened(url, OLD) as ledger:
        ledger.require_keys()
        assert _mails(ledger) == [{"id": "ch_1", "value": ADA}]
    with closing(sqlite3.connect(tmp_path / "again.db")) as file:
        assert ADA not in "".join(file.iterdump())
