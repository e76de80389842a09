"""The change feed: telling other systems what changed, the way one wishes that providers told us."""

from __future__ import annotations
