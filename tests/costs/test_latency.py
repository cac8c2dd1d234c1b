import json
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from clickscale.batch import UserSide
from clickscale.costs.flops import reference_features, reference_items
from clickscale.costs.latency import (
    APPENDED,
    CACHED,
    ONE_BY_ONE,
    PARALLEL,
    VARIANTS,
    Latencies,
    _timing,
    compare_latency,
    in_turns,
    made_up_request,
    measure_latency,
)
from clickscale.errors import ConfigError
from clickscale.features import Feature
from clickscale.models import CTRModel, build_model, model_names
from clickscale.models.din import DIN, PRESETS, _DINState
from tests.everyday import sampled

FEATURES = reference_features(items=50)
ITEMS = reference_items(FEATURES)


def measured(model: CTRModel[Any], lengths: tuple[int, ...] = (6,), seconds: float = 0.0) -> Latencies:
    return measure_latency(model, FEATURES, lengths, (1, 5), trained=6, repeats=4, seconds=seconds)


def test_works_take_turns_after_each_was_warmed_up() -> None:
    order: list[str] = []
    found = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 4, 60.0)
    assert "".join(order) == "ab" + "ab" * 4
    assert [len(runs) for runs in found.values()] == [4, 4]


def test_a_cell_without_time_left_still_runs_three_times() -> None:
    found = in_turns({"a": lambda: None}, 100, 0.0)
    assert len(found["a"]) == 3


def test_percentiles_are_scaled_to_the_candidates_that_were_asked_for() -> None:
    found = _timing([3.0, 1.0, 2.0], candidates=500, measured=5)
    assert found.p50 == pytest.approx(200.0)
    assert found.p99 == pytest.approx(298.0)  # 99% of the way from the first to the third: 2.98 ms
    assert (found.runs, found.measured) == (3, 5)


@pytest.mark.parametrize("name", sampled(model_names()))
def test_every_model_scores_the_same_in_every_way(name: str) -> None:
    model = build_model(name, FEATURES, ITEMS, grade="size-1", length=6)
    found = measured(model, (2, 6, 9))
    assert [(cell.length, cell.candidates) for cell in found.cells] == [
        (length, count) for length in (2, 6, 9) for count in (1, 5)
    ]
    for cell in found.cells:
        assert tuple(cell.timings) == (VARIANTS if model.causal else VARIANTS[:3])
        assert all(0 < time.p50 <= time.p99 and time.runs == 3 for time in cell.timings.values())
    for state in found.states:
        assert (state.append is not None) == model.causal
        assert state.gap <= 1e-5
        assert 0 < state.half < state.scoring
    assert found.states[-1].scoring <= found.states[-1].appendable + 8  # may keep the number of behaviors
    assert found.share > 0
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_bytes_of_a_state_are_those_of_its_tensors() -> None:
    model = build_model("din", FEATURES, ITEMS, grade="size-1", length=6)
    (state,) = measured(model).states
    width, profile = 5 * 8, 5 * 8
    assert state.appendable == state.scoring == 4 * (6 * width + profile) + 6
    assert state.half == 2 * (6 * width + profile) + 6


def test_a_model_that_cannot_append_is_measured_without() -> None:
    model = build_model("suan", FEATURES, ITEMS, grade="size-1", length=6)
    model.causal = False
    found = measured(model)
    assert all(tuple(cell.timings) == (ONE_BY_ONE, PARALLEL, CACHED) for cell in found.cells)
    assert found.states[0].append is None
    assert found.states[0].gap <= 1e-5
    assert found.cells[0].faster(PARALLEL, APPENDED) is None


def test_models_of_different_lengths_are_compared_in_turns() -> None:
    models = {
        name: (build_model(name, FEATURES, ITEMS, grade="size-1", length=length).eval(), length)
        for name, length in (("din", 4), ("suan", 6))
    }
    found = compare_latency(models, FEATURES, 5, seconds=0.0)
    assert list(found) == ["din", "suan"]
    for times in found.values():
        assert list(times) == [PARALLEL, CACHED]
        assert all(time.p50 > 0 and (time.runs, time.measured) == (3, 5) for time in times.values())


class Forgetful(DIN):
    """Appends nothing."""

    def extend_user(self, state: _DINState, user: UserSide) -> _DINState:
        return state


def test_a_variant_that_scores_something_else_is_seen() -> None:
    torch.manual_seed(0)
    model = Forgetful(FEATURES, ITEMS, PRESETS["size-1"], 6, 1)
    assert measured(model).states[0].gap > 1e-5


class Slow(DIN):
    """Counts how often it encodes."""

    encoded = 0

    def encode_user(self, user: UserSide) -> _DINState:
        self.encoded += 1
        return super().encode_user(user)


def test_candidates_one_by_one_that_take_too_long_are_scaled_up() -> None:
    model = Slow(FEATURES, ITEMS, PRESETS["size-1"], 6, 1)
    found = measured(model)
    one, five = (cell.timings[ONE_BY_ONE] for cell in found.cells)
    assert (one.measured, five.measured) == (1, 1)
    assert all(
        time.measured == cell.candidates
        for cell in found.cells
        for name, time in cell.timings.items()
        if name != ONE_BY_ONE
    )
    few = model.encoded
    patient = measured(model, seconds=60.0)
    assert patient.cells[1].timings[ONE_BY_ONE].measured == 5
    assert model.encoded - few > few


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = build_model("din", FEATURES, ITEMS, grade="size-1", length=6).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("lengths", "candidates"), [((1,), (5,)), ((5,), (0,)), ((), (5,)), ((5,), ())])
def test_sizes_that_cannot_be_measured_are_refused(
    lengths: tuple[int, ...], candidates: tuple[int, ...]
) -> None:
    model = build_model("din", FEATURES, ITEMS, grade="size-1", length=6)
    with pytest.raises(ConfigError, match="at least"):
        measure_latency(model, FEATURES, lengths, candidates, trained=6)


def test_made_up_requests_have_full_histories_of_known_values_before_the_candidates() -> None:
    extra = (
        Feature(name="tags", kind="categorical", size=9, values=3),
        Feature(name="price", kind="numeric", width=1),
    )
    wide = msgspec.structs.replace(
        FEATURES,
        profile=(*FEATURES.profile, *extra),
        behavior=(*FEATURES.behavior, extra[1]),
        context=(*FEATURES.context, *extra),
    )
    user, candidates = made_up_request(wide, 7, 4)
    assert user.profile.shape == (1, 5 + 3)
    assert user.profile_numbers.shape == (1, 1)
    assert user.actions.shape == (1, 7, 1)
    assert candidates.context.shape == (1, 4, 2 + 3)
    sides: list[Tensor] = [user.items, user.profile, user.actions, candidates.items, candidates.context]
    assert all(int(side.min()) >= 1 for side in sides)
    assert int(user.items.max()) < FEATURES.items
    assert bool((user.times.diff() > 0).all())
    assert int(user.times.max()) < int(candidates.times.min())
    assert candidates.visible.unique().tolist() == [7]
    again, _ = made_up_request(wide, 7, 4)
    assert torch.equal(again.items, user.items)
