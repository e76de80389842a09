"""Errors whose class is the policy: what to do next follows from the type, never from the text."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from reconciler.blotting import scrub


class ReconcilerError(Exception):
    """Root of everything this project raises on purpose. The message says what to do next."""


class UsageError(ReconcilerError):
    """The operator asked for something that cannot be done as asked; exit code 2."""


class Conflict(UsageError):
    """Somebody has decided otherwise meanwhile, or what was decided on has moved: look again. Over HTTP it is 409."""


class ConfigurationError(UsageError):
    """The configuration cannot be used; names the key, the line and the remedy."""


# --- the ledger -----------------------------------------------------------------------------------


class LedgerError(ReconcilerError):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """Locked, full, unreachable or stopped. Nothing was stored; the same call may succeed later."""


class LedgerContention(LedgerUnavailable):
    """Two transactions stood in each other's way and the database ended ours; the same call at once may succeed."""


class LedgerLocked(LedgerUnavailable):
    """Another transaction held what ours needed for longer than we wait; the same call may succeed after its end."""


class LedgerSaturated(LedgerUnavailable):
    """More calls are waiting than the bounded queue may hold; the sender should come back later."""


class TooLargeToSum(LedgerError, UsageError):
    """Amounts that each fit into 64 bits, and whose sum does not."""


class SchemaMismatch(LedgerError, UsageError):
    """The ledger's schema is older or newer than this program; run `reconcile migrate`, or upgrade."""


class LedgerForbidden(LedgerError, UsageError):
    """The database's role lacks a right; see docs/operations/postgres-roles.sql."""


# --- the provider ---------------------------------------------------------------------------------


class ProviderError(ReconcilerError):
    """A read failed. None of these is ever evidence that a resource does not exist.

    Providers quote what they were asked and whom it is about; such an error is logged, kept and shown, so keys and
    mail addresses are blotted out of it here.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(scrub(message))


class Unavailable(ProviderError):
    """5xx, time-out, broken connection: the same read may succeed later."""


class ThrottleScope(StrEnum):
    """How much of an account a throttle stops."""

    RESOURCE = "resource"
    ENDPOINT = "endpoint"
    ACCOUNT = "account"


class Throttled(ProviderError):
    """The provider asked us to slow down."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        scope: ThrottleScope = ThrottleScope.ACCOUNT,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """How long the provider asked us to wait; None when it did not say."""
        self.scope = scope
        self.reason = reason
        """The provider's own word for which limit was hit, for the budget and the operator."""


class AccessScope(StrEnum):
    """How much of an account a refusal closes."""

    KIND = "kind"
    ACCOUNT = "account"


class AccessDenied(ProviderError):
    """401 or 403: retrying cannot help until a person changes a key, a scope or a permission."""

    def __init__(self, message: str, *, scope: AccessScope, permission: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope
        self.permission = permission
        """The missing permission in the provider's own words, where it named one."""


class OutOfSight(ProviderError):
    """The read answered "missing" for something these credentials may not see: "not looked at: scope"."""


class BadReply(ProviderError):
    """The provider answered something that cannot be read as a resource."""


# --- deliveries -----------------------------------------------------------------------------------


class DeliveryRejected(ReconcilerError):
    """A delivery that is not accepted. `reason` is a short stable word for the log, the audit row and metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SignatureRejected(DeliveryRejected):
    """Signature missing, wrong, too old, or too far in the future; answered 401."""


class MalformedDelivery(DeliveryRejected):
    """Properly signed, but not something a receiver can read; answered 400."""
