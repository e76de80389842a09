"""The HTTP side: the server, what is where on it, and whether the process is ready."""

from __future__ import annotations

from reconciler.web.bearer import Bearer, Grants
from reconciler.web.changes import CHANGES_SCOPE, WHOLE_SCOPE, ChangesDoor
from reconciler.web.connection import ServerLimits
from reconciler.web.expectations import ExpectationsDoor
from reconciler.web.gauges import LedgerGauges
from reconciler.web.port import listen
from reconciler.web.readiness import Readiness
from reconciler.web.server import WebServer
from reconciler.web.site import Site

__all__ = [
    "CHANGES_SCOPE",
    "WHOLE_SCOPE",
    "Bearer",
    "ChangesDoor",
    "ExpectationsDoor",
    "Grants",
    "LedgerGauges",
    "Readiness",
    "ServerLimits",
    "Site",
    "WebServer",
    "listen",
]
