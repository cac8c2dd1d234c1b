"""The last bias follows the rate of the validation part where its halves agree."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clickscale.data.dataset import open_dataset
from clickscale.data.loader import Loader
from clickscale.models import build_model
from clickscale.training import loop
from clickscale.training.rate_shift import _helpful_shift, calibrate
from clickscale.training.run.folder import load_run
from clickscale.training.train import train
from tests.data.tiny import tiny_dataset, tiny_source
from tests.models.toy import toy_model
from tests.training.test_loop import config_of


def drawn(rows: int, gap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and outcomes of logits that are higher by ``gap``."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 1, rows)
    return logits, (random.random(rows) < 1 / (1 + np.exp(-logits - gap))).astype(float)


def test_the_shift_closes_a_gap_that_both_halves_have() -> None:
    assert _helpful_shift(*drawn(20_000, 0.5)) == pytest.approx(0.5, abs=0.06)
    assert _helpful_shift(*drawn(20_000, -0.5)) == pytest.approx(-0.5, abs=0.06)


def test_nothing_moves_where_the_halves_disagree() -> None:
    (first, early), (second, late) = drawn(5_000, 0.5), drawn(5_000, -0.5)
    assert _helpful_shift(np.concatenate([first, second]), np.concatenate([early, late])) == 0


def test_few_impressions_move_little() -> None:
    logits, always = np.zeros(20), np.ones(20)
    assert 0 < _helpful_shift(logits, always) < 0.3  # their own rate would take it to infinity
    assert _helpful_shift(logits[:0], always[:0]) == 0


def test_only_the_last_bias_of_each_label_moves(tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path, tiny_source(impressions=4000, users=40)))
    loader = Loader(dataset, "valid", config_of(tmp_path, "grouping=impression").loader())
    model = build_model("mlp", dataset.features, dataset.item_columns(), labels=("click", "like"))
    model.head.start_at((0.01, 0.99))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shifts = calibrate(model, model, [loader], torch.device("cpu"))
    moved = {name: tensor - before[name] for name, tensor in model.state_dict().items()}
    assert [name for name, gap in moved.items() if gap.any()] == ["head.tower.6.bias"]
    torch.testing.assert_close(moved["head.tower.6.bias"], torch.tensor(shifts))
    click, like = shifts
    assert click > 1
    assert like < -1


def test_a_model_of_several_heads_stays_as_it_is() -> None:
    model = torch.nn.ModuleList([toy_model("din").head, toy_model("din").head])
    assert calibrate(model, model, [], torch.device("cpu")) == []


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        (("early_stopping=true",), 1),
        (("early_stopping=true", "calibrate=false"), 0),
        (("early_stopping=false", "validate_every=4"), 0),
    ],
)
def test_a_run_is_calibrated_at_its_end_if_it_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], times: int
) -> None:
    data = tiny_dataset(tmp_path / "data", tiny_source(impressions=160))
    calls = []

    def moves(model: torch.nn.Module, *_: object) -> list[float]:
        calls.append(model)
        with torch.no_grad():
            model.head.tower[-1].bias.fill_(7)
        return [7.0, 7.0]

    monkeypatch.setattr(loop, "calibrate", moves)
    train(config_of(data, "epochs.count=1", *changes), tmp_path / "run", progress=False)
    assert len(calls) == times
    saved = load_run(tmp_path / "run").model.head.tower[-1].bias
    assert bool((saved == 7).all()) == bool(times)
