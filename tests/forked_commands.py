"""Run ``clickscale`` commands, and programs of tests, in forks of one process that has loaded torch already.

Loading torch takes longer than most commands of the documents. A server process loads it once; each command
is a fork of it, with the arguments, folder, environment and streams of the caller. The caller is a small
script named ``clickscale``, to be put first on the PATH, or a test that calls `CommandServer.start`. The
cells of a sweep or a benchmark are processes that call that script.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]

PRELOADED = (
    "clickscale.cli.app",
    "clickscale.cli.inspection",
    "clickscale.workflow",
    "clickscale.tuning.search",
    "clickscale.benchmarking.benchmark",
    "clickscale.run_page",
    "clickscale.data.adapters",
    "clickscale.data.described.drafts.guess",
    "clickscale.data.described.log",
    "clickscale.data.checks.leaks",
    "clickscale.data.preparation.prepare",
    "clickscale.inference.scorer",
    "clickscale.inference.statistic_counters",
    "clickscale.models.din",
    "clickscale.models.lightsuan",
    "clickscale.models.suan",
    "clickscale.scaling.scaling_page",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "rich._emoji_codes",  # the first table that is printed loads it
    "rich.table",
    "torch.utils.tensorboard",
    "typer._adapters",  # the first command loads it, and pydantic
    "yaml",
)

CLIENT = """#!{python} -SE
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
command = int.from_bytes(server.recv(4), "big")
signal.signal(signal.SIGTERM, lambda *_: os.kill(command, signal.SIGTERM))
code = server.recv(1)
sys.exit(code[0] if code else "the command died")
"""

# The program of a job of `clickscale.benchmarking.processes`, its commands handed to the server.
JOB = """
import json, subprocess, sys
for words in json.loads(sys.argv[1]):
    if code := subprocess.run([{script!r}, *words]).returncode:
        sys.exit(code)
"""


class CommandServer:
    """The server process, and the folder that holds the client script.

    Args:
        folder: an empty folder for the socket and the script; its path is short, as sockets demand.
    """

    def __init__(self, folder: Path) -> None:
        address = str(folder / "socket")
        self.folder = folder
        script = folder / "clickscale"
        script.write_text(CLIENT.format(python=sys.executable, address=address), "utf-8")
        script.chmod(0o755)
        self._process = subprocess.Popen([sys.executable, "-m", "tests.forked_commands", address])
        for _ in range(2400):  # loading torch takes seconds, on a busy machine minutes
            if self._process.poll() is not None:
                raise RuntimeError(f"the server of commands ended with {self._process.returncode}")
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(address)
                return
            time.sleep(0.1)
        raise RuntimeError("the server of commands did not answer within four minutes")

    def start(self, *arguments: str, folder: Path) -> "ForkedCommand":
        """Start a command in a folder; its streams are pipes."""
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to), (out, stdout), (err, stderr) = pipes
        call = socket.socket(socket.AF_UNIX)
        call.connect(str(self.folder / "socket"))
        body = json.dumps([arguments, str(folder), dict(os.environ)]).encode()
        socket.send_fds(call, [len(body).to_bytes(4, "big")], [stdin, stdout, stderr])
        call.sendall(body)
        for stream in (stdin, stdout, stderr):
            os.close(stream)
        pid = int.from_bytes(call.recv(4), "big")
        return ForkedCommand(pid, call, os.fdopen(to, "w"), os.fdopen(out), os.fdopen(err))

    def run_program(
        self, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program as ``python -c`` does; it may end, kill itself or fork in any way.

        Args:
            program: source text, which finds the package and the tests.
            arguments: of the program. What it prints has to fit into a pipe.
            environment: variables beside those of this process.
        """
        with patch.dict(os.environ, environment or {}):
            command = self.start("-c", program, *arguments, folder=ROOT)
        out, err = command.communicate(timeout=240)
        return subprocess.CompletedProcess(["-c", *arguments], command.wait(), out, err)

    def close(self) -> None:
        """End the server; commands that still run go on."""
        self._process.terminate()
        self._process.wait()


class ForkedCommand:
    """A running command: what `subprocess.Popen` offers, as far as tests need it."""

    def __init__(
        self, pid: int, call: socket.socket, stdin: IO[str], stdout: IO[str], stderr: IO[str]
    ) -> None:
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self.returncode: int | None = None
        self._call = call

    def poll(self) -> int | None:
        """Exit code, or None while the command runs; -9 if it died without telling one."""
        if self.returncode is None and select.select([self._call], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end of the command; its exit code."""
        if self.returncode is None:
            self._call.settimeout(timeout)
            code = self._call.recv(1)
            self.returncode = code[0] if code else -signal.SIGKILL
            self._call.close()
        return self.returncode

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """End the input, wait for the end of the command; what it printed, which has to fit into a pipe."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.wait(timeout)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command if it still runs, and close its streams."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            with suppress(BrokenPipeError):
                stream.close()


def measure_briefly() -> None:
    """Take few steps of a training to tell its speed and its operations: tests compare no speeds.

    Counting the operations of 32 batches took longer than all the rest of a tiny sweep.
    """
    from clickscale.benchmarking import speeds

    speeds._STEPS, speeds._COUNTED = 3, 4


def serve(address: str) -> None:
    """Answer until the process is ended."""
    from clickscale.runtime import configure_process

    configure_process()
    for name in PRELOADED:
        __import__(name)
    from clickscale import cli
    from clickscale.benchmarking import processes

    cli._command()
    os.fsync = lambda handle: None  # as in tests/conftest.py
    measure_briefly()
    processes._PROGRAM = JOB.format(script=str(Path(address).with_name("clickscale")))
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page of what is loaded
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system clears finished commands away
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        while True:
            caller, _ = listener.accept()
            with caller:
                if os.fork() == 0:
                    listener.close()
                    _run(caller)


def _run(caller: socket.socket) -> None:
    """Be the command that the caller asks for, and tell it the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(caller, 4, 3)
    if not head:
        os._exit(0)  # a probe
    body = b""
    while len(body) < int.from_bytes(head, "big"):
        body += caller.recv(65536)
    caller.sendall(os.getpid().to_bytes(4, "big"))  # the caller hands signals to stop on
    arguments, folder, environment = json.loads(body)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[:1] == ["-c"]:
        code = _run_program(*arguments[1:])
    else:
        sys.argv = ["clickscale", *arguments]
        from clickscale.cli import main

        code = main()
    # All that the end of an interpreter does, but taking apart what was loaded, which takes longer than
    # most commands.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code]))
    os._exit(code)


def _run_program(program: str, *arguments: str) -> int:
    """Run a program in one more fork, which may die; its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256
    sys.argv = ["-c", *arguments]
    code = 0
    try:
        exec(compile(program, "program", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
