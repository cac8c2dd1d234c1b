import pytest
import torch
from msgspec.structs import replace

from clickscale.errors import ConfigError
from clickscale.models._est.est_inputs import EstConfig, EstInputs, require_content, resolve_inputs
from tests.models.toy import features, item_columns, toy_batch

MADE = features()
BARE = replace(MADE, item=MADE.item[:-1])  # without content


def inputs_of(*, compares_behaviors: bool = False, **options: object) -> EstInputs:
    torch.manual_seed(0)
    config = resolve_inputs(EstConfig(**options), MADE)  # type: ignore[arg-type]
    return EstInputs(MADE, item_columns(), config, compares_behaviors=compares_behaviors)


def test_auto_takes_content_where_there_is_some() -> None:
    config = resolve_inputs(EstConfig(), MADE)
    assert (config.search, config.content, config.field) == ("content", "simtier", "tags")
    config = resolve_inputs(EstConfig(), BARE)
    assert (config.search, config.content, config.field) == ("field", "none", "tags")
    only_id = replace(MADE, item=MADE.item[:1])
    assert resolve_inputs(EstConfig(), only_id).field == "item"


def test_content_that_is_asked_for_must_be_there() -> None:
    require_content(MADE, "csa", "causal")
    with pytest.raises(ConfigError, match=r"csa=causal needs content vectors .* or set csa=auto"):
        require_content(BARE, "csa", "causal")


def test_each_wrong_option_has_a_message_of_its_own() -> None:
    with pytest.raises(ConfigError, match="tiers is 65; at most 64") as tiers:
        EstConfig(tiers=65)
    with pytest.raises(ConfigError, match="width=32 is not a multiple of heads=3") as heads:
        EstConfig(heads=3)
    assert "heads" not in str(tiers.value)
    assert "tiers" not in str(heads.value)


def test_feed_forwards_are_as_large_as_two_square_matrices_unless_told_otherwise() -> None:
    assert EstConfig(width=30).hidden == (20, 20)
    assert EstConfig(token_hidden=7, row_hidden=9).hidden == (7, 9)


def test_names_are_fields_then_histograms() -> None:
    fields = ("user", "age", "slot", "ctr", "item", "tags", "price")
    assert inputs_of(content="simtier").names == (*fields, "tiers.recent", "tiers.kept")
    assert inputs_of(content="simtier", kept=0).names == (*fields, "tiers.recent")
    assert inputs_of(content="side", search="field").names == (*fields, "text")


def test_content_is_held_only_if_something_compares_it() -> None:
    assert inputs_of(content="side", search="field").vectors is None
    assert inputs_of(content="side", search="field", compares_behaviors=True).vectors is not None
    assert inputs_of(content="none", search="content").vectors is not None


def test_candidates_get_tokens_and_the_behaviors_that_are_theirs() -> None:
    batch = toy_batch(full=True)
    inputs = inputs_of(recent=4, kept=3, search="learned", content="none")
    made = inputs.of_candidates(inputs.timeline(batch.user), batch.candidates)
    assert made.tokens.shape == (len(inputs.names), 5 * 4, 32)
    assert made.recent.sum(dim=-1).unique().tolist() == [4]
    assert made.retrieved is not None
    assert made.retrieved.columns.shape == (5, 4, 3)
    assert made.relevance is not None
    assert made.relevance.requires_grad
    none = inputs_of(kept=0)
    assert none.of_candidates(none.timeline(batch.user), batch.candidates).retrieved is None
