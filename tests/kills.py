"""Processes that die at every step of writing, one after the other."""

from pathlib import Path

from tests.forked_commands import CommandServer

# A fork of an interpreter that has everything loaded takes milliseconds, a new interpreter takes seconds.
_PROGRAM = """
import os, pathlib, shutil, sys
space = {}
exec(compile(sys.argv[1], "child", "exec"), space)

def deadly(name, last):
    real = getattr(os, name)
    def call(*arguments, **options):
        calls[0] += 1
        if calls[0] == last:
            os._exit(9)
        return real(*arguments, **options)
    setattr(os, name, call)

# A start that is thrown away loads what every fork would load again.
first = pathlib.Path(sys.argv[2]) / "000"
first.mkdir()
space["start"](first)
shutil.rmtree(first)
calls, number, code = [0], 0, 9
while code == 9:
    number += 1
    if os.fork() == 0:
        folder = pathlib.Path(sys.argv[2]) / f"{number:03d}"
        folder.mkdir()
        space["start"](folder)
        for name in ("fsync", "replace", "rename", "mkdir", "rmdir", "unlink"):
            deadly(name, number)
        space["act"](folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
print(code)
"""


def killed_everywhere(program: str, folder: Path, server: CommandServer) -> list[Path]:
    """Kill ``act(folder)`` of a program at each call that renames, removes, makes or syncs something.

    Args:
        program: source text that defines ``start(folder)``, which is not killed, and ``act(folder)``.
        folder: empty; each process works in a folder of its own below it.
        server: forks the processes.

    Returns:
        The folders of the killed processes, from the earliest kill to the latest; one more process, whose
        folder is not among them, came to its end.
    """
    found = server.run_program(_PROGRAM, program, str(folder))
    assert (found.returncode, found.stdout) == (0, "0\n"), found.stderr
    return sorted(path for path in folder.iterdir() if path.is_dir())[:-1]
