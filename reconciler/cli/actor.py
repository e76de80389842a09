"""Who gave a command, for the audit log."""

from __future__ import annotations

import getpass
import os


def at_the_terminal() -> str:
    """The name that the system has for them; their number where it has none, as in many a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the former until Python 3.12
        return f"uid {os.getuid()}"
