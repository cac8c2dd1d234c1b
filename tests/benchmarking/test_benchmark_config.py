import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from clickscale.benchmarking.benchmark_config import BenchmarkConfig, claim_folder, refuse_other_benchmark
from clickscale.errors import ConfigError, RunError
from clickscale.models import model_config, model_names
from tests.data.tiny import tiny_dataset


def test_the_reference_comes_first_and_all_means_every_model_and_trees() -> None:
    assert BenchmarkConfig(data="", models=("suan", "trees", "suan")).entrants == ("din", "suan", "trees")
    assert sorted(BenchmarkConfig(data="", models=("all",)).entrants) == sorted([*model_names(), "trees"])


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"models": ("sun",)}, "'sun'; did you mean 'suan'"),
        ({"models": ()}, "needs models"),
        ({"rates": (0.1, -0.1)}, "positive learning rates"),
        ({"rates": (0.1, 0.1)}, "twice"),
        ({"reference": "trees"}, "Unknown reference 'trees'"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused(options: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        BenchmarkConfig(**({"data": "", "models": ("suan",)} | options))  # type: ignore[arg-type]


def test_all_models_get_the_width_and_head_of_the_reference() -> None:
    config = BenchmarkConfig(data="", models=("all",), grade="size-3", reference="mlp")
    usual = model_config("mlp", "size-3")
    for model in model_names():
        run = config.run(model)
        found = model_config(model, run.grade, run.model_options)
        assert (found.d, found.head.hidden) == (usual.d, usual.head.hidden)  # type: ignore[attr-defined]


def test_options_of_one_model_win_over_those_of_all() -> None:
    sets = ("epochs.count=2", "sim.length=500", "sim.model.recent=50", "model.d=4")
    config = BenchmarkConfig(data="", models=("sim",), sets=sets)
    assert (config.run("sim").length, config.run("din").length) == (500, 100)
    assert config.run("sim").model_options[-2:] == ("d=4", "recent=50")
    assert config.run("din").model_options[-1] == "d=4"
    assert config.run("din").epochs.count == 2


def test_a_folder_continues_its_benchmark_and_refuses_another(tmp_path: Path) -> None:
    data, out = str(tiny_dataset(tmp_path / "data")), tmp_path / "bench"
    config = BenchmarkConfig(data=data, models=("suan",), rates=(0.001,), seeds=1)
    claim_folder(out, config)
    claim_folder(out, replace(config, models=("suan", "hstu"), rates=(0.001, 0.01), seeds=3))
    with pytest.raises(RunError, match="another benchmark: length is 100, not 50"):
        claim_folder(out, replace(config, length=50))
    with pytest.raises(RunError, match=r"another benchmark: rates has 0\.01 as well"):
        claim_folder(out, replace(config, rates=(0.001, 0.003)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds no benchmark"):
        claim_folder(tmp_path / "full", config)


@pytest.mark.parametrize("claim", [claim_folder, refuse_other_benchmark])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: Callable[[Path, BenchmarkConfig], None]
) -> None:
    config = BenchmarkConfig(data=str(tiny_dataset(tmp_path / "data")), models=("suan",))
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    for out in (thesis, thesis / "bench"):
        with pytest.raises(RunError, match=r"thesis\.txt is a file, and .* is to be a folder"):
            claim(out, config)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and allowed(path, mode))
    with pytest.raises(RunError, match="bench cannot be written: no permission in"):
        claim(tmp_path / "deep" / "bench", config)
    assert thesis.read_text() == "years of work"
    assert not (tmp_path / "deep").exists()


def test_a_look_refuses_another_benchmark_and_changes_nothing(tmp_path: Path) -> None:
    data, out = str(tiny_dataset(tmp_path / "data")), tmp_path / "bench"
    config = BenchmarkConfig(data=data, models=("suan",), rates=(0.001,), seeds=1)
    refuse_other_benchmark(out, config)
    assert not out.exists()
    claim_folder(out, config)
    before = (out / "options.json").read_bytes()
    refuse_other_benchmark(out, replace(config, seeds=3))
    for other in (replace(config, length=50), replace(config, rates=(0.003,))):
        with pytest.raises(RunError, match="another benchmark"):
            refuse_other_benchmark(out, other)
    assert (out / "options.json").read_bytes() == before
