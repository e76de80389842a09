"""Keeps a local ledger equal to what the providers say, proves it, and says where it cannot."""

__version__ = "0.1.0"
