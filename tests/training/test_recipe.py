import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from clickscale.data.dataset import open_dataset
from clickscale.models import CTRModel, build_model
from clickscale.models.deepfm import DeepFM
from clickscale.models.din import DIN
from clickscale.models.suan import SUAN
from clickscale.schema import Statistic
from clickscale.training import recipe
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.passes.epochs import Epochs
from clickscale.training.recipe import (
    _RETURNING,
    _WEEK,
    BARE_L2,
    L2,
    LARGE,
    RARE,
    Facts,
    Traits,
    _visits,
    decided_optimizer,
    facts_of,
    resolve,
    shaped,
    traits_of,
)
from clickscale.training.run.folder import TrainConfig, load_run
from clickscale.training.run.model import label_rates
from clickscale.training.train import train
from tests.data.tiny import tiny_dataset, tiny_source
from tests.models.toy import toy_model

SHARING, ALONE = Traits(causal=True, shares=True, length=50), Traits(causal=True, shares=False, length=50)
CONFIG = TrainConfig(model="suan", data="prepared")


def facts(
    impressions: int,
    values: int = 1000,
    valid: int = 1000,
    statistics: bool = False,
    positives: float = 0.5,
    days: int = 0,
    returning: float = _RETURNING,
    drawn: bool = False,
) -> Facts:
    return Facts(impressions, values, valid, statistics, positives, days, returning, drawn)


@pytest.mark.parametrize(
    ("impressions", "batch", "window"),
    [(1, 64, 1), (8_000, 64, 1), (100_000, 128, 2), (200_000, 256, 4), (800_000, 1024, 8), (10**9, 1024, 8)],
)
def test_batches_grow_with_the_log_and_mix_many_users(impressions: int, batch: int, window: int) -> None:
    config, _ = resolve(CONFIG, facts(impressions), SHARING)
    assert (config.batch_size, config.grouping, config.window) == (batch, "timeline", window)


def test_a_model_without_anything_to_share_trains_by_impression() -> None:
    config, said = resolve(CONFIG, facts(200_000), ALONE)
    assert config.grouping == "impression"
    assert any("shares no work" in text for text in said)


def test_a_model_that_is_not_causal_trains_by_request() -> None:
    config, _ = resolve(CONFIG, facts(200_000), Traits(causal=False, shares=True, length=50))
    assert config.grouping == "request"


def test_what_was_set_by_hand_stays_and_nothing_is_said_of_it() -> None:
    given = replace(
        CONFIG, batch_size=12, grouping="timeline", window=3, epochs=Epochs(count=2), early_stopping=False
    )
    config, said = resolve(given, facts(200_000), SHARING)
    assert config == given
    assert said == []


def test_the_rest_follows_what_was_set() -> None:
    config, _ = resolve(replace(CONFIG, batch_size=128, epochs=Epochs(count=3)), facts(10_000), SHARING)
    assert config.window == 2
    assert config.validate_every == 39  # of 79 steps


def test_a_single_epoch_is_validated_at_its_end() -> None:
    config, _ = resolve(replace(CONFIG, batch_size=128, epochs=Epochs(count=1)), facts(10_000), SHARING)
    assert config.validate_every == 79


def test_the_fast_recipe_takes_whole_windows_and_one_epoch() -> None:
    config, said = resolve(replace(CONFIG, recipe="fast"), facts(8_000), SHARING)
    assert (config.batch_size, config.window, config.epochs.count) == (1024, 50, 1)
    assert any("costs accuracy" in text for text in said)


@pytest.mark.parametrize(
    ("impressions", "values", "epochs"),
    [(200_000, 4_000, 2), (200_000, 9_000, 1), (8_000, 2_500, 1), (LARGE, 40_000, 1), (LARGE + 1, 40_000, 2)],
)
def test_a_second_epoch_where_values_repeat_and_on_a_large_log(
    impressions: int, values: int, epochs: int
) -> None:
    config, said = resolve(CONFIG, facts(impressions, values), SHARING)
    assert config.epochs.count == epochs
    assert any(text.startswith(f"{epochs} epoch") for text in said)


def test_models_that_attend_are_wider_on_a_large_log() -> None:
    sized, (of_candidate, why) = shaped(replace(CONFIG, model_options=("heads=4",)), facts(LARGE + 1))
    assert sized.model_options == ("d=16", "candidate=linear", "heads=4")
    assert "--set model.d=8" in why
    assert "--set model.candidate=zero_fill" in of_candidate
    est, (why,) = shaped(replace(CONFIG, model="est"), facts(LARGE + 1))
    assert est.model_options == ("d=16",)  # its candidates have no such choice
    din, _ = shaped(replace(CONFIG, model="din"), facts(LARGE + 1))
    assert din.model_options == ("d=16",)  # without blocks, it attends to behaviors all the same
    own, _ = shaped(replace(CONFIG, model_options=("candidate=zero_fill",)), facts(LARGE + 1))
    assert own.model_options == ("d=16", "candidate=zero_fill")
    config, _ = resolve(sized, facts(LARGE + 1), SHARING)
    assert config.model_options == sized.model_options


@pytest.mark.parametrize(
    ("changes", "impressions"),
    [
        ({}, LARGE),  # a log that is not large
        ({"model": "mlp"}, LARGE + 1),  # it attends to nothing
        ({"grade": "size-3"}, LARGE + 1),
        ({"recipe": "fast"}, LARGE + 1),
        ({"model_options": ("d=8",)}, LARGE + 1),
    ],
)
def test_the_width_of_the_grade_stays_where_a_wider_one_does_not_pay(
    changes: dict[str, Any], impressions: int
) -> None:
    given = replace(CONFIG, **changes)
    assert shaped(given, facts(impressions)) == (given, [])


def test_hour_and_weekday_are_read_where_the_log_has_every_weekday() -> None:
    din = replace(CONFIG, model="din")
    sized, (why,) = shaped(din, facts(10_000, days=_WEEK))
    assert sized.model_options == ("time_of_week=true",)
    assert "--set model.time_of_week=false" in why
    assert shaped(sized, facts(10_000)) == (sized, [])  # an option that is there stays
    assert shaped(replace(din, warm_start="run"), facts(10_000, days=_WEEK), din)[0].model_options == ()
    continued, (why,) = shaped(din, facts(10_000), sized)
    assert continued.model_options == sized.model_options
    assert "as in the earlier run" in why


@pytest.mark.parametrize(
    ("changes", "days"),
    [
        ({"model": "din"}, _WEEK - 1),
        ({"model": "din", "grade": "paper"}, _WEEK),
        ({"model": "din", "model_options": ("time_of_week=false",)}, _WEEK),
        ({"model": "suan"}, _WEEK),  # every token has its hour already
        ({"model": "deepfm"}, _WEEK),  # it cannot
    ],
)
def test_hour_and_weekday_are_left_out_otherwise(changes: dict[str, Any], days: int) -> None:
    given = replace(CONFIG, **changes)
    assert shaped(given, facts(10_000, days=days)) == (given, [])
    assert shaped(given, facts(9_999, days=_WEEK)) == (given, [])
    assert shaped(given, facts(10_000, days=_WEEK, returning=0.49)) == (given, [])


@pytest.mark.parametrize(
    ("model", "known", "rate"),
    [
        (SUAN, facts(10_000, days=_WEEK), "table"),
        (SUAN, facts(10_000, days=_WEEK, returning=0.49), None),
        (SUAN, facts(9_999, days=_WEEK), None),
        (SUAN, facts(LARGE, days=_WEEK), "table"),
        (SUAN, facts(LARGE + 1, days=_WEEK), None),
        (SUAN, facts(10_000, days=_WEEK - 1), None),
        (DIN, facts(10_000, days=_WEEK), None),  # its hour is a field
    ],
)
def test_hours_of_tokens_learn_as_embedding_rows_where_users_come_back(
    model: type[CTRModel[Any]], known: Facts, rate: str | None
) -> None:
    run, _ = resolve(CONFIG, known, SHARING)
    found, said = decided_optimizer(OptimizerConfig(), run, known, model)
    assert found.week_rate == rate
    assert any("--set optimizer.week_rate=dense" in text for text in said) == (rate is not None)
    assert decided_optimizer(OptimizerConfig(week_rate="dense"), run, known, model)[0].week_rate == "dense"


def test_visits_are_counted_from_the_first_of_each_user() -> None:
    day = 86_400
    user, time = np.array([1, 1, 1, 2, 2]), np.array([0, day - 1, day, 5 * day, 9 * day])
    assert _visits(user, time) == (9, 2 / 5)
    assert _visits(user[:0], time[:0]) == (0, 0)


@pytest.mark.wide
def test_a_wider_model_is_trained_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_dataset(tmp_path / "data", tiny_source(impressions=160))
    given = TrainConfig(model="suan", data=str(data), length=4, threads=1)

    def width(config: TrainConfig, name: str) -> int:
        train(config, tmp_path / name, progress=False)
        run = load_run(tmp_path / name)
        wide = ("d=16", "candidate=linear")
        assert run.config.model_options == (wide if run.model.inputs.dim == 16 else ())
        return int(run.model.inputs.dim)

    assert width(given, "small") == 8
    monkeypatch.setattr(recipe, "LARGE", 0)
    assert width(given, "large") == 16
    assert width(given, "small") == 8  # it is continued as it was begun
    assert width(replace(given, warm_start=str(tmp_path / "small")), "warm from small") == 8
    monkeypatch.undo()
    assert width(given, "large") == 16
    again = Epochs(reset="snapshot", snapshot=str(tmp_path / "large"))
    assert width(replace(given, epochs=again), "snapshot of large") == 16


@pytest.mark.parametrize(("impressions", "values"), [(200_000, 4_000), (8_000, 2_500), (LARGE, 4_000)])
def test_one_epoch_where_statistics_are_declared_and_the_log_is_not_large(
    impressions: int, values: int
) -> None:
    config, said = resolve(CONFIG, facts(impressions, values, statistics=True), SHARING)
    assert config.epochs.count == 1
    assert any("statistics are declared" in text for text in said)
    large, _ = resolve(CONFIG, facts(LARGE + 1, values, statistics=True), SHARING)
    assert large.epochs.count == 2


def test_two_epochs_where_negatives_are_drawn_and_statistics_are_declared() -> None:
    config, said = resolve(CONFIG, facts(LARGE, statistics=True, drawn=True), SHARING)
    assert config.epochs.count == 2
    assert any(text.startswith("2 epochs: where negatives are drawn") for text in said)
    assert config.validate_every < LARGE // config.batch_size  # early stopping sees more than the ends
    bare, _ = resolve(CONFIG, facts(LARGE, 40_000, drawn=True), SHARING)
    assert bare.epochs.count == 1
    fast, _ = resolve(replace(CONFIG, recipe="fast"), facts(LARGE, statistics=True, drawn=True), SHARING)
    assert fast.epochs.count == 1


def l2(
    samples: int,
    epochs: int,
    shares: bool,
    values: int = 40_000,
    impressions: int = 200_000,
    statistics: bool = True,
    drawn: bool = False,
) -> float:
    run = replace(CONFIG, batch_size=samples, epochs=Epochs(count=epochs))
    log = facts(impressions, values, statistics=statistics, drawn=drawn)
    optimizer, said = decided_optimizer(OptimizerConfig(), run, log, SUAN if shares else DIN)
    assert len(said) == 3
    assert optimizer.table_l2 is not None
    return optimizer.table_l2


def test_l2_shrinks_with_the_batch_and_grows_with_how_often_values_are_seen() -> None:
    assert l2(64, 1, shares=False) == pytest.approx(16 * l2(1024, 1, shares=False))
    for shares in (True, False):
        few, some, many = (l2(64, 1, shares, values=values) for values in (25_001, 25_000, 8_000))
        assert few < some <= many == l2(64, 2, shares) == l2(64, 5, shares)
        assert l2(64, 1, shares, values=8_001) == some
        for epochs in (1, 2):
            assert l2(64, epochs, shares, values=8_000, impressions=LARGE + 1) == few
        for epochs in (1, 3):  # rows that are seen so seldom need what they know of single users
            assert l2(64, epochs, shares, values=25_001, drawn=True) == few
        assert l2(64, 2, shares, values=25_001) == many
    assert l2(64, 1, True, values=25_000) == l2(64, 1, False, values=25_000)
    assert l2(64, 2, True) < l2(64, 2, False)


def test_without_statistics_l2_is_small_however_often_values_are_seen() -> None:
    for shares, epochs, values in product((True, False), (1, 2), (8_000, 25_000, 25_001)):
        assert l2(64, epochs, shares, values, statistics=False) == BARE_L2 / 64
    for shares in (True, False):
        large = {l2(64, 2, shares, impressions=LARGE + 1, statistics=known) for known in (True, False)}
        assert large == {L2[shares][0] / 64}


@pytest.mark.parametrize(("samples", "rate"), [(64, 0.001), (512, 0.001536), (1024, 0.003)])
def test_the_learning_rate_grows_with_the_batch(samples: int, rate: float) -> None:
    run = replace(CONFIG, batch_size=samples, epochs=Epochs(count=1))
    found, _ = decided_optimizer(OptimizerConfig(), run, facts(8_000), SUAN)
    assert found.learning_rate == pytest.approx(rate)


def test_an_optimizer_that_was_set_stays() -> None:
    given = OptimizerConfig(learning_rate=0.5, table_learning_rate=0.2, table_l2=0.0)
    for positives in (0.5, 0.01):
        log = facts(8_000, positives=positives)
        assert decided_optimizer(given, CONFIG, log, SUAN) == (given, [])


@pytest.mark.parametrize(
    ("positives", "rate"),
    [(0.5, 0.03), (RARE, 0.03), (0.099, 0.003), (0.001, 0.003), (0.85, 0.03), (0.95, 0.003)],
)
def test_a_rare_outcome_gets_slow_embedding_rows_without_l2(positives: float, rate: float) -> None:
    found, said = decided_optimizer(
        OptimizerConfig(),
        replace(CONFIG, batch_size=64, epochs=Epochs(count=2)),
        facts(8_000, positives=positives),
        DIN,
    )
    assert found.table_learning_rate == rate
    assert (found.table_l2 == 0) == (min(positives, 1 - positives) < RARE)
    assert any("positive" in text for text in said)


def test_rows_whose_products_enter_the_logit_learn_slowly() -> None:
    run = replace(CONFIG, batch_size=64, epochs=Epochs(count=1))
    for model, rate in ((DeepFM, 0.003), (DIN, 0.03)):
        found, said = decided_optimizer(OptimizerConfig(), run, facts(8_000), model)
        assert found.table_learning_rate == rate
        assert any("products of rows" in text for text in said) == (model is DeepFM)


def test_without_a_validation_part_nothing_is_stopped() -> None:
    config, said = resolve(CONFIG, facts(8_000, valid=0), SHARING)
    assert not config.early_stopping
    assert any("no validation part" in text for text in said)


def test_a_decided_recipe_is_not_decided_again() -> None:
    decided, _ = resolve(CONFIG, facts(8_000), SHARING)
    assert resolve(decided, facts(9_000_000), ALONE)[0] == decided


def test_traits_are_what_all_models_can_and_any_gains_from() -> None:
    din, suan, whole = toy_model("din"), toy_model("suan"), toy_model("est_full")
    assert traits_of([din], 7) == Traits(causal=True, shares=False, length=7)
    assert traits_of([din, suan], 7) == Traits(causal=True, shares=True, length=7)
    assert traits_of([suan, whole], 7) == Traits(causal=False, shares=True, length=7)


@pytest.mark.parametrize("statistics", [(), (Statistic(name="item_count", by=("item",), of="count"),)])
def test_facts_count_the_training_part(tmp_path: Path, statistics: tuple[Statistic, ...]) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path, tiny_source(impressions=160, statistics=statistics)))
    found = facts_of(dataset)
    table = build_model("mlp", dataset.features, dataset.item_columns()).inputs.table
    rows = len(table.weight) - 1  # without the padding, which all fields share
    values = rows + len(set(table.offsets.values()))
    positives = max(label_rates(dataset, dataset.labels))
    train = dataset.part("train")
    visits = _visits(dataset.impressions["user"][train], dataset.impressions["time"][train])
    assert found == Facts(
        len(train), values, len(dataset.part("valid")), bool(statistics), positives, *visits
    )
    dataset.schema = replace(dataset.schema, sampled_negatives=4)
    assert facts_of(dataset) == dataclasses.replace(found, drawn=True)
