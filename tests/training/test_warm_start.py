from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from clickscale.data.dataset import open_dataset
from clickscale.errors import ConfigError
from clickscale.features import FIRST, Features, categorical
from clickscale.models import CTRModel, FeatureAxis, build_model
from clickscale.models.est import EST
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.run.folder import load_run
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from clickscale.training.warm_start import _copy_parts, _copy_weights, _WarmStart
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.models.test_contract import far, scores, without_gradient
from tests.models.toy import features, item_columns, toy_batch, with_candidates, with_user

SIDES = features().profile, features().item, features().behavior, features().context
SIZES = {feature.name: feature.size for side in SIDES for feature in categorical(side)}
SEARCHES = [(), ("search=learned",), ("search=hash",), ("content=both",)]


def made(of: Features, *options: str, seed: int = 0) -> EST:
    """A model with large weights."""
    torch.manual_seed(seed)
    model = build_model("est", of, item_columns(), length=12, overrides=("head.hidden=[16,8]", *options))
    assert isinstance(model, EST)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        model.inputs.table.weight[0] = 0
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.running_mean += 0.1
    return model.eval()


def without(side: str, *names: str) -> Features:
    """The features of the toy world without some of a side."""
    whole = features()
    return replace(whole, **{side: tuple(f for f in getattr(whole, side) if f.name not in names)})


def started(earlier: Features, *options: str) -> tuple[EST, EST, _WarmStart]:
    """A model with the weights of one that knew ``earlier``, whose values have the same indices."""
    model, trained = made(features(), *options, seed=1), made(earlier, *options)
    report = _copy_weights(model, features(), trained, earlier)
    new, old = model.inputs.table, trained.inputs.table
    with torch.no_grad():
        for feature, first in old.offsets.items():
            rows = torch.arange(1, SIZES[feature])
            new.weight[new.offsets[feature] + rows] = old.weight[first + rows]
    return model, trained, report


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_a_new_feature_of_the_item_changes_no_score_at_first(options: tuple[str, ...]) -> None:
    model, trained, report = started(without("item", "tags"), *options)
    batch = toy_batch()
    assert far(scores(model, batch), scores(trained, batch)) <= 1e-5
    assert "inputs.recent_rows.weight" in report.partly
    assert "light.blocks.0.attention.key_value.weight" in report.whole


def test_a_new_number_of_the_profile_changes_no_score_at_first() -> None:
    model, trained, _ = started(without("profile", "age"))
    batch = toy_batch()
    bare = with_user(batch, profile_numbers=batch.user.profile_numbers[:, :0])
    assert far(scores(model, batch), scores(trained, bare)) <= 1e-5


def test_a_new_feature_of_context_or_behavior_changes_no_score_at_first() -> None:
    batch = toy_batch()
    model, trained, _ = started(without("context", "slot"))
    bare = with_candidates(batch, context=batch.candidates.context[..., :0])
    assert far(scores(model, batch), scores(trained, bare)) <= 1e-5
    model, trained, _ = started(without("behavior", "action"))
    bare = with_user(batch, actions=batch.user.actions[..., :0])
    assert far(scores(model, batch), scores(trained, bare)) <= 1e-5


def test_content_that_is_added_takes_over_all_weights_that_were_there() -> None:
    model, _, report = started(without("item", "text"), "search=field", "csa=none")
    assert "inputs.tokens.histograms.weight" in report.fresh
    assert "light.blocks.1.row_ffn.enter.weight" in report.whole
    assert isinstance(model, EST)


def test_weights_of_other_features_are_untouched_and_the_new_one_learns() -> None:
    model, trained, _ = started(without("profile", "age"))
    names, before = model.inputs.names, trained.inputs.names
    for own, old in zip(model.light.typed_blocks(), trained.light.typed_blocks(), strict=True):
        for name in before:
            assert torch.equal(
                own.attention.query.weight[names.index(name)], old.attention.query.weight[before.index(name)]
            )
    slot = slice(model.inputs.table.offsets["slot"] + 1, model.inputs.table.offsets["slot"] + 5)
    was = slice(trained.inputs.table.offsets["slot"] + 1, trained.inputs.table.offsets["slot"] + 5)
    assert torch.equal(model.inputs.table.weight[slot], trained.inputs.table.weight[was])
    batch = toy_batch()
    loss = model(batch).square().sum()
    loss.backward()
    fresh = names.index("age")
    assert model.head.tower[0].weight.grad[:, fresh * 32 : fresh * 32 + 32].abs().sum() > 0
    with torch.no_grad():  # one step later everything of the new feature learns
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad.to_dense()
    assert not without_gradient(model, batch)


def test_a_warm_start_from_itself_takes_over_everything() -> None:
    _, _, report = started(features())
    assert not report.partly
    assert not report.fresh


@pytest.mark.parametrize("option", ["width=16", "d=4", "head.hidden=[8,8]", "tiers=10"])
def test_models_that_differ_in_more_than_features_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="may differ in features only"):
        _copy_weights(made(features()), features(), made(features(), option), features())


def test_parts_are_copied_by_the_names_of_their_features() -> None:
    target, source = torch.full((2, 6), 9.0), torch.arange(8.0).view(2, 4)
    _copy_parts("x", target, source, FeatureAxis(1, ("a", "new", "b"), 0.0), FeatureAxis(1, ("b", "a")))
    assert target.tolist() == [[2, 3, 0, 0, 0, 1], [6, 7, 0, 0, 4, 5]]
    left = torch.full((3, 2), 9.0)
    _copy_parts("x", left, torch.ones(1, 2), FeatureAxis(0, ("x", "y", "z")), FeatureAxis(0, ("y",)))
    assert left.tolist() == [[9, 9], [1, 1], [9, 9]]
    with pytest.raises(ConfigError, match="another shape of x"):
        _copy_parts("x", target, source, FeatureAxis(1, ("a", "b")), FeatureAxis(1, ("b", "a")))


# --- as an option of training


def config_of(data: Path, **options: object) -> TrainConfig:
    return TrainConfig(
        **{"model": "est", "grade": "size-1", "length": 8, "batch_size": 64} | options, data=str(data)
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def earlier(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "earlier"
    train(config_of(log), out, progress=False)
    return out


def begun(config: TrainConfig, out: Path, *, progress: bool = False) -> CTRModel[Any]:
    """The model of a run whose steps move nothing."""
    slow = OptimizerConfig(learning_rate=1e-30, table_learning_rate=1e-30)
    train(replace(config, optimizer=slow, calibrate=False), out, progress=progress)
    return load_run(out).model


def test_a_run_starts_where_another_one_ended(
    log: Path, earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = begun(config_of(log, warm_start=str(earlier)), tmp_path / "run", progress=True)
    for name, weight in load_run(earlier).model.named_parameters():
        assert torch.allclose(dict(model.named_parameters())[name], weight, atol=1e-6), name
    assert "weights whole, 0 in part" in capsys.readouterr().err


def test_rows_follow_their_values_to_data_that_numbers_them_otherwise(
    log: Path, earlier: Path, tmp_path: Path
) -> None:
    other = tiny_dataset(tmp_path, tiny_source(items=15, seed=1, statistics=STATISTICS))
    model = begun(config_of(other, warm_start=str(earlier)), tmp_path / "run")
    new, old = (
        open_dataset(other).encoder.vocabulary("item_id"),
        open_dataset(log).encoder.vocabulary("item_id"),
    )
    values = [value for value in new.values.to_pylist() if value in old.values.to_pylist()]
    assert new.values.to_pylist() != old.values.to_pylist()
    then, now = load_run(earlier).model.inputs.table, model.inputs.table
    for value in values:
        here, there = (FIRST + each.values.to_pylist().index(value) for each in (new, old))
        row = then.weight[then.offsets["item_id"] + there]
        assert torch.allclose(now.weight[now.offsets["item_id"] + here], row, atol=1e-6)


def test_any_model_starts_from_one_that_is_alike_and_from_no_other(
    log: Path, earlier: Path, tmp_path: Path
) -> None:
    train(config_of(log, model="suan"), tmp_path / "suan", progress=False)
    model = begun(config_of(log, model="suan", warm_start=str(tmp_path / "suan")), tmp_path / "run")
    weight = load_run(tmp_path / "suan").model.head.tower[0].weight
    assert torch.allclose(model.head.tower[0].weight, weight, atol=1e-6)
    with pytest.raises(ConfigError, match="needs a run of the same; the one given holds EST"):
        train(config_of(log, model="suan", warm_start=str(earlier)), tmp_path / "x", progress=False)
    wide = config_of(log, model="suan", warm_start=str(tmp_path / "suan"), model_options=("d=4",))
    with pytest.raises(ConfigError, match=r"another shape of inputs\.table\.weight"):
        train(wide, tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()


def test_a_run_that_is_continued_does_not_start_again(log: Path, earlier: Path, tmp_path: Path) -> None:
    config = config_of(log, warm_start=str(earlier))
    train(config, tmp_path / "run", progress=False)
    (tmp_path / "run" / "done.json").unlink()
    earlier.rename(earlier.with_name("moved"))
    try:
        assert train(config, tmp_path / "run", progress=False).finished
    finally:
        earlier.with_name("moved").rename(earlier)
