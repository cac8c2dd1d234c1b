import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from clickscale.errors import DamagedError, DivergedError, RunError
from clickscale.files import file_entry
from clickscale.training.run import checkpoint as module
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere

FILES = ("state.safetensors", "state.json", "manifest.json")


def some(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model.weight": torch.randn(5, 3, generator=generator),
        "model.half": torch.randn(4, generator=generator).bfloat16(),
        "random.cpu": generator.get_state(),
        "count": torch.tensor(step),
        "none": torch.zeros(0, 3),
    }
    return Checkpoint(step, tensors, {"epoch": 0, "batch": step, "note": "å", "seconds": 0.1 + step / 3})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    equal = a.tensors.keys() == b.tensors.keys() and all(
        torch.equal(t, b.tensors[n]) for n, t in a.tensors.items()
    )
    return equal and a.step == b.step and a.facts == b.facts


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    folder = CheckpointStore(tmp_path).save(some(7))
    assert same(read_checkpoint(folder), some(7))


def test_an_empty_store_has_nothing_to_load(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "new").load() == (None, [])


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 10):
        store.save(some(step))
    assert store.steps() == [2, 10]
    found, problems = store.load()
    assert found is not None
    assert same(found, some(10))
    assert not problems


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(3))
    store.save(Checkpoint(3, {"x": torch.ones(1)}, {}))
    found, _ = store.load()
    assert found is not None
    assert list(found.tensors) == ["x"]


def test_litter_is_swept(tmp_path: Path) -> None:
    (tmp_path / "step-00000001.partial").mkdir()
    (tmp_path / "step-00000001.partial" / "state.json").write_text("{")
    (tmp_path / "latest.partial").mkdir()
    CheckpointStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_bit_is_seen_and_the_older_checkpoint_taken(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(1))
    newest = store.save(some(2))
    choice = random.Random(0)
    for name in FILES:
        path = newest / name
        sound = path.read_bytes()
        for _ in range(34):
            bytes_ = bytearray(sound)
            bytes_[choice.randrange(len(sound))] ^= 1 << choice.randrange(8)
            path.write_bytes(bytes_)
            found, problems = store.load()
            assert found is not None
            assert found.step == 1
            assert len(problems) == 1
            assert name in problems[0]
        path.write_bytes(sound)
    found, problems = store.load()
    assert found is not None
    assert (found.step, problems) == (2, [])


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_or_absent_is_seen(tmp_path: Path, name: str) -> None:
    folder = CheckpointStore(tmp_path).save(some(2))
    sound = (folder / name).read_bytes()
    (folder / name).write_bytes(sound[: len(sound) // 2])
    with pytest.raises(DamagedError, match=name):
        read_checkpoint(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedError, match=name):
        read_checkpoint(folder)


def test_files_exchanged_between_two_checkpoints_are_seen(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first, second = store.save(some(1)), store.save(some(2))
    shutil.copy(first / "state.safetensors", second / "state.safetensors")
    found, problems = store.load()
    assert found is not None
    assert found.step == 1
    assert "sha256" in problems[0]
    assert "expected" in problems[0]


def test_an_error_says_so_when_no_checkpoint_is_sound(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (store.save(some(1)) / "state.json").write_text("{}")
    with pytest.raises(DamagedError, match="No sound checkpoint"):
        store.load()


@pytest.mark.parametrize("pointer", ["step-00000009", "rubbish", ""])
def test_a_pointer_to_nowhere_does_not_matter(tmp_path: Path, pointer: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(4))
    (tmp_path / "latest").write_text(pointer)
    found, _ = store.load()
    assert found is not None
    assert found.step == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_never_saved(tmp_path: Path, value: float) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(1))
    bad = some(2)
    bad.tensors["model.weight"][3, 1] = value
    with pytest.raises(DivergedError, match=r"model\.weight"):
        store.save(bad)
    assert store.steps() == [1]


def test_a_number_that_is_not_finite_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(1))
    bad = some(2)
    bad.tensors["model.weight"][3, 1] = torch.nan
    with monkeypatch.context() as patch:  # another program wrote it, with hashes that fit
        patch.setattr(module, "_not_finite", lambda tensors: "")
        store.save(bad)
    found, problems = store.load()
    assert found is not None
    assert found.step == 1
    assert "tensor 'model.weight' holds NaN or infinity" in problems[0]


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    store.save(some(1))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        store.save(some(2))
    assert [path.name for path in tmp_path.glob("*step*")] == ["step-00000001"]
    found, problems = store.load()
    assert found is not None
    assert (found.step, problems) == (1, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_failure_inside_the_tensor_writer_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module.save_file
    monkeypatch.setattr(module, "save_file", lambda tensors, path: write(tensors, "/dev/full"))
    with pytest.raises(RunError, match="cannot be written"):
        CheckpointStore(tmp_path).save(some(2))


SAVE = """
import torch
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore

def start(folder):
    CheckpointStore(folder).save(Checkpoint(1, {"x": torch.full((3,), 1.0)}, {}))

def act(folder):
    for step in (2, 2):  # the first one removes step 1, the second one is replaced
        CheckpointStore(folder, keep=1).save(Checkpoint(step, {"x": torch.full((3,), float(step))}, {}))
"""


def test_death_at_any_moment_of_saving_leaves_a_sound_checkpoint(
    tmp_path: Path, command_server: CommandServer
) -> None:
    killed = killed_everywhere(SAVE, tmp_path, command_server)
    assert len(killed) > 25
    steps = []
    for folder in killed:
        loaded, problems = CheckpointStore(folder).load()
        assert loaded is not None
        assert problems == []
        assert torch.equal(loaded.tensors["x"], torch.full((3,), float(loaded.step)))
        assert {path.name for path in folder.iterdir()} <= {"latest", *(f"step-{s:08d}" for s in (1, 2))}
        steps.append(loaded.step)
    assert steps == sorted(steps)
    assert steps[0] == 1
    assert steps[-1] == 2


def test_a_checkpoint_of_a_later_release_is_refused_by_its_version(tmp_path: Path) -> None:
    folder = CheckpointStore(tmp_path).save(some(1))
    facts = json.loads((folder / "state.json").read_text("utf-8")) | {"version": 99}
    (folder / "state.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")
    files = {name: file_entry(folder / name) for name in ("state.json", "state.safetensors")}
    (folder / "manifest.json").write_bytes(module._manifest(files))
    with pytest.raises(RunError, match="version 99"):
        read_checkpoint(folder)
