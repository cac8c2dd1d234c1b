"""What holds for every test: one torch thread, no network, no window, the same random examples every time."""

import os

# Set before any test imports torch. The suite runs as several processes, and more threads than cores wait for
# each other far longer than they compute.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# As `clickscale.runtime.configure_process` sets it for a command. LightGBM starts a thread for every core
# whatever stands above, and threads that wait by spinning take the cores from each other.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["MPLBACKEND"] = "Agg"
# Else every worker compiles all tests, and every process that a test starts the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import gc
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings

from tests.forked_commands import CommandServer, measure_briefly

sys.dont_write_bytecode = False

# No test cuts the power, and small files that each wait for the disk take longer than what the tests compute.
os.fsync = lambda handle: None

# Derandomized: a failure seen by CI is the failure seen at home. No deadline: the machine may be busy.
settings.register_profile("clickscale", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("clickscale")

# A shell that starts the suite in the background lets it ignore Ctrl-C, and all its processes with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Measure speeds briefly, and spare the garbage collector what lives to the end.

    Walking that took a fifth of the time of drafts.
    """
    measure_briefly()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def command_server() -> Iterator[CommandServer]:
    """A process that has loaded torch and forks itself for every command."""
    with tempfile.TemporaryDirectory() as folder:
        server = CommandServer(Path(folder))
        yield server
        server.close()


@pytest.fixture(autouse=True)
def own_log() -> None:
    """Take back what a verb, in another test or in a fixture, did to the log of the process."""
    log = logging.getLogger("clickscale")
    log.handlers.clear()
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Let tests reach servers of their own on this machine and nothing else."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        host = (
            address[0] if isinstance(address, tuple) else "localhost"
        )  # Unix sockets are addressed by a path
        if host not in {"localhost", "127.0.0.1", "::1"}:
            raise AssertionError(f"This test reached for {host}; tests run without a network.")
        connect(self, address)

    with patch.object(socket.socket, "connect", connect_here):
        yield
