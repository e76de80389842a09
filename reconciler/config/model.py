"""What `config.toml` may hold: one frozen model per section. The file itself tells operators what each key is for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from reconciler.config.durations import Duration, span_or_for_ever
from reconciler.config.lasting import lasting
from reconciler.config.places import Origins, Places
from reconciler.model import Cause
from reconciler.provider import DeadlineRule, Kind, Number, Whole, network, shaped

_ACCOUNT_NAME = re.compile(r"[a-z0-9_-]+")
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


def _at_least(least: timedelta, words: str) -> AfterValidator:
    def check(span: timedelta) -> timedelta:
        if span < least:
            raise ValueError(f"expected at least {words}")
        return span

    return AfterValidator(check)


Interval = Annotated[Duration, _at_least(_SECOND, "1s")]
"""How often something happens: a second or more, or a typing error would turn into a flood of requests."""

Span = Annotated[Duration, _at_least(timedelta(0), "0s")]


NetworkText = Annotated[str, BeforeValidator(network)]
Named = Annotated[str, Field(min_length=1)]
Header = Annotated[str, shaped(r"[A-Za-z0-9-]*", 'the name of a header, such as "X-Forwarded-User"')]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class LedgerSection(Section):
    url: Annotated[str, AfterValidator(lasting)] = "sqlite:///reconciler.db"


class EncryptionSection(Section):
    """Sealing at rest. Pointers (`env:NAME`, `file:/path`) to keys, newest first."""

    keys: tuple[str, ...] = Field(default=(), max_length=10)
    """The first seals what is written, every one opens what is there; none: bodies lie open in the ledger."""


class ServerSection(Section):
    host: Named = "127.0.0.1"
    port: Whole = Field(default=8080, ge=0, le=65535)
    """0: the system picks one, for tests."""
    body_limit_bytes: Whole = Field(default=1_048_576, ge=1024, le=64 * 1_048_576)
    deliveries_per_second: Whole = Field(default=0, ge=0)
    """For one sender's address; beyond it 429. 0: no limit."""
    trusted_proxies: tuple[NetworkText, ...] = ()
    """Networks of proxies whose X-Forwarded-For says where a delivery came from."""
    expectation_tokens: tuple[str, ...] = ()
    """Pointers (`env:NAME`, `file:/path`) to the tokens that `POST /expectations` accepts; none: it accepts nothing."""
    api_tokens: tuple[str, ...] = ()
    """Pointers to the tokens with which programs may read the change feed, bodies included; none: nobody may."""
    public_url: Annotated[
        str, shaped(r"(https?://[^\s/?#]+(/[^\s?#]*)?)?", 'an address such as "https://reconciler.example.com"')
    ] = ""
    """How the outside reaches this server, for references in what is sent; empty: the address it listens on."""

    def address(self, bound: str | None = None) -> str:
        """How others reach this process. The same from the first message on, and not only once the server listens
        (`bound`): a message keeps its bytes. Empty where the system picks the port and nobody listens yet."""
        if self.public_url or not self.port:
            return self.public_url or bound or ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class Deadline(Section):
    """As `reconciler.provider.DeadlineRule`, which it becomes."""

    kind: str
    states: tuple[str, ...] = Field(min_length=1)
    after: Span

    @property
    def rule(self) -> DeadlineRule:
        return DeadlineRule(self.kind, frozenset(self.states), self.after)


class Sweep(Section):
    every: Interval = timedelta(minutes=5)
    lag: Span = timedelta(seconds=60)
    overlap: Span = timedelta(minutes=10)
    full_every: Interval = timedelta(hours=24)


class SweepOverride(Section):
    """`[sweeps.KIND]`: what differs for one kind."""

    every: Interval | None = None
    lag: Span | None = None
    overlap: Span | None = None
    full_every: Interval | None = None


KIND_TABLES = "[sweeps.KIND]"
"""Where a section keeps its tables; no file can have a key of this name by mistake."""


class SweepsSection(Sweep):
    watch_every: Interval = timedelta(hours=1)
    """How often the account itself is looked at: credentials, permissions, subscriptions, clock."""
    kinds: Mapping[str, SweepOverride] = Field(default_factory=dict, validation_alias=KIND_TABLES)

    @model_validator(mode="before")
    @classmethod
    def _gather_kinds(cls, given: Any) -> Any:
        """Tables inside `[sweeps]` are kinds; `kinds` itself is not a key of the file."""
        if not isinstance(given, Mapping):
            return given
        own = {name: value for name, value in given.items() if not isinstance(value, Mapping)}
        return own | {KIND_TABLES: {name: value for name, value in given.items() if isinstance(value, Mapping)}}

    def of(self, kind: str) -> Sweep:
        """The rhythm of one kind, its overrides included."""
        override = self.kinds.get(kind)
        own = {name: getattr(self, name) for name in Sweep.model_fields}
        return Sweep(**(own | ({} if override is None else override.model_dump(exclude_none=True))))


class WorkerSection(Section):
    concurrency: Whole = Field(default=16, ge=1, le=1000)
    lease: Annotated[Duration, _at_least(_SECOND, "1s")] = timedelta(seconds=60)
    least_interval: Span = timedelta(seconds=1)
    request_timeout: Interval = timedelta(seconds=30)

    @property
    def longest_request(self) -> timedelta:
        """A read that outlives its lease is lost when it arrives, so a short lease shortens the requests too."""
        return min(self.request_timeout, self.lease * 4 / 5)


class RetrySection(Section):
    attempts: Whole = Field(default=8, ge=1, le=1000)
    max_wait: Interval = timedelta(minutes=30)
    parked: Interval = timedelta(hours=24)


def _zone(value: object) -> object:
    """Raises ValueError for anything that the time zone database does not know."""
    if isinstance(value, str):
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError('expected a time zone of the IANA database, such as "UTC" or "Europe/Berlin"') from None
    return value


class FeeRule(Section):
    """What a fee should be: `bps` hundredths of a percent of the amount, plus a fixed part."""

    account: str
    category: str = "charge"
    bps: Whole = Field(default=0, ge=0, le=10_000)
    fixed_minor: Whole = Field(default=0, ge=0)
    currency: Annotated[str, shaped("[A-Z]{3}", 'a currency in three capital letters, such as "EUR"')]
    international_bps: Whole = Field(default=0, ge=0, le=10_000)
    home_country: Annotated[str, shaped("[A-Z]{2}", 'a country in two capital letters, such as "DE"')] | None = None


class JournalSection(Section):
    """`[report.journal]`: what the books call the accounts that the exported journals post to."""

    clearing: Named = "Assets:Clearing:{account}:{balance_type}"
    payouts: Named = "Assets:Payouts-In-Transit"
    transfers: Named = "Assets:Transfers"
    sales: Named = "Income:Sales"
    refunds: Named = "Income:Refunds"
    disputes: Named = "Expenses:Disputes"
    fees: Named = "Expenses:Fees"
    fx: Named = "Income:FX"
    rounding: Named = "Expenses:Rounding"
    other: Named = "Income:Other"
    opening: Named = "Equity:Opening-Balances"
    prior_period: Named = "Equity:Prior-Period"

    @field_validator("*")
    @classmethod
    def _braces(cls, name: str, info: ValidationInfo) -> str:
        """What is misspelt would be an account of that name in the books."""
        known = ("{account}", "{balance_type}") if info.field_name == "clearing" else ()
        for each in re.findall(r"\{[^}]*\}?", name):
            if each not in known:
                raise ValueError(f"{each} stands for nothing here" + (f"; {' and '.join(known)} do" if known else ""))
        return name


class ReportSection(Section):
    timezone: Annotated[str, BeforeValidator(_zone)] = "UTC"
    day_start: Annotated[str, shaped(_CLOCK, 'a time of day such as "06:00"')] = "00:00"
    grace_days: Whole = Field(default=2, ge=0, le=365)
    tolerance_minor: Whole = Field(default=0, ge=0)
    item_materiality_minor: Whole = Field(default=0, ge=0)
    aggregate_materiality_minor: Whole = Field(default=0, ge=0)
    gateways: tuple[Named, ...] = ("stripe",)
    fee_rules: tuple[FeeRule, ...] = ()
    journal: JournalSection = JournalSection()


class AlertsSection(Section):
    urls: tuple[str, ...] = ()
    """Pointers to the addresses that are told, as apprise writes them; none: nobody is told."""
    heartbeat: str | None = None
    """A pointer to an address that is fetched after each look; a dead man's switch."""
    every: Interval = timedelta(seconds=30)
    repeat: Interval = timedelta(hours=24)
    quiet: Annotated[str, shaped(f"{_CLOCK}-{_CLOCK}", 'hours such as "22:00-07:00"')] | None = None
    """Hours of `report.timezone` in which only errors are told."""
    oldest_dirty: Span = timedelta(minutes=10)
    not_looked_at: Span = timedelta(minutes=30)
    outage: Span = timedelta(minutes=15)
    untold_share: Number = Field(default=0.2, ge=0, le=1)
    rejected: Whole = Field(default=100, ge=1)
    secret_age: Interval = timedelta(days=90)
    disk_share: Number = Field(default=0.05, ge=0, le=1)
    disk_bytes: Whole = Field(default=10 * 2**30, ge=0)
    """With less than both free on the ledger's disk, somebody is told; 0 in one of them: nobody is."""


def _account_name(name: str) -> str:
    if not _ACCOUNT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name an account; use a-z, 0-9, _ and - only")
    return name


class AccountTable(BaseModel):
    """`[accounts.NAME]` as the core knows it; its other keys are the provider's to check."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    provider: Named

    @property
    def keys(self) -> Mapping[str, Any]:
        """Everything in the table, `provider` included."""
        return {"provider": self.provider, **(self.model_extra or {})}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without the other keys: until the provider's model has seen them, a secret may stand there by mistake."""
        yield "provider", self.provider


class ConsoleSection(Section):
    """How long people stay logged in."""

    session_length: Interval = timedelta(hours=12)
    session_idle: Interval = timedelta(hours=2)
    trusted_proxies: tuple[NetworkText, ...] = ()
    """Networks whose word about a request is believed."""
    proxy_user_header: Header = ""
    proxy_role_header: Header = ""
    oidc_issuer: Annotated[str, shaped(r"(https?://[^\s?#]+)?", 'an address such as "https://id.example.com"')] = ""
    """Empty: no single sign-on."""
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    """A pointer, `env:NAME` or `file:/path`."""
    oidc_name_claim: str = "email"
    oidc_role_claim: str = "groups"
    oidc_roles: Mapping[str, Literal["viewer", "finance", "operator"]] = Field(default_factory=dict)

    @field_validator("proxy_user_header", "proxy_role_header")
    @classmethod
    def _in_company(cls, header: str, info: ValidationInfo) -> str:
        if not header:
            return header
        if info.field_name == "proxy_user_header" and not info.data.get("trusted_proxies"):
            raise ValueError("needs console.trusted_proxies: whom to believe")
        if info.field_name == "proxy_role_header" and not info.data.get("proxy_user_header"):
            raise ValueError("needs console.proxy_user_header: whose role it is")
        return header


def _kept_at_least(least: timedelta, words: str) -> AfterValidator:
    def check(span: timedelta | None) -> timedelta | None:
        if span is not None and span < least:
            raise ValueError(f'expected at least {words}, or "forever"')
        return span

    return AfterValidator(check)


class RetentionSection(Section):
    """How long rows stay that no report reads; None (`"forever"`): they are never taken away."""

    deliveries: Annotated[
        timedelta | None, BeforeValidator(span_or_for_ever), _kept_at_least(timedelta(days=35), "35d")
    ] = timedelta(days=400)
    """Longer than any provider repeats a delivery or keeps an event in its feed: they are recognised by these rows."""
    rejected: Annotated[timedelta | None, BeforeValidator(span_or_for_ever), _kept_at_least(_DAY, "1d")] = timedelta(
        days=90
    )
    expectations: Annotated[timedelta | None, BeforeValidator(span_or_for_ever), _kept_at_least(_DAY, "1d")] = (
        timedelta(days=400)
    )
    reads: Annotated[timedelta | None, BeforeValidator(span_or_for_ever), _kept_at_least(timedelta(days=35), "35d")] = (
        timedelta(days=400)
    )
    """Longer than the period of a provider's read allocation."""


class TracingSection(Section):
    endpoint: Annotated[
        str, shaped(r"(https?://[^\s?#]+)?", 'an address such as "http://127.0.0.1:4318/v1/traces"')
    ] = ""
    """Where spans are sent, as OTLP over HTTP; empty: nothing is traced."""


class OutboxSection(Section):
    """How subscribers are told of changes."""

    concurrency: Whole = Field(default=500, ge=1, le=10_000)
    timeout: Interval = timedelta(seconds=15)
    attempts: Whole = Field(default=10, ge=1, le=1000)
    give_up_after: Span = timedelta(days=3)
    max_wait: Interval = timedelta(minutes=60)
    disable_after: Interval = timedelta(days=5)
    keep: Annotated[Duration, _at_least(_DAY, "1d")] = timedelta(days=30)
    allowed_networks: tuple[NetworkText, ...] = ()
    trusted_certificates: str = ""
    """A PEM file of certificate authorities that are believed beside the public ones."""


class SubscriptionTable(Section):
    """`[[subscriptions]]`: somebody who is told of changes."""

    name: Annotated[str, shaped("[a-z0-9_-]{1,64}", "a name of a-z, 0-9, _ and -, at most 64 of them")]
    url: str = Field(min_length=1, max_length=2000)
    secrets: tuple[str, ...] = Field(min_length=1, max_length=10)
    """Pointers to what signs, newest first; several while one is being replaced."""
    accounts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    fields: tuple[str, ...] = ()
    body: Literal["thin", "full"] = "thin"
    order: Literal["every", "newest"] = "every"
    concurrency: Whole = Field(default=4, ge=1, le=100)
    per_second: Number = Field(default=0.0, ge=0.0, le=1000.0)
    """Requests per second on average; 0: no limit."""


class Config(BaseSettings):
    """The whole configuration. Values only: `reconciler.config.load` reads the file and the environment."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, env_prefix="RECONCILER__", env_nested_delimiter="__"
    )

    ledger: LedgerSection = LedgerSection()
    encryption: EncryptionSection = EncryptionSection()
    server: ServerSection = ServerSection()
    log: LogSection = LogSection()
    tracing: TracingSection = TracingSection()
    accounts: dict[Annotated[str, AfterValidator(_account_name)], AccountTable] = Field(default_factory=dict)
    deadlines: tuple[Deadline, ...] = ()
    sweeps: SweepsSection = SweepsSection()
    worker: WorkerSection = WorkerSection()
    retry: RetrySection = RetrySection()
    report: ReportSection = ReportSection()
    alerts: AlertsSection = AlertsSection()
    console: ConsoleSection = ConsoleSection()
    outbox: OutboxSection = OutboxSection()
    retention: RetentionSection = RetentionSection()
    subscriptions: tuple[SubscriptionTable, ...] = ()

    _origins: Origins = PrivateAttr(default_factory=lambda: Origins(Places(), {}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given: building one reads nothing behind the caller's back."""
        return (init_settings,)

    @property
    def origins(self) -> Origins:
        """Where each value came from, for messages."""
        return self._origins

    def deadline_rules(self, kinds: Iterable[Kind]) -> tuple[DeadlineRule, ...]:
        """The rules for these kinds: the configured ones, else the kind's own."""
        rules: list[DeadlineRule] = []
        for kind in kinds:
            configured = [each.rule for each in self.deadlines if each.kind == kind.name]
            rules.extend(configured or kind.deadlines)
        return tuple(rules)
