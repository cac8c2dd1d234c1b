import pytest
import torch
from msgspec.structs import replace

from clickscale.errors import ConfigError
from clickscale.models import build_model
from clickscale.models.est import EST
from clickscale.schema import Feature, Features
from clickscale.training.warm_start import TABLE, WarmStart, warm_start
from tests.models.test_contract import far, scores, without_gradient
from tests.models.toy import features, item_columns, toy_batch, with_candidates, with_user

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


def started(earlier: Features, *options: str) -> tuple[EST, EST, WarmStart]:
    model, trained = made(features(), *options, seed=1), made(earlier, *options)
    return model, trained, warm_start(model, features(), trained, earlier)


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_a_new_feature_of_the_item_changes_no_score_at_first(options: tuple[str, ...]) -> None:
    model, trained, report = started(without("item", "tags"), *options)
    batch = toy_batch()
    assert far(scores(model, batch), scores(trained, batch)) <= 1e-5
    assert "recent_rows.weight" in report.partly
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
    assert "tokens.histograms.weight" in report.fresh
    assert "light.blocks.1.row_ffn.enter.weight" in report.whole
    assert isinstance(model, EST)


def test_weights_of_other_features_are_untouched_and_the_new_one_learns() -> None:
    model, trained, _ = started(without("profile", "age"))
    names, before = model.tokens.names, trained.tokens.names
    for own, old in zip(model.light.each(), trained.light.each(), strict=True):
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


def test_a_feature_that_gained_values_keeps_those_it_had() -> None:
    earlier = without("context", "slot")
    smaller = replace(earlier, context=(Feature(name="slot", kind="categorical", size=3), *earlier.context))
    model, trained, report = started(smaller)
    new, old = model.inputs.table, trained.inputs.table
    assert torch.equal(
        new.weight[new.offsets["slot"] + 1 : new.offsets["slot"] + 3],
        old.weight[old.offsets["slot"] + 1 : old.offsets["slot"] + 3],
    )
    assert TABLE in report.partly


def test_a_warm_start_from_itself_takes_over_everything() -> None:
    _, _, report = started(features())
    assert not report.partly
    assert not report.fresh


@pytest.mark.parametrize("option", ["width=16", "d=4", "head.hidden=[8,8]", "tiers=10"])
def test_models_that_differ_in_more_than_features_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="may differ in features only"):
        warm_start(made(features()), features(), made(features(), option), features())
