"""What was asked, and the frame that the answer stands in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time


@dataclass(frozen=True, slots=True)
class FeeRule:
    """What a provider should charge: `gross x (bps + international_bps) / 10000`, rounded half up, + `fixed_minor`."""

    account: str
    category: str
    bps: int
    fixed_minor: int
    currency: str
    international_bps: int = 0
    """Added where the card's country is known and is not `home_country`."""
    home_country: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """`[report]` of the configuration: what finance agreed to accept."""

    grace_days: int = 2
    """Whole business days that an item without a counterpart may be old and still be timing."""
    tolerance_minor: int = 0
    item_materiality_minor: int = 0
    aggregate_materiality_minor: int = 0
    gateways: tuple[str, ...] = ("stripe",)
    """The shop's gateways whose payments run over an account of ours; all others are out of the match's scope."""
    fee_rules: tuple[FeeRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Params:
    """The question. The same question `as_of` the same instant has the same answer, byte for byte."""

    from_day: date
    to_day: date
    """Inclusive."""
    as_of: datetime
    timezone: str = "UTC"
    day_start: time = time(0)
    accounts: tuple[str, ...] = ()
    """Names from the configuration, sorted."""
    currency: str | None = None
    """None: all of them."""
    compare: datetime | None = None
    """An earlier instant of knowledge; what changed since then is listed."""
    sales: bool = False
    """Whether the sales of the period's orders are to be read, too."""
    rules: Rules = Rules()
    code_version: str = ""
    config_hash: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What every page, file and sheet shows before its first figure."""

    start: datetime
    """UTC; the period is `start <= t < end`."""
    end: datetime
    start_offset: str
    """`+01:00`: the zone's offset at the start; differs from the end's where daylight saving changed in between."""
    end_offset: str
    watermark: datetime | None
    """Through when every required stream was looked at; None where one of them never was."""
    notes: tuple[str, ...]
    """What the reader must know that no figure says."""
