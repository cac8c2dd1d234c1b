import dataclasses
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.nn import functional

from clickscale.costs.flops import (
    Cost,
    PaperRequest,
    _count_parameters,
    count_operations,
    measure_cost,
    paper_request,
    reference_features,
    reference_items,
)
from clickscale.features import Feature
from clickscale.models import CTRModel, build_model, model_names

FEATURES = reference_features(items=50)


def reference_model(name: str, *overrides: str, length: int = 100) -> CTRModel[Any]:
    return build_model(name, FEATURES, reference_items(FEATURES), length=length, overrides=overrides)


def test_a_multiply_add_counts_two_and_a_look_up_nothing() -> None:
    linear, table = nn.Linear(3, 5), nn.Embedding(7, 3)
    ids = torch.tensor([0, 1, 2, 3])
    assert count_operations(lambda: linear(table(ids)))[0] == 2 * 4 * 3 * 5
    x = torch.ones(2, 4, 3)
    assert count_operations(lambda: x.softmax(-1).sum())[0] == 0
    assert count_operations(lambda: x @ x.transpose(1, 2))[0] == 2 * 2 * 4 * 4 * 3


def test_what_is_made_of_other_operations_is_counted_as_these() -> None:
    linear, x = nn.Linear(3, 5), torch.ones(2, 4, 3)

    def work() -> None:
        with torch.inference_mode():  # without gradients to prepare, torch hands on operations in one piece
            linear(x)
            torch.einsum("bln,bmn->blm", x, x)
            x @ x.transpose(1, 2)

    for _ in range(2):  # what the first count learns of an operation holds in the second one
        assert count_operations(work)[0] == 2 * 2 * 4 * 3 * 5 + 2 * (2 * 2 * 4 * 4 * 3)


def test_fused_attention_counts_both_of_its_products() -> None:
    query, key = torch.ones(2, 4, 5, 8), torch.ones(2, 4, 7, 8)
    work = lambda: functional.scaled_dot_product_attention(query, key, key)  # noqa: E731
    assert count_operations(work)[0] == 2 * 2 * (2 * 4 * 5 * 7 * 8)


def test_masked_attention_and_weighted_sums_of_rows_are_counted() -> None:
    query, key, mask = (
        torch.ones(2, 4, 5, 8),
        torch.ones(2, 4, 7, 8),
        torch.ones(2, 1, 5, 7, dtype=torch.bool),
    )
    work = lambda: functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)  # noqa: E731
    assert count_operations(work)[0] == 2 * 2 * (2 * 4 * 5 * 7 * 8)
    table, bags = torch.ones(9, 6), torch.zeros(4, 3, dtype=torch.int64)
    weighted = lambda x: functional.embedding_bag(  # noqa: E731
        bags, x, per_sample_weights=torch.ones(4, 3), mode="sum"
    )
    assert count_operations(lambda: weighted(table))[0] == 2 * 4 * 3 * 6
    assert count_operations(lambda: weighted(table.requires_grad_()))[0] == 2 * 4 * 3 * 6
    assert count_operations(lambda: functional.embedding_bag(bags, table, mode="sum"))[0] == 0


def test_a_grade_of_a_paper_is_counted_on_the_request_of_the_paper() -> None:
    request = paper_request("est", "est-paper")
    features = reference_features(request=request)
    assert request.length == 300
    assert len(features.profile) + len(features.context) + len(features.item) == 26 + 20 + 5
    assert features.item[-1].kind == "content"
    assert paper_request("est", "size-2") == paper_request("din", "est-paper") == PaperRequest()
    assert reference_features(request=PaperRequest()) == reference_features()


def test_the_operations_of_suan_are_those_of_its_equations() -> None:
    model = reference_model("suan", "blocks=3")
    length, d, n2 = 100, 8, 5
    width = 5 * d
    block = (
        (8 + 4 + 1 + 18) * length * width**2  # self attention, cross attention, fusion, feed-forward
        + 4 * length**2 * width  # scores and sums of self attention
        + 4 * n2 * d * width  # keys and values of the profile
        + 4 * length * n2 * width  # scores and sums of cross attention
    )
    clock = 2 * 24 * 7 * d * width  # every hour of a week
    unread = (
        (0.5 + 18) * length * width**2
    )  # of the last block only keys, values and the gate's mean are read
    assert measure_cost(model, FEATURES, length).user == 3 * block - unread + clock


def test_a_model_without_user_side_costs_the_layers_of_its_tower() -> None:
    model = reference_model("mlp")
    cost = measure_cost(model, FEATURES, 100, candidates=60)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert cost.user == 0
    assert cost.total == 60 * sum(2 * layer.in_features * layer.out_features for layer in layers)


@pytest.mark.parametrize("name", model_names())
def test_the_user_side_is_paid_once_and_each_candidate_the_same(name: str) -> None:
    model = reference_model(name, length=20)
    few, many = (measure_cost(model, FEATURES, 20, candidates=count) for count in (30, 60))
    assert few.user == many.user
    assert many.total == pytest.approx(many.user + 60 * many.candidate, rel=1e-12)
    assert many.total - few.total <= 30 * few.candidate
    assert (few.dense, few.embedding) == _count_parameters(model)
    assert few.dense + few.embedding == sum(p.numel() for p in model.parameters())


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = reference_model("din").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_cost(model, FEATURES, 10)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_every_kind_of_field_can_be_costed() -> None:
    extra = (
        Feature(name="tags", kind="categorical", size=9, values=3),
        Feature(name="price", kind="numeric", width=1),
        Feature(name="text", kind="content", width=6),
    )
    features = msgspec.structs.replace(
        FEATURES, item=(*FEATURES.item, *extra), profile=(*FEATURES.profile, extra[1])
    )
    model = build_model("suan", features, reference_items(features))
    plain = measure_cost(reference_model("suan"), FEATURES, 5, 3)
    assert measure_cost(model, features, 5, 3).total > plain.total


def test_a_cost_is_told_in_giga_operations() -> None:
    cost = Cost(
        length=10, candidates=4, dense=1, embedding=2, user=3_000_000_000, candidate=5e8, total=5_000_000_000
    )
    told = cost.to_dict()
    assert told["gflops"] == 5.0
    assert told["user_gflops"] + cost.candidates * told["candidate_gflops"] == 5.0
    assert told.keys() > {field.name for field in dataclasses.fields(cost)}
