from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clickscale import models
from clickscale.batch import CandidateSide, UserSide
from clickscale.costs.flops import paper_request
from clickscale.errors import ConfigError, SchemaError
from clickscale.models import (
    CTRModel,
    State,
    build_model,
    describe,
    model_config,
    model_names,
    presets,
    stack,
)
from tests.models.toy import features, item_columns, toy_batch, toy_model


@dataclass(frozen=True)
class Notes(State):
    """One tensor of each type, and two blocks."""

    mask: Tensor
    times: Tensor
    rows: Tensor
    blocks: tuple[Tensor, ...]


def notes(rows: int = 3) -> Notes:
    return Notes(
        mask=torch.arange(rows) > 0,
        times=torch.arange(rows) + 2**40,
        rows=torch.randn(rows, 2),
        blocks=(torch.randn(rows, 4, 1), torch.randn(rows, 1)),
    )


def same(first: Notes, second: Notes) -> bool:
    pairs = [(first.mask, second.mask), (first.times, second.times), (first.rows, second.rows)]
    return all(torch.equal(a, b) for a, b in (*pairs, *zip(first.blocks, second.blocks, strict=True)))


def test_a_state_splits_into_rows_and_stacks_again() -> None:
    whole = notes()
    parts = whole.split()
    assert [part.times.tolist() for part in parts] == [[2**40], [2**40 + 1], [2**40 + 2]]
    assert all(type(part) is Notes and part.blocks[0].shape == (1, 4, 1) for part in parts)
    assert same(stack(parts), whole)
    turned = stack([parts[2], parts[0]])
    assert turned.times.tolist() == [2**40 + 2, 2**40]
    assert torch.equal(turned.blocks[1], whole.blocks[1][[2, 0]])


def test_states_of_several_rows_stack_too() -> None:
    first, second = notes(2), notes(3)
    joined = stack([first, second])
    assert len(joined.mask) == 5
    assert torch.equal(joined.rows, torch.cat([first.rows, second.rows]))


def test_only_floats_take_another_precision() -> None:
    halved = notes().to(dtype=torch.float16)
    assert (halved.mask.dtype, halved.times.dtype) == (torch.bool, torch.int64)
    assert halved.times[0] == 2**40
    assert {x.dtype for x in (halved.rows, *halved.blocks)} == {torch.float16}


def test_a_state_moves_whole() -> None:
    moved = notes().to("meta")
    assert all(x.is_meta for x in (moved.mask, moved.times, moved.rows, *moved.blocks))
    assert moved.rows.dtype == torch.float32


def test_a_state_whose_first_field_is_a_tuple_splits() -> None:
    @dataclass(frozen=True)
    class Blocks(State):
        blocks: tuple[Tensor, ...]

    assert len(Blocks((torch.zeros(4, 1),)).split()) == 4


def test_a_model_without_its_two_functions_says_so() -> None:
    class Empty(CTRModel[State]):
        pass

    with pytest.raises(TypeError, match="abstract methods encode_user, score"):
        Empty()  # type: ignore[abstract]


def test_a_model_that_cannot_append_says_why() -> None:
    class Fixed(CTRModel[State]):
        causal = False

        def encode_user(self, user: UserSide) -> State:
            return State()

        def score(self, state: State, candidates: CandidateSide) -> Tensor:
            return torch.zeros(*candidates.items.shape, 1)

    with pytest.raises(ConfigError, match=r"Fixed with these options is not causal.*encode the user again"):
        Fixed().extend_user(State(), toy_batch().user)


@pytest.mark.parametrize("name", model_names())
def test_forward_is_scoring_of_the_encoded_user(name: str) -> None:
    assert "forward" not in vars(type(toy_model(name)))
    model, batch = toy_model(name), toy_batch()
    with torch.no_grad():
        assert torch.equal(model(batch), model.score(model.encode_user(batch.user), batch.candidates))


# --- finding and building models


def test_models_are_the_files_of_their_folder() -> None:
    files = {path.stem for path in Path(models.__file__).parent.glob("*.py")}
    assert set(model_names()) == {name for name in files if not name.startswith("_")}
    assert model_names() == sorted(model_names())


@pytest.mark.parametrize("name", model_names())
def test_every_model_has_five_grades_a_description_and_its_own_config(name: str) -> None:
    assert list(presets(name))[:5] == [f"size-{number}" for number in range(1, 6)]
    assert describe(name)
    assert "\n" not in describe(name)
    model = toy_model(name, grade="size-3")
    changed = model_config(name, "size-3", ["head.hidden=[16, 8]"])
    assert model.config == changed
    assert model.length == 12


@pytest.mark.parametrize("name", ["suan", "lightsuan", "din", "mlp"])
def test_the_models_of_one_comparison_share_the_tower_and_width_of_its_paper(name: str) -> None:
    paper: Any = presets(name)["paper"]
    tower = paper.head
    assert (paper.d, tower.hidden, tower.norm) == (8, (1024, 512, 256), "batch")
    assert (tower.activation, tower.logit_norm) == ("batch_dice", False)


@pytest.mark.parametrize("name", ["est", "est_full"])
def test_the_grade_of_a_paper_has_one_name_in_all_models(name: str) -> None:
    assert presets(name)["paper"] == presets(name)["est-paper"]
    assert paper_request(name, "paper") == paper_request(name, "est-paper") != paper_request(name, "size-2")


@pytest.mark.parametrize("name", ["suan", "lightsuan", "din", "mlp", "est", "est_full"])
def test_a_model_for_debugging_is_smaller_than_every_grade(name: str) -> None:
    def weights(grade: str) -> int:
        torch.manual_seed(0)
        model = build_model(name, features(), item_columns(), grade=grade, length=12)
        return sum(parameter.numel() for parameter in model.parameters())

    assert weights("debug") < weights("size-1")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "dinn"}, r"Unknown model 'dinn'; did you mean 'din'\? Known: autoint, "),
        ({"name": "_base"}, "Unknown model '_base'"),
        ({"grade": "size-6"}, r"Unknown grade 'size-6'; did you mean 'size-\d'\?"),
        ({"overrides": ["blocs=3"]}, r"Unknown option 'blocs'; did you mean 'blocks'\?"),
        ({"overrides": ["block.fn=none"]}, r"did you mean 'block.ffn'\?"),
        (
            {"name": "suan_literal", "overrides": ["pooling=mean"]},
            "Unknown pooling 'mean'. Known: behaviors, global",
        ),
    ],
)
def test_a_wrong_choice_is_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_model(**({"name": "suan", "features": features(), "items": item_columns()} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", model_names())
def test_each_chosen_label_has_a_logit(name: str) -> None:
    torch.manual_seed(0)
    made = features(("click", "like", "buy"))
    for labels, count in [((), 1), (("buy",), 1), (("like", "click"), 2)]:
        model = build_model(name, made, item_columns(), length=12, labels=labels).eval()
        logits = model(toy_batch())
        assert logits.shape == (5, 4, count)
        assert logits.dtype == torch.float32
    with pytest.raises(SchemaError, match="Unknown label 'lik'"):
        build_model(name, made, item_columns(), labels=("lik",))


@pytest.mark.parametrize("name", model_names())
def test_logits_of_padding_are_zero_and_others_are_not(name: str) -> None:
    batch = toy_batch()
    logits = toy_model(name)(batch)[..., 0]
    np.testing.assert_array_equal(logits.detach().numpy() != 0, batch.candidates.mask.numpy())
