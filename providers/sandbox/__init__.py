"""Stripe as a stateful look-alike over real HTTP: for the demo, the tests, and people who build on us.

`World` is one account's truth, pure and seeded; `SandboxServer` serves it with Stripe's filters, pages, limits and
errors, sends its webhooks, and strikes with the faults of a `FaultPlan`. Nothing here is ever imported by the core.
"""

from providers.sandbox.faults import Chance, FaultPlan
from providers.sandbox.keys import ApiKey
from providers.sandbox.limits import Limits
from providers.sandbox.sender import RetrySchedule
from providers.sandbox.server import SandboxServer
from providers.sandbox.threaded import ThreadedSandbox
from providers.sandbox.world import World

__all__ = ["ApiKey", "Chance", "FaultPlan", "Limits", "RetrySchedule", "SandboxServer", "ThreadedSandbox", "World"]
