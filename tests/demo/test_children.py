"""The demo's port is chosen before its daemon starts: nobody else may be given it meanwhile."""

from __future__ import annotations

import socket

import pytest

from reconciler.demo.children import reserved_port


def test_a_reserved_port_is_given_to_nobody_but_whoever_names_it() -> None:
    with reserved_port() as port:
        for _ in range(2):  # the daemon is killed, and starts again
            with socket.create_server(("127.0.0.1", port)) as listening, socket.create_connection(("127.0.0.1", port)):
                accepted, _ = listening.accept()
                accepted.close()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
