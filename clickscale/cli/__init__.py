"""The command line.

Exit codes: 0 done; 1 a check found something (a leak); 2 wrong usage, wrong or damaged input, or state of
the disk; 3 a defect of clickscale itself; 130 and 143 interrupted by Ctrl-C and by SIGTERM.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType
from typing import Any

import typer

from clickscale.cli.app import app
from clickscale.cli.console import is_out_of_memory, listen, say
from clickscale.errors import ClickscaleError
from clickscale.runtime import configure_process

DONE, FOUND, WRONG, DEFECT, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; errors are one line on stderr unless ``--debug`` is given."""
    if arguments is None:  # a process of its own: SIGTERM ends a verb like Ctrl-C, with its own exit code
        configure_process()
        signal.signal(signal.SIGTERM, _terminate)
    given = list(sys.argv[1:] if arguments is None else arguments)
    listen()
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = _command()(given, prog_name="clickscale", standalone_mode=False)
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _explain(error)
    if code == INTERRUPTED:
        say("interrupted")
    return int(code or DONE)


@cache  # for programs that run several verbs: making all of them takes longer than the shortest
def _command() -> Callable[..., Any]:
    """Make the command with every verb."""
    return typer.main.get_command(app)


def _explain(error: BaseException) -> int:
    """Print the error as one line and return the exit code that belongs to it."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else WRONG
        case KeyboardInterrupt() | typer.Abort():
            say("interrupted")
            return INTERRUPTED
        case typer.TyperException():
            message = error.format_message()
            if message.lstrip().startswith(
                "Usage:"
            ):  # a group without its verb: the message is the whole help
                say(message)
            else:
                say(f"error: {_one_line(message)} (clickscale VERB --help tells more)")
            return WRONG
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush at exit
            return DONE
        case ClickscaleError() | OSError():
            from clickscale.files import system_error  # help must not wait for it

            say(f"error: {_one_line(system_error(error))}")
            return WRONG
        case MemoryError() | RuntimeError() if is_out_of_memory(error):
            say("error: out of memory; use smaller pieces (--help names the option of this verb)")
            return WRONG
    name = type(error).__name__
    say(f"error: {name}: {_one_line(str(error))} (a defect of clickscale; --debug shows where)")
    return DEFECT


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
