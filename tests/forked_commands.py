"""Run ``clickscale`` commands in forks of one process that has loaded torch already.

Loading torch takes longer than most commands of the documents. A server process loads it once; each command
is a fork of it, with the arguments, folder, environment and streams of the caller. The caller is a small
script named ``clickscale``, to be put first on the PATH.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PRELOADED = (
    "clickscale.cli.app",
    "clickscale.cli.inspection",
    "clickscale.workflow",
    "clickscale.tuning.search",
    "clickscale.benchmarking.benchmark",
    "clickscale.run_page",
    "clickscale.data.adapters",
    "clickscale.data.described.guess",
    "clickscale.data.described.log",
    "clickscale.data.preparation.prepare",
    "clickscale.inference.scorer",
    "clickscale.inference.statistic_counters",
    "matplotlib.figure",
    "pydantic",  # the library of the command line loads it with the first command
    "rich.table",
    "torch._dynamo",  # the first optimizer of a process loads it
    "torch.utils.tensorboard",
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
        for _ in range(600):  # loading torch takes seconds, on a busy machine many
            if self._process.poll() is not None:
                raise RuntimeError(f"the server of commands ended with {self._process.returncode}")
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(address)
                return
            time.sleep(0.1)
        raise RuntimeError("the server of commands did not answer within a minute")

    def close(self) -> None:
        """End the server; commands that still run go on."""
        self._process.terminate()
        self._process.wait()


def serve(address: str) -> None:
    """Answer until the process is ended."""
    from clickscale.runtime import configure_process

    configure_process()
    for name in PRELOADED:
        __import__(name)
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
    sys.argv = ["clickscale", *arguments]
    from clickscale.cli import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code]))
    sys.exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
