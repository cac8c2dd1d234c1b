"""Processes forked from one that has computed: they compute too, with one thread, and do not hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked_commands import CommandServer
from tests.trained import tiny_artifact, tiny_prepared, tiny_run

# With two threads, which conftest forbids to the suite itself; 2,000 candidates are enough for both of them.
PROGRAM = """
import logging, multiprocessing, os, sys
import torch
torch.set_num_threads(2)
unguarded = sys.argv[1] == "unguarded"
if unguarded:
    os.register_at_fork = lambda **hooks: None
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")

def score(scorer):
    candidates = [{"item": 10 * (n % 12 + 1)} for n in range(2000)]
    return scorer.score({"user": 101, "time": 1600000100, "candidates": candidates}).logits.tolist()

def evaluate(run):
    from clickscale.workflow import evaluate
    return evaluate(run, bootstrap=0).to_dict()["labels"][0]["rows"]

def train(run):
    from clickscale import TrainConfig
    from clickscale.workflow import train
    config = TrainConfig(model="din", data="tiny", grade="size-1", batch_size=512, threads=2)
    return train(config, f"{run}-child").finished

def child(act, given, answers):
    answers.put((act(given), torch.get_num_threads()))

def fork_and_compare(act, given):
    from clickscale.inference.scorer import Scorer
    given = Scorer(given) if act is score else given
    expected = evaluate(given) or True if act is train else act(given)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    process = fork.Process(target=child, args=(act, given, answers))
    process.start()
    process.join(8 if unguarded else 120)
    if process.exitcode != 0:
        process.kill()
        sys.exit(f"the child ended with {process.exitcode}")
    found, threads = answers.get()
    assert found == expected or act is train and found is True, (found, expected)
    print("threads of the child:", threads, "of the parent:", torch.get_num_threads())

if __name__ == "__main__":
    fork_and_compare(score, "artifact-din")
    if not unguarded:
        fork_and_compare(evaluate, "din-0")
        fork_and_compare(train, "din-0")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("forks")
    dataset = tiny_prepared(here)
    tiny_artifact(here, dataset)
    tiny_run(here, dataset, "din")
    return here


def run(folder: Path, how: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


THREADS = """
import os, sys
import torch
if sys.argv[1] == "unguarded":
    os.register_at_fork = lambda **hooks: None
from clickscale.runtime import survive_forks
survive_forks()
torch.set_num_threads(2)
child = os.fork()
if child == 0:
    os._exit(torch.get_num_threads())
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "parent", torch.get_num_threads())
"""


@pytest.mark.parametrize(("how", "threads"), [("guarded", 1), ("unguarded", 2)])
def test_a_child_gives_up_the_threads_that_stay_with_its_parent(
    how: str, threads: int, command_server: CommandServer
) -> None:
    done = command_server.run_program(THREADS, how)
    assert done.stdout == f"child {threads} parent 2\n", done.stderr


@pytest.mark.wide
def test_a_forked_process_computes_with_one_thread_and_says_so(folder: Path) -> None:
    done = run(folder, "guarded")
    assert done.returncode == 0, done.stderr
    # One child scores, one evaluates, one trains: a process for each would load torch three times.
    assert done.stdout.count("threads of the child: 1 of the parent: ") == 3
    assert done.stdout.count("This process was forked from one that had computed, so it uses 1 thread") == 3


@pytest.mark.slow
def test_without_the_guard_a_forked_process_waits_for_ever(folder: Path) -> None:
    done = run(folder, "unguarded")
    assert "the child ended with None" in done.stderr
