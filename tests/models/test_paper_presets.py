"""Presets ``paper`` and ``debug`` of the models that the papers compare with, and what they cost."""

from itertools import pairwise

import pytest

from clickscale.cli import DONE, main
from clickscale.costs.flops import Cost, measure_cost, paper_request, reference_features, reference_items
from clickscale.layers.head import HeadConfig
from clickscale.models import CTRModel, build_model, model_config, presets
from tests.models.test_contract import (
    cache_gap,
    future_gap,
    hidden_tail,
    padding_gap,
    permutation_gap,
    without_gradient,
)
from tests.models.toy import toy_batch, toy_model

OF_SUAN = ("bst", "can", "deepfm", "dien", "eta", "hstu", "sim", "twin")
OF_EST = ("autoint", "dcnv2", "hiformer", "longer", "mtgr", "onetrans", "rankmixer", "wukong")
PAPERS = [
    (name, grade) for name in (*OF_SUAN, *OF_EST) for grade in presets(name) if grade.startswith("paper")
]


SMALL = "head.hidden=[8]"


def paper_cost(name: str, grade: str = "paper", *overrides: str) -> tuple[CTRModel, Cost]:
    """A model with a small tower, and its cost."""
    request = paper_request(name, grade)
    made = reference_features(request=request)
    items = reference_items(made)
    model = build_model(name, made, items, grade=grade, length=request.length, overrides=(SMALL, *overrides))
    return model, measure_cost(model, made, request.length, candidates=60)


def larger_tower(model: CTRModel) -> tuple[int, int]:
    """Weights and biases that the tower of the preset has beyond the small one: making them takes seconds."""

    def tower(*hidden: int) -> tuple[int, int]:
        widths = [model.head.tower[0].in_features, *hidden, 1]  # type: ignore[union-attr,index]
        return sum(a * b for a, b in pairwise(widths)), sum(widths[1:])

    large, small = tower(6656, 5376, 384, 64), tower(8)
    return large[0] - small[0], large[1] - small[1]


@pytest.mark.parametrize("name", OF_SUAN)
def test_the_papers_of_suan_have_one_width_and_one_tower(name: str) -> None:
    config = model_config(name, "paper")
    assert config.d == 8  # type: ignore[attr-defined]
    tower = HeadConfig(hidden=(1024, 512, 256), norm="batch", activation="batch_dice")
    assert config.head == tower  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*OF_SUAN, *OF_EST])
def test_the_smallest_preset_is_small_and_keeps_the_contract(name: str) -> None:
    model, batch = toy_model(name, grade="debug"), toy_batch(full=True)
    assert sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in toy_model(name, grade="size-1").parameters()
    )
    assert permutation_gap(model, batch) <= 2e-6
    assert padding_gap(model, toy_batch()) <= 2e-6
    assert future_gap(model, *hidden_tail(batch)) == 0
    assert cache_gap(model, batch) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "grade"), PAPERS)
def test_the_presets_of_papers_keep_the_contract(name: str, grade: str) -> None:
    # Weights of the toy models are large, and six blocks of them make much of a rounding in 32 bits.
    model, batch = toy_model(name, grade=grade).double(), toy_batch(full=True)
    assert permutation_gap(model, batch) <= 1e-6
    assert padding_gap(model, toy_batch()) <= 1e-6
    assert future_gap(model, *hidden_tail(batch)) == 0
    assert cache_gap(model, batch) <= 1e-6
    assert without_gradient(toy_model(name, grade=grade), toy_batch()) == []


def test_hiformer_costs_what_its_paper_prints() -> None:
    model, cost = paper_cost("hiformer")
    weights, biases = larger_tower(model)
    assert model.inputs.count == 52  # type: ignore[union-attr]
    assert (cost.dense + weights + biases) / 1e6 == pytest.approx(113.8, rel=0.01)
    assert cost.gflops + 120 * weights / 1e9 == pytest.approx(14.15, rel=0.01)


@pytest.mark.parametrize("grade", ["paper", "paper-d"])
def test_onetrans_has_as_many_parameters_as_its_paper_prints(grade: str) -> None:
    model, cost = paper_cost("onetrans", grade)
    assert (cost.dense + sum(larger_tower(model))) / 1e6 == pytest.approx(112.0, rel=0.01)


@pytest.mark.wide
def test_onetrans_with_all_retrieved_behaviors_costs_what_its_paper_prints() -> None:
    """The paper counts every candidate by itself, all layers whole, and half of causal attention."""
    model, cost = paper_cost("onetrans", "paper-f")
    width, recent, kept, tokens, layers = 128, 300, 50, 48, 6
    assert model.tokens == tokens
    tower = 2 * larger_tower(model)[0]
    alone = 60 * (cost.user + cost.candidate + tower)
    halves = 4 * width * ((recent**2 + kept**2 + tokens**2) / 2 * (layers - 1) + tokens**2 / 2)
    # Nobody reads what the last layer would make of behaviors, so they stop at their keys and values.
    attention = 4 * width * (recent**2 / 2 + kept**2 / 2 + kept * recent)
    last = 2 * 4 * width**2 * (recent + kept) + attention
    assert (alone + 60 * (last - halves)) / 1e9 == pytest.approx(52.6, rel=0.01)
    assert cost.gflops + 60 * tower / 1e9 < 0.5 * 52.6  # behaviors of the user serve all candidates


@pytest.mark.parametrize(
    ("name", "per_block"),
    [
        ("hiformer", 52 * (6 * 128**2 + 2 * 128) + 4 * 128),  # Q, K, V, O and two of width D, biases, norms
        ("rankmixer", 64 * (2 * 4 * 128**2 + 5 * 128) + 4 * 128),  # 2 k T D^2, biases, norms
        (
            "mtgr",
            5 * 128**2 + 5 * 128 + 16 * 128,
        ),  # 5 D^2, biases, two norms for each of four kinds
        ("autoint", 4 * (2 * 32) ** 2),  # Q, K, V and the residual
        ("dcnv2", (52 * 16) ** 2 + 52 * 16),  # n numbers of all fields
        (
            "wukong",  # Y, a norm and an MLP of the products, sums of tokens, a norm
            52 * 16 + 2 * 52 * 16 + (52 * 16 + 1) * 256 + (256 + 1) * 26 * 16 + 26 * 52 + 2 * 16,
        ),
        ("longer", 12 * 128**2 + 8 * 128),  # 4 of attention and 8 of width D, biases, gains
    ],
)
def test_a_block_has_the_parameters_of_its_formula(name: str, per_block: int) -> None:
    key = "blocks" if name in ("rankmixer", "mtgr", "longer") else "layers"
    depth = [paper_cost(name, "paper", f"{key}={count}")[1].dense for count in (3, 4)]
    assert depth[1] - depth[0] == per_block


def test_the_options_of_a_model_name_its_grades(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "onetrans", "--grade", "paper-f"]) == DONE
    told = "".join(capsys.readouterr())
    assert "size-5, paper, paper-d, paper-f, debug; shown: paper-f" in told.replace("\n", " ")
