"""Stores of every kind for tests, real Redis servers included."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("memory", "lmdb", "redis")
NO_SERVER = "redis-server is not installed: apt-get install redis-server"


class RedisServer:
    """A Redis server of its own on a free port, with its files in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip(NO_SERVER)
        self._command = [program, "--dir", str(folder), "--save", "", "--loglevel", "warning"]
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        """URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [*self._command, "--port", str(self.port), "--bind", "127.0.0.1", *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError("the Redis server does not answer")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A Redis server that ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def store_url(kind: str, folder: Path) -> Iterator[str]:
    """URL of a new store."""
    if kind == "redis":
        with redis_server(folder / "redis") as server:
            yield server.url
    else:
        yield {"memory": "memory://", "lmdb": f"lmdb://{folder / 'lmdb'}"}[kind]
