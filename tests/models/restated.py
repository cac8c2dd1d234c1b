"""The input layer and the head once more, in NumPy with 64-bit floats, one row at a time.

Written from the formulas, not from the package: tests compare every model with a restatement built on this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clickscale.batch import Batch
from clickscale.models import CTRModel
from tests.models.toy import EDGES, features, item_columns

Array = npt.NDArray[Any]
Weights = dict[str, Array]


def weights_of(model: CTRModel[Any]) -> Weights:
    """Every weight and running statistic of a model."""
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def shake_statistics(model: nn.Module) -> None:
    """Move running means and variances away from 0 and 1."""
    generator = torch.Generator().manual_seed(7)
    for name, buffer in model.named_buffers():
        if name.endswith("mean"):
            buffer += 0.3 * torch.randn(buffer.shape, generator=generator)
        elif name.endswith(("var", "variance")):
            buffer *= 0.5 + torch.rand(buffer.shape, generator=generator)


def table_offsets() -> dict[str, int]:
    """Where each categorical feature begins: one padding row for all, then feature by feature."""
    offsets, rows = {}, 0
    made = features()
    for feature in (*made.profile, *made.item, *made.behavior, *made.context):
        if feature.kind == "categorical":
            offsets[feature.name] = rows
            rows += feature.size - 1
    return offsets


OFFSETS, COLUMNS = table_offsets(), item_columns()


def looked_up(w: Weights, name: str, indices: Array) -> Array:
    """(d,) mean of the rows of a field's values; zeros if it has none."""
    table = w["inputs.table.weight"]
    rows = [table[OFFSETS[name] + index] for index in indices if index > 0]
    return np.mean(rows, axis=0) if rows else np.zeros(table.shape[1])


def numbered(w: Weights, side: str, place: int, x: float) -> Array:
    """(d,) token of a number."""
    if np.isnan(x):
        return w[f"{side}.missing"][place]
    weight, bias = w[f"{side}.weight"][place], w[f"{side}.bias"][place]
    if weight.ndim == 1:
        return x * weight + bias
    bins = zip(EDGES[:-1], EDGES[1:], weight, strict=False)  # a model has room for more bins
    return sum((np.clip((x - low) / (high - low), 0, 1) * row for low, high, row in bins), bias)


def item_token(w: Weights, item: int) -> Array:
    """(4 d,) id, tags, price, text of an item; zeros for padding."""
    if item == 0:
        return np.zeros(4 * w["inputs.table.weight"].shape[1])
    parts = [
        looked_up(w, "item", COLUMNS["field.item"][item : item + 1]),
        looked_up(w, "tags", COLUMNS["field.tags"][item]),
        numbered(w, "inputs.items.side", 0, float(COLUMNS["field.price"][item])),
        w["inputs.items.projections.text.weight"] @ COLUMNS["field.text"][item].astype(np.float64),
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Case:
    """One candidate of one row, as a list of what it sees.

    Attributes:
        behaviors: (n, 6 d) tokens of the visible behaviors, oldest first.
        times: (n,) their times.
        candidate: (4 d,) item fields of the candidate; ``now`` its time.
        profile: (2, d). context: (2 d,).
    """

    behaviors: Array
    times: Array
    candidate: Array
    now: int
    profile: Array
    context: Array


def case_of(w: Weights, batch: Batch, row: int, place: int) -> Case:
    """Everything that a model may use of a candidate."""
    user, shown = batch.user, batch.candidates
    d = w["inputs.table.weight"].shape[1]
    tokens, times = [], []
    for column in range(int(shown.oldest[row, place]), int(shown.visible[row, place])):
        if int(user.items[row, column]) == 0:
            continue
        action = looked_up(w, "action", user.actions[row, column].numpy())
        dwell = numbered(w, "inputs.behavior_side", 0, float(user.action_numbers[row, column, 0]))
        tokens.append(np.concatenate([item_token(w, int(user.items[row, column])), action, dwell]))
        times.append(int(user.times[row, column]))
    slot = looked_up(w, "slot", shown.context[row, place].numpy())
    ctr = numbered(w, "inputs.context_side", 0, float(shown.context_numbers[row, place, 0]))
    age = numbered(w, "inputs.profile_side", 0, float(user.profile_numbers[row, 0]))
    return Case(
        behaviors=np.array(tokens).reshape(len(tokens), 6 * d),
        times=np.array(times, np.int64),
        candidate=item_token(w, int(shown.items[row, place])),
        now=int(shown.times[row, place]),
        profile=np.stack([looked_up(w, "user", user.profile[row].numpy()), age]),
        context=np.concatenate([slot, ctr]),
    )


def sigmoid(x: Array) -> Array:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def dice(x: Array, mean: Array, variance: Array, alpha: Array) -> Array:
    """``p x + (1 - p) alpha x`` with p from the normalized x."""
    p = sigmoid((x - mean) / np.sqrt(variance + 1e-8))
    return p * x + (1 - p) * alpha * x


def tower(model: CTRModel[Any], w: Weights, x: Array) -> Array:
    """(T,) logits of the head for one candidate, in evaluation mode."""
    config = model.config.head  # type: ignore[union-attr]
    place = 0

    def linear(x: Array) -> Array:
        return w[f"head.tower.{place}.weight"] @ x + w[f"head.tower.{place}.bias"]

    def norm(x: Array) -> Array:
        mean, variance, gain, shift = (
            w[f"head.tower.{place}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift

    def rescaled(x: Array) -> Array:
        return x / (np.sqrt(np.square(x).mean()) + 1e-6) * w[f"head.tower.{place}.gain"]

    for _ in config.hidden:
        x = linear(x)
        place += 1
        if config.norm != "none":
            x = norm(x) if config.norm == "batch" else rescaled(x)
            place += 1
        if config.activation == "batch_dice":
            mean, variance = (w[f"head.tower.{place}.norm.running_{name}"] for name in ("mean", "var"))
            x = dice(x, mean, variance, w[f"head.tower.{place}.alpha"])
        elif config.activation == "dice":
            gate, slope = sigmoid(x), w[f"head.tower.{place}.alpha"]
            x = gate * x + (1 - gate) * slope * x
        else:
            x = np.maximum(x, 0)
        place += 1
    x = linear(x)
    place += 1
    return norm(x) if config.logit_norm else x


def head_input(model: CTRModel[Any], batch: Batch) -> tuple[Tensor, Tensor]:
    """What a model hands to its head (B, C, width), and its logits (B, C, T)."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    with torch.no_grad():
        logits = model(batch)
    hook.remove()
    return seen[0], logits


def gaps(
    model: CTRModel[Any], batch: Batch, restate: Callable[[Weights, Case], Array]
) -> tuple[float, float]:
    """Largest differences of head inputs and of logits between a model and its restatement."""
    w = weights_of(model)
    found, logits = head_input(model, batch)
    inner = outer = 0.0
    for row, place in batch.candidates.mask.nonzero().tolist():
        expected = restate(w, case_of(w, batch, row, place))
        inner = max(inner, float(np.abs(found[row, place].double().numpy() - expected).max()))
        scored = tower(model, w, expected)
        outer = max(outer, float(np.abs(logits[row, place].double().numpy() - scored).max()))
    return inner, outer
