"""A second training in the loop: it keeps what is clearly better, and leaves everything else to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.errors import ConfigError
from clickscale.schema import Field, Label, Schema
from clickscale.training import train as training
from clickscale.training.early_stopping import EarlyStopping
from clickscale.training.learner import Learner
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from clickscale.training.passes.epochs import Epochs
from clickscale.training.passes.second_training import SecondTraining
from clickscale.training.recipe import AGAIN, JUDGES, LARGE, Facts, Traits, resolve
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from tests.data.tiny import START, STATISTICS, source_of, tiny_dataset, tiny_source
from tests.everyday import thinned
from tests.models.toy import toy_batch, toy_model
from tests.training.compared import differing, last
from tests.training.test_loop import Shaky, config_of
from tests.training.test_loop_stopping import halting

ONCE = ("early_stopping=true", "validate_every=4", "patience=3", "checkpoint_every=3")
TWICE = (*ONCE, "epochs.again=3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose outcomes depend on two fields together and on neither alone."""
    random = np.random.default_rng(3)
    shown = []
    for when in range(4_000):
        a, b, item, user = (int(random.integers(count)) for count in (4, 4, 20, 400))
        click = int(random.random() < (0.9 if a % 2 == b % 2 else 0.1))
        row = {"user": user, "item": item, "time": START + 60 * when, "label.click": click}
        shown.append(row | {"a": a, "b": b})
    schema = Schema(
        name="pairs",
        user=Field(name="user_id", column="user", dtype="int"),
        item=Field(name="item_id", column="item", dtype="int"),
        labels=(Label(name="click", column="click"),),
        context=(Field(name="a", dtype="int"), Field(name="b", dtype="int")),
    ).validate()
    return tiny_dataset(tmp_path_factory.mktemp("pairs"), source_of(schema, {"impressions": shown}))


@pytest.mark.wide
def test_fields_that_tell_something_only_together_are_learned(pairs: Path, tmp_path: Path) -> None:
    config = TrainConfig(model="mlp", data=str(pairs), length=1, threads=1)
    # L2 as logs of ids want it, which takes rows to zero before two of them can meet.
    config = override(config, ["optimizer.table_l2=0.1", "batch_size=64", "epochs.count=1"])
    train(config, tmp_path / "once")
    train(override(config, ["epochs.again=8"]), tmp_path / "twice")
    once, twice = (last(tmp_path / name).facts["early_stopping"]["best"] for name in ("once", "twice"))
    assert once == pytest.approx(np.log(2), abs=0.01)
    assert twice < 0.45  # at best .325
    assert last(tmp_path / "twice").facts["early_stopping"]["first"] == once


def test_a_run_that_gains_nothing_by_it_ends_with_the_weights_of_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickscale.training.early_stopping.CLEARLY", 0.9)
    monkeypatch.setattr("clickscale.training.early_stopping.ENOUGH", 1)
    train(config_of(data, *ONCE), tmp_path / "once")
    result = train(config_of(data, *TWICE), tmp_path / "twice")
    once, twice = last(tmp_path / "once"), last(tmp_path / "twice")
    assert result.step > once.step
    models = [name for name in once.tensors if name.startswith("model.")]
    assert models
    assert all(torch.equal(once.tensors[name], twice.tensors[name]) for name in models)
    kept = once.facts["early_stopping"]
    assert twice.facts["early_stopping"]["best_step"] == kept["best_step"]
    told = [line["kept"] for line in read_metrics(tmp_path / "twice") if "kept" in line]
    assert len(told) > 2
    assert set(told) == {kept["best"]}


def test_its_rates_rise_and_fall_again(data: Path, tmp_path: Path) -> None:
    train(config_of(data, *TWICE, "log_every=1"), tmp_path / "run")
    begun = last(tmp_path / "run").facts["second_step"]
    rates = [line["learning_rate"] for line in read_metrics(tmp_path / "run") if "learning_rate" in line]
    assert rates[begun] > 10 * rates[begun - 1]


def test_it_begins_with_the_first_weights_and_moments() -> None:
    model, batch = toy_model("din"), toy_batch(length=8, candidates=3)
    optimizer = build_optimizer(model, override(OptimizerConfig(), ["table_l2=0.1"]), 10)
    learner = Learner("", model, optimizer)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    second = SecondTraining.of([learner])

    def losses() -> list[float]:
        found = []
        for step in range(3):
            loss = ClickLoss(model, ("click",))(batch)[LOSS]
            loss.backward()
            optimizer.step(loss, optimizer.begun + step)
            found.append(float(loss.detach()))
        return found

    optimizer.begin_again((0, 10))  # without L2, and rows learn slower
    before = losses()
    assert losses() != before
    second.begin([learner], (6, 10), first=True)
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())
    assert losses() == before
    second.begin([learner], (6, 10), first=False)
    assert losses() != before


def test_without_a_gain_it_ends_after_its_first_pass(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EarlyStopping, "promises", lambda _: False)
    result = train(config_of(data, *TWICE), tmp_path / "run")
    facts = last(tmp_path / "run").facts
    passes = result.step / facts["second_step"]
    assert passes == pytest.approx(1.5, abs=0.1)  # two passes, then one more
    assert facts["epoch"] == 2


@pytest.mark.parametrize(
    ("first", "second", "goes_on"),
    [
        (0.50, 0.51, False),
        (0.50, 0.498, False),  # level with a training that has learned something
        (0.50, 0.494, True),
        (0.69, 0.691, True),  # neither has begun
        (0.69, 0.70, False),
    ],
)
def test_it_goes_on_where_it_is_better_or_the_first_has_learned_nothing(
    first: float, second: float, goes_on: bool
) -> None:
    stopping = EarlyStopping(2, constant=0.693)
    assert stopping.judge(10, first, {})
    stopping.begin_again()
    stopping.judge(20, second, {})
    assert stopping.promises() == goes_on


@pytest.mark.parametrize(("rarer", "margin"), [(400, 0.01), (4_000, 0.01), (100, 0.02), (25, 0.04)])
def test_fewer_validation_outcomes_ask_for_more(rarer: int, margin: float) -> None:
    for gain in (margin - 0.001, margin + 0.001):
        stopping = EarlyStopping(2, constant=0.693, rarer=rarer)
        assert stopping.judge(10, 0.5, {})
        stopping.begin_again()
        clear = gain > margin
        assert stopping.judge(20, 0.5 * (1 - gain), {}) == clear
        assert stopping.promises() == clear


def test_outcomes_are_those_of_the_validation_part(data: Path) -> None:
    dataset = open_dataset(data)
    clicks = np.asarray(dataset.impressions["label.click"])[dataset.part("valid")]
    rarer = min((clicks == 1).sum(), (clicks == 0).sum())
    assert 0 < rarer < 400
    assert training._stopping(dataset, config_of(data)).clearly == pytest.approx(0.01 * (400 / rarer) ** 0.5)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trainings that was not stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EarlyStopping, "promises", lambda _: True)
        assert train(config_of(data, *TWICE, "patience=9"), run).step > 40
    return run


@thinned("at", [3, 22, 25, 33, 40], every=4)
def test_a_run_that_was_stopped_goes_on_to_the_bit(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    config = config_of(data, *TWICE, "patience=9")
    monkeypatch.setattr(EarlyStopping, "promises", lambda _: True)
    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", halting(at))
        assert not train(config, tmp_path / "run").finished
    train(config, tmp_path / "run")
    assert differing(whole, tmp_path / "run") == []


def test_a_run_that_pauses_is_the_same_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ClickLoss", Shaky)
    config = config_of(data, *TWICE)
    train(config, tmp_path / "whole")
    pauses = 0
    while train(config, tmp_path / "run", pause_after=pauses + 1).paused:
        pauses += 1
    assert pauses > 5
    assert differing(tmp_path / "whole", tmp_path / "run") == []


def test_a_training_that_stops_early_is_followed_by_the_second(data: Path, tmp_path: Path) -> None:
    early = ("early_stopping=true", "validate_every=4", "patience=1", "optimizer.learning_rate=0.1")
    train(config_of(data, *early, "epochs.count=20", "epochs.again=2"), tmp_path / "run")
    facts = last(tmp_path / "run").facts
    assert 0 < facts["second_step"] < 60  # of 220 steps
    assert facts["epoch"] >= 20


# --- where the recipe asks for it

CONFIG = TrainConfig(model="din", data="prepared")
TRAITS = Traits(causal=True, shares=False, length=50)
MID = Facts(100_000, 1_000, valid=JUDGES, statistics=True)


@pytest.mark.parametrize(
    ("changes", "facts", "again"),
    [
        ({}, MID, AGAIN),
        ({}, Facts(LARGE, 1_000, valid=JUDGES), AGAIN),
        ({}, Facts(LARGE + 1, 1_000, valid=JUDGES), None),
        ({}, Facts(100_000, 1_000, valid=JUDGES - 1), None),
        ({"recipe": "fast"}, MID, None),
        ({"early_stopping": False}, MID, None),
        ({"warm_start": "runs/earlier"}, MID, None),
        ({"epochs": Epochs(count=1)}, MID, None),
        ({"epochs": Epochs(reset="random")}, MID, None),
        ({"epochs": Epochs(again=2)}, MID, 2),
        ({"epochs": Epochs(again=0)}, MID, 0),
    ],
)
def test_a_second_training_follows_where_it_can_be_judged_and_is_no_waste(
    changes: dict[str, object], facts: Facts, again: int | None
) -> None:
    config, said = resolve(replace(CONFIG, **changes), facts, TRAITS)
    assert config.epochs.again == again
    assert any("second training" in text for text in said) == (again == AGAIN)


def test_options_that_contradict_it_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"epochs.again=2 .* leave epochs.steps out"):
        Epochs(again=2, steps=10)
    with pytest.raises(ConfigError, match=r"epochs.again=2 .* leave epochs.reset out"):
        Epochs(again=2, reset="random")
    with pytest.raises(ConfigError, match="at least 1, or 0"):
        Epochs(again=-1)
    with pytest.raises(ConfigError, match="needs early stopping"):
        replace(CONFIG, epochs=Epochs(again=2), early_stopping=False)
