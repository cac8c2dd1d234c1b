"""CAN against its formula in NumPy."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.models import CTRModel, build_model
from tests.models.restated import Array, case_of, head_input, shake_statistics, weights_of
from tests.models.test_history_models import activated, with_fields
from tests.models.toy import ITEMS, features, item_columns, toy_batch, toy_model


def second(w: dict[str, Array], table: str, item: int) -> list[Array]:
    """Rows of a second table for an item: of its id, and the mean over its tags."""
    rows = w[f"{table}.weight"]
    tags = item_columns()["field.tags"][item]
    return [rows[item], np.mean([rows[ITEMS - 1 + tag] for tag in tags if tag > 0], axis=0)]


def co_action(
    model: CTRModel[Any], w: dict[str, Array], batch: Batch, row: int, place: int, widths: Array, bias: bool
) -> Array:
    """Outputs of every small network, summed over the visible behaviors."""
    made = []
    behaviors = [int(item) for item in batch.user.items[row] if item > 0]
    weights = second(w, "weight_table", int(batch.candidates.items[row, place]))
    for field in range(2):
        for order in (1, 2, 3):
            total = [np.zeros(width) for width in widths[1:]]
            for item in behaviors:
                x, at = second(w, "entered_table", item)[field] ** order, 0
                for layer, (enter, leave) in enumerate(pairwise(widths)):
                    matrix = weights[field][at : at + enter * leave].reshape(enter, leave)
                    at += enter * leave
                    x = x @ matrix
                    if bias:
                        x, at = x + weights[field][at : at + leave], at + leave
                    x = np.tanh(x) if layer < len(widths) - 2 else x
                    total[layer] = total[layer] + x
            made += total
    return np.concatenate(made)


@pytest.mark.parametrize(
    ("widths", "bias"), [([16, 8, 4], False), ([4, 4, 4, 4], True)], ids=["16-8-4", "biases"]
)
def test_against_numpy(widths: Any, bias: bool) -> None:
    model = toy_model("can", f"widths={widths}", f"bias={bias}".lower()).double()
    shake_statistics(model)
    batch, w = toy_batch(), weights_of(model)
    found, _ = head_input(model, batch)
    for row, place in batch.candidates.mask.nonzero().tolist():
        case = case_of(w, batch, row, place)
        interest = activated(w, "activation", case, case.behaviors)
        made = co_action(model, w, batch, row, place, widths, bias)
        expected = with_fields(case, interest, case.candidate, made)
        np.testing.assert_allclose(found[row, place].numpy(), expected, atol=1e-9)


def test_second_tables_start_small_and_padding_stays_zero() -> None:
    """Powers of rows as large as those of the first table would explode."""
    torch.manual_seed(0)
    model = build_model("can", features(), item_columns(), length=12)
    for name in ("weight_table", "entered_table"):
        weight = getattr(model, name).weight.detach()
        assert 0.005 < float(weight.std()) < 0.02
        assert not weight[0].any()


def test_a_network_needs_a_layer() -> None:
    with pytest.raises(ConfigError, match=r"widths is \[4\]; an input and at least one layer are needed"):
        toy_model("can", "widths=[4]")
