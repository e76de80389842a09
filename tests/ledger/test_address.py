"""What a ledger's address may say beside where the database is."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from reconciler.errors import ConfigurationError
from reconciler.ledger import Ledger, open_ledger
from tests.databases import as_shipped, plain_address

SETTINGS = ("lock_timeout", "idle_in_transaction_session_timeout", "TimeZone", "random_page_cost")


def settings(ledger: Ledger) -> list[str]:
    with ledger.store.read() as tx:
        return [tx.run(text(f"SHOW {each}")).scalar_one() for each in SETTINGS]


def test_what_it_says_of_postgres_holds_and_the_rest_is_ours(postgres_ledger_url: str) -> None:
    address = make_url(plain_address(postgres_ledger_url))
    said = {"connect_timeout": "77", "options": "-clock_timeout=5000 -ctimezone=Asia/Tokyo -crandom_page_cost=4"}
    for url, expected, seconds in (
        (address, ["2s", "10s", "UTC", "1.1"], "2"),
        (address.update_query_dict(said), ["5s", "10s", "UTC", "4"], "77"),
    ):
        with as_shipped(), closing(open_ledger(url.render_as_string(hide_password=False))) as ledger:
            assert settings(ledger) == expected
            with ledger.store.engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                assert driver.info.get_parameters()["connect_timeout"] == seconds


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("nonsense=1", '"nonsense"'), ("connect_timeout=soon", "connect_timeout: 'soon'"),
        ("sslmode=abc", 'invalid sslmode value: "abc"'), ("sslmode=abc&host=/tmp", "sslmode"),
        ("target_session_attrs=master&sslmode=require", "target_session_attrs"), ("port=abc", '"port"'),
        ("keepalives_idle=soon", "keepalives_idle is 'soon', and no whole number"),
        ("sslrootcert=system&sslmode=require", "weak sslmode"), ("service=none", "definition of service"),
    ],
)  # fmt: skip
def test_a_setting_that_no_connection_to_postgres_has_is_named(said: str, named: str) -> None:
    """As the mistake it is, and not as an error of ours, after which a supervisor starts it again for ever."""
    with pytest.raises(ConfigurationError, match=rf"^ledger\.url .*question mark: .*{named}"):
        open_ledger(f"postgresql://ann@127.0.0.1/books?{said}")


@pytest.mark.parametrize(
    "said",
    ["sslmode=verify-full&sslrootcert=system", "target_session_attrs=read-write", "gssencmode=require",
     "host=/tmp", "host=a,b&port=5432,5433", "keepalives_idle=30&tcp_user_timeout=5000", "application_name=books"],
)  # fmt: skip
def test_what_a_connection_may_have_is_taken_before_there_is_one(said: str) -> None:
    open_ledger(f"postgresql://ann@127.0.0.1/books?{said}").close()


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_whichever_driver_it_names_the_server_is_the_same(driver: str) -> None:
    with closing(open_ledger(f"{driver}://ann@127.0.0.1/books")) as ledger:
        assert ledger.store.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("sqlite:///{}/x.db?mode=ro", "mode"),
        ("sqlite:///{}/x.db?timeout=soon", "soon"),
        ("sqlite+aiosqlite:///{}/x.db", "sqlite+aiosqlite"),
    ],
)
def test_what_sqlite_would_pass_over_is_refused(tmp_path: Path, address: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^ledger\.url .*{re.escape(named)}.*sqlite:///reconciler\.db"):
        open_ledger(address.format(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []
