import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from clickscale.data.dataset import open_dataset
from clickscale.data.portion import Portion
from clickscale.errors import ConfigError, RunError
from clickscale.models import model_config, model_names
from clickscale.scaling.points import Cell
from clickscale.scaling.sweeps.sweep_config import SweepConfig, claim_sweep, read_sweep, settled
from clickscale.training import recipe
from tests.data.tiny import tiny_dataset, tiny_source

GRID = SweepConfig(
    data="log",
    models=("suan", "mlp"),
    sizes=("size-1", "size-2"),
    fractions=(0.25, 1.0),
    seeds=2,
    epochs=1,
    label="like",
)


def test_every_combination_is_a_cell_once() -> None:
    assert len(GRID.cells) == 2 * 2 * 1 * 2 * 2
    assert GRID.cells[0] == Cell("suan", "size-1", 50, 0.25, 0)
    assert GRID.cell("mlp-size-2-50-1-1") == Cell("mlp", "size-2", 50, 1.0, 1)
    assert len(replace(GRID, models=("suan", "suan")).cells) == 8
    with pytest.raises(ConfigError, match="Unknown cell 'mlp-size-2-50-1-2'; did you mean"):
        GRID.cell("mlp-size-2-50-1-2")


def test_a_cell_is_an_ordinary_run() -> None:
    sets = ("batch_size=32", "mlp.model.d=4", "suan.epochs.count=2")
    config = replace(GRID, sets=sets, by="users")
    run = config.run(Cell("mlp", "size-2", 50, 0.25, 1))
    assert (run.model, run.grade, run.length, run.seed, run.labels) == ("mlp", "size-2", 50, 1, ("like",))
    assert (run.portion.fraction, run.portion.by) == (0.25, "users")
    assert (run.batch_size, run.epochs.count) == (32, 1)
    assert run.model_options[-1] == "d=4"
    assert config.run(Cell("suan", "size-2", 50, 0.25, 1)).epochs.count == 2


def test_runs_of_all_fractions_are_made_alike() -> None:
    for model in model_names():
        run = replace(GRID, models=(model,)).run(Cell(model, "size-2", 50, 1.0, 0))
        # The recipe would widen size-2 on a large log only.
        assert model_config(model, "size-2", run.model_options) == model_config(model, "size-2")
        assert (run.epochs.count, run.early_stopping, run.threads) == (1, False, 1)
        twice = replace(GRID, models=(model,), epochs=2).run(Cell(model, "size-2", 50, 1.0, 0))
        assert (twice.epochs.count, twice.early_stopping) == (2, True)


def test_all_cells_take_the_epochs_of_the_recipe_on_all_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "REPEATS", 3)
    source = tiny_source(impressions=400, users=20, statistics=())
    config = replace(GRID, data=str(tiny_dataset(tmp_path, source)), label="", epochs=0)
    dataset, out = open_dataset(config.data), tmp_path / "sweep"

    def passes(of: SweepConfig) -> set[int]:
        return {of.run(cell).epochs.count for cell in of.cells}

    found = settled(config, out, dataset)
    assert recipe.facts_of(dataset).repeats > 3
    assert passes(found) == {found.epochs} == {2}
    # A quarter of the data alone would have one epoch.
    small = recipe.facts_of(open_dataset(config.data, portion=Portion(fraction=0.25)))
    assert small.repeats < 3
    assert passes(settled(replace(config, sets=("recipe=fast",)), out, dataset)) == {1}
    assert settled(replace(config, epochs=5), out, dataset).epochs == 5
    # A sweep goes on with the number that it was begun with.
    claim_sweep(out, replace(config, epochs=3))
    assert settled(config, out, dataset).epochs == 3
    with pytest.raises(RunError, match="another sweep: epochs is 3, not 2"):
        claim_sweep(out, replace(config, epochs=2))


def test_a_sweep_of_an_earlier_version_keeps_its_one_epoch(tmp_path: Path) -> None:
    config, out = replace(GRID, data=str(tiny_dataset(tmp_path)), label=""), tmp_path / "sweep"
    claim_sweep(out, config)
    path = out / "options.json"
    document = json.loads(path.read_bytes())
    del document["config"]["epochs"]
    path.write_text(json.dumps(document))
    assert read_sweep(out).epochs == 1
    assert settled(replace(config, epochs=0), out, open_dataset(config.data)).epochs == 1
    with pytest.raises(RunError, match="epochs is 1, not 2"):
        claim_sweep(out, replace(config, epochs=2))
    claim_sweep(out, config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": ("sun",)}, "'sun'; did you mean 'suan'"),
        ({"models": ()}, "needs models"),
        ({"sizes": ("size-9",)}, "Model 'suan': Unknown size 'size-9'"),
        ({"lengths": (0,)}, "lengths has 0"),
        ({"fractions": (1.5,)}, r"1\.5; it must be above 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"sets": ("length=5",)}, "'length=5' sets an axis of the sweep; name its values in lengths"),
        ({"sets": ("suan.portion.fraction=0.5",)}, "name its values in fractions"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        replace(GRID, **changes)


def test_a_folder_continues_its_sweep_with_more_cells_and_refuses_another(tmp_path: Path) -> None:
    config = replace(GRID, data=str(tiny_dataset(tmp_path)), label="")
    out = tmp_path / "sweep"
    with pytest.raises(RunError, match="holds no sweep; begin one with --data"):
        read_sweep(out)
    claim_sweep(out, config)
    more = replace(config, lengths=(8, 16), seeds=5)
    claim_sweep(out, more)
    assert read_sweep(out) == more
    with pytest.raises(RunError, match="another sweep: by is 'time', not 'users'"):
        claim_sweep(out, replace(config, by="users"))
    with pytest.raises(RunError, match="another sweep: sets is"):
        claim_sweep(out, replace(config, sets=("batch_size=8",)))
    assert read_sweep(out) == more
