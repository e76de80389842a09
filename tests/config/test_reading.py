"""Reading the configuration: defaults, overrides, and errors that name the key, the line and the remedy."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.config import Config, format_duration, load, require_known, unnamed_states
from reconciler.errors import ConfigurationError
from reconciler.provider import DeadlineRule, Kind


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(written(folder, text), environment or {})
    return str(caught.value)


# --- values ---------------------------------------------------------------------------------------


def test_without_a_file_the_defaults_hold() -> None:
    config = load(None, {})
    assert config.model_dump() == Config().model_dump()
    assert config.ledger.url == "sqlite:///reconciler.db"
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert config.sweeps.every == timedelta(minutes=5)
    assert config.retry.max_wait == timedelta(minutes=30)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(None, {}).worker, "concurrency", 1)  # noqa: B010  # mypy would refuse the plain assignment


def test_one_kind_may_have_its_own_rhythm(tmp_path: Path) -> None:
    config = load(written(tmp_path, '[sweeps]\nevery = "2m"\n[sweeps.payout]\nfull_every = "1h"\nlag = "0s"\n'), {})
    payout, charge = config.sweeps.of("payout"), config.sweeps.of("charge")
    assert (payout.every, payout.lag, payout.full_every) == (timedelta(minutes=2), timedelta(0), timedelta(hours=1))
    assert (charge.every, charge.lag, charge.full_every) == (
        timedelta(minutes=2),
        timedelta(seconds=60),
        timedelta(hours=24),
    )


def test_configured_deadlines_replace_the_kinds_own_and_leave_other_kinds_alone(tmp_path: Path) -> None:
    own = DeadlineRule("payout", frozenset({"pending"}), timedelta(days=3))
    kinds = [
        Kind("payment_intent", "p", deadlines=(DeadlineRule("payment_intent", frozenset({"x"}), timedelta(1)),)),
        Kind("payout", "q", deadlines=(own,)),
    ]
    text = '[[deadlines]]\nkind = "payment_intent"\nstates = ["processing"]\nafter = "10s"\n'
    rules = load(written(tmp_path, text), {}).deadline_rules(kinds)
    assert rules == (DeadlineRule("payment_intent", frozenset({"processing"}), timedelta(seconds=10)), own)


def test_a_short_lease_shortens_the_requests(tmp_path: Path) -> None:
    assert load(None, {}).worker.longest_request == timedelta(seconds=30)
    assert load(written(tmp_path, '[worker]\nlease = "5s"\n'), {}).worker.longest_request == timedelta(seconds=4)


# --- the environment ------------------------------------------------------------------------------


def test_the_environment_overrides_the_file_key_by_key(tmp_path: Path) -> None:
    path = written(tmp_path, '[server]\nhost = "::1"\nport = 1\n[sweeps.payout]\nevery = "1h"\nlag = "1s"\n')
    environment = {
        "RECONCILER__SERVER__PORT": "9000",
        "RECONCILER__SWEEPS__PAYOUT__EVERY": "2h",
        "RECONCILER__REPORT__GATEWAYS": '["a", "b"]',
        "RECONCILER__DEADLINES": '[{"kind": "payout", "states": ["pending"], "after": "1d"}]',
        "RECONCILER_CONFIG": "not one of them",
    }
    config = load(path, environment)
    assert (config.server.host, config.server.port) == ("::1", 9000)
    assert config.sweeps.of("payout").every == timedelta(hours=2)
    assert config.sweeps.of("payout").lag == timedelta(seconds=1)
    assert config.report.gateways == ("a", "b")
    assert [rule.kind for rule in config.deadline_rules([Kind("payout", "p")])] == ["payout"]


@given(
    port=st.integers(min_value=0, max_value=65535),
    concurrency=st.integers(min_value=1, max_value=1000),
    every=st.integers(min_value=1_000, max_value=10**9).map(lambda count: timedelta(milliseconds=count)),
)
def test_any_value_may_come_from_the_environment(port: int, concurrency: int, every: timedelta) -> None:
    config = load(
        None,
        {
            "RECONCILER__SERVER__PORT": str(port),
            "RECONCILER__WORKER__CONCURRENCY": str(concurrency),
            "RECONCILER__SWEEPS__EVERY": format_duration(every),
        },
    )
    assert (config.server.port, config.worker.concurrency, config.sweeps.every) == (port, concurrency, every)


def test_a_wrong_value_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    text = refusal(tmp_path, "[server]\nport = 1\n", {"RECONCILER__SERVER__PORT": "many"})
    assert text == (
        "server.port (the environment variable RECONCILER__SERVER__PORT): "
        "expected a valid integer, unable to parse string as an integer"
    )


def test_an_unknown_section_in_the_environment_stops_the_start(tmp_path: Path) -> None:
    text = refusal(tmp_path, "", {"RECONCILER__SEVRER__PORT": "1"})
    assert text == "the environment variable RECONCILER__SEVRER__PORT names no section; did you mean 'server'?"


def test_an_unknown_key_in_the_environment_stops_the_start(tmp_path: Path) -> None:
    text = refusal(tmp_path, "", {"RECONCILER__SERVER__PRT": "1"})
    assert "server.prt (the environment variable RECONCILER__SERVER__PRT): unknown key; did you mean 'port'?" in text


def test_a_list_in_the_environment_that_is_not_json_is_explained(tmp_path: Path) -> None:
    assert "write lists and tables as JSON" in refusal(tmp_path, "", {"RECONCILER__DEADLINES": "payment_intent"})


# --- mistakes in the file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sever]\nport = 1\n", "sever ({path}, line 1): unknown key; did you mean 'server'?"),
        ("[server]\n\nprot = 1\n", "server.prot ({path}, line 3): unknown key; did you mean 'port'?"),
        ("\n[server]\nport = 'x'\n", "server.port ({path}, line 3): expected a valid integer"),
        ("[server]\nport = 70000\n", "server.port ({path}, line 2): expected less than or equal to 65535"),
        ("[sweeps]\nevry = '5m'\n", "sweeps.evry ({path}, line 2): unknown key; did you mean 'every'?"),
        ("[sweeps.payout]\nlga = '5m'\n", "sweeps.payout.lga ({path}, line 2): unknown key; did you mean 'lag'?"),
        (
            "[sweeps]\nkinds = 3\n",
            "sweeps.kinds ({path}, line 2): unknown key; known are every, full_every, lag, overlap",
        ),
        ("[sweeps.payout]\nlag = 3\n", "sweeps.payout.lag ({path}, line 2): expected a duration such as"),
        (
            "[[subscriptions]]\nname = 'a'\nurl = 'b'\nsecrets = ['env:S']\nkinds = 'payout'\n",
            "subscriptions[1].kinds ({path}, line 5): expected a list, in brackets",
        ),
        ("[alerts]\nurls = 'env:A'\n", "alerts.urls ({path}, line 2): expected a list, in brackets"),
        ("server = 8080\n", "server ({path}, line 1): expected a table"),
        ("accounts = 'main'\n", "accounts ({path}, line 1): expected a table"),
        ("[sweeps]\nevery = 300\n", "sweeps.every ({path}, line 2): expected a duration such as"),
        ("[sweeps]\nevery = '10ms'\n", "sweeps.every ({path}, line 2): expected at least 1s"),
        ("[retry]\nmax_wait = 'soon'\n", "retry.max_wait ({path}, line 2): expected a duration such as"),
        ("[report]\ntimezone = 'Mars/Base'\n", "report.timezone ({path}, line 2): expected a time zone of the IANA"),
        ("[report]\nday_start = '25:00'\n", "report.day_start ({path}, line 2): "),
        (
            "[[deadlines]]\nkind = 'a'\nstates = ['x']\nafter = '1m'\n[[deadlines]]\nkind = 'b'\nstate = ['x']\n",
            "deadlines[2].state ({path}, line 7): unknown key; did you mean 'states'?",
        ),
        ("[accounts.shop]\napi_key = 'env:A'\n", "accounts.shop.provider ({path}, line 1): missing"),
        ("[accounts.Shop]\nprovider = 'x'\n", "accounts.Shop ({path}, line 1): 'Shop' cannot name an account; use a-z"),
        ("[[report.fee_rules]]\naccount = 'a'\ncurrency = 'eur'\n", "report.fee_rules[1].currency ({path}, line 3): "),
    ],
)
def test_each_mistake_names_its_key_and_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert expected.format(path=tmp_path / "config.toml") in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://reconciler.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://", "sqlite://?x=1",
        "sqlite:///file:x?mode=memory&uri=true", "sqlite:///file::memory:?uri=true", "sqlite:///%3Amemory%3A",
        "sqlite://:memory:", "sqlite://host/x.db",
    ],
)  # fmt: skip
def test_a_ledger_that_would_be_forgotten_is_refused(tmp_path: Path, url: str) -> None:
    """With two slashes too few deliveries were acknowledged into memory, and gone with the process."""
    said = refusal(tmp_path, f'[ledger]\nurl = "{url}"\n')
    assert re.match(r"ledger\.url \(.*line 2\): .*sqlite:///reconciler\.db", said)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///file:/srv/x.db?uri=true", "sqlite:////srv/x.db?timeout=abc", "sqlite:////srv/x.db?timeout=30",
        "sqlite:////srv/x.db?nolock=1&uri=true", "sqlite:///file:x.db?mode=memory&uri=false",
    ],
)  # fmt: skip
def test_a_file_is_named_in_one_way_only(tmp_path: Path, url: str) -> None:
    """Its lock lies beside that name: by another one two processes would write at once."""
    said = refusal(tmp_path, f'[ledger]\nurl = "{url}"\n')
    assert re.match(r"ledger\.url \(.*line 2\): .*takes no settings .*sqlite:///reconciler\.db", said)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x.db", "sqlite:////srv/x.db", "sqlite:///file::memory:", "sqlite:///memory",
        "postgresql+psycopg://ann@host/", "postgresql:///x?mode=memory",
    ],
)  # fmt: skip
def test_a_ledger_in_a_file_or_on_a_server_is_taken(tmp_path: Path, url: str) -> None:
    assert load(written(tmp_path, f'[ledger]\nurl = "{url}"\n'), {}).ledger.url == url


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "[server]\nprot = 1\nhots = 'x'\n[retry]\nattempts = 0\n").splitlines()
    assert len(lines) == 3


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    assert "is not TOML" in refusal(tmp_path, "[server\n")
    assert "line 1" in refusal(tmp_path, "[server\n")


@pytest.mark.parametrize(
    "text",
    [f"port = {'9' * 5000}", f"a = {'[' * 3000}{']' * 3000}", f"a = {'{a=' * 3000}1{'}' * 3000}", ".a" * 3000 + " = 1"],
    ids=["digits", "lists", "tables", "names"],
)
def test_a_file_that_no_reader_of_toml_takes_is_a_mistake_in_it(tmp_path: Path, text: str) -> None:
    """A daemon that is told to read it again goes on with what it has, as after any other mistake."""
    assert "is not TOML" in refusal(tmp_path, text.removeprefix("."))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml does not exist; name the file with --config"):
        load(tmp_path / "absent.toml", {})


def test_rules_for_kinds_that_no_provider_has_are_refused(tmp_path: Path) -> None:
    config = load(written(tmp_path, "[sweeps.chrage]\nevery = '1h'\n"), {})
    with pytest.raises(ConfigurationError, match=r"sweeps\.chrage .*line 1.* did you mean 'charge'\?"):
        require_known(config, {"charge": (), "refund": ()})
    config = load(written(tmp_path, "[[deadlines]]\nkind = 'refnd'\nstates = ['x']\nafter = '1m'\n"), {})
    with pytest.raises(ConfigurationError, match=r"deadlines\[1\]\.kind .*line 2.* did you mean 'refund'\?"):
        require_known(config, {"charge": (), "refund": ()})


STATES = {
    "intent": (
        "requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture",
        "canceled", "succeeded",
    ),
    "dispute": (
        "warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
        "appeal_needs_response", "appeal_under_review", "won", "lost", "prevented",
    ),
    "payout": ("scheduled", "pending", "in_transit", "paid", "canceled", "failed"),
    "subscription": (
        "incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused",
    ),
    "order": (
        "pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "voided", "expired",
    ),
}  # fmt: skip
"""As Stripe and Shopify publish them, the final ones too."""


def waiting_for(folder: Path, kind: str, state: str) -> Config:
    text = f"[[deadlines]]\nkind = '{kind}'\nstates = ['{state}']\nafter = '5m'\n"
    return load(written(folder, text), {})


@pytest.mark.parametrize(
    ("state", "meant"),
    [
        ("requires_actoin", "requires_action"),
        ("requires-action", "requires_action"),
        ("REQUIRES_ACTION", "requires_action"),
        ("requires_captur", "requires_capture"),
        ("procesing", "processing"),
    ],
)
def test_a_misspelt_state_of_a_deadline_is_refused(tmp_path: Path, state: str, meant: str) -> None:
    """It would look at nothing, in the place of the provider's own rule."""
    config = waiting_for(tmp_path, "intent", state)
    with pytest.raises(ConfigurationError, match=rf"deadlines\[1\]\.states\[1\] .*line 3.* did you mean '{meant}'\?"):
        require_known(config, STATES)


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind, all_of in STATES.items() for state in all_of])
def test_a_state_of_which_no_module_has_heard_may_be_waited_for(tmp_path: Path, kind: str, state: str) -> None:
    """Providers add states, and modules need not name final ones: none of those that there are is near another."""
    others = tuple(each for each in STATES[kind] if each != state)
    config = waiting_for(tmp_path, kind, state)
    require_known(config, {**STATES, kind: others})
    [(where, of, unnamed)] = unnamed_states(config, {kind: others})
    assert (of, unnamed) == (kind, state)
    assert "deadlines[1].states[1]" in where
    assert list(unnamed_states(config, STATES)) == []


def test_fee_rules_speak_of_configured_accounts(tmp_path: Path) -> None:
    config = load(written(tmp_path, "[[report.fee_rules]]\naccount = 'mian'\ncurrency = 'EUR'\n"), {})
    with pytest.raises(ConfigurationError, match=r"report\.fee_rules\[1\]\.account .*there is no account 'mian'"):
        require_known(config, {"charge": ()})
