"""EST once more, in NumPy with 64-bit floats: one candidate at a time, every behavior in a list.

Written from the equations (Liu et al. 2026, section 5) and their named resolutions, not from the package.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from clickscale.batch import Batch
from clickscale.models import CTRModel
from clickscale.models.est import EST
from tests.models.restated import COLUMNS, Array, Weights, looked_up, numbered, sigmoid
from tests.models.restated_suan import bucket, softmax


@dataclass(frozen=True)
class Behavior:
    """One visible behavior: its column, item, time, embedded fields."""

    column: int
    item: int
    time: int
    fields: Array


def content_of(item: int) -> Array:
    """Direction of an item's content in steps of 1/4000."""
    vector = COLUMNS["field.text"][item].astype(np.float64)
    length = np.sqrt((vector**2).sum())
    return np.rint(vector / length * 4000) / 4000 if item > 0 and length > 0 else np.zeros(4)


def item_fields(w: Weights, item: int, side: bool) -> list[Array]:
    """Embedded fields of an item, zeros for padding."""
    if item == 0:
        return [np.zeros(w["inputs.table.weight"].shape[1])] * (3 + side)
    parts = [
        looked_up(w, "item", COLUMNS["field.item"][item : item + 1]),
        looked_up(w, "tags", COLUMNS["field.tags"][item]),
        numbered(w, "inputs.items.side", 0, float(COLUMNS["field.price"][item])),
    ]
    text = COLUMNS["field.text"][item].astype(np.float64)
    return [*parts, w["inputs.items.projections.text.weight"] @ text] if side else parts


def rms(x: Array, gain: Array) -> Array:
    """RMSNorm with eps outside the root."""
    return gain * x / (np.sqrt((x**2).mean(axis=-1, keepdims=True)) + 1e-6)


def swiglu(x: Array, enter: Array, leave: Array) -> Array:
    """Matrices stand right of x."""
    gate, value = np.split(x @ enter, 2, axis=-1)
    return (gate * sigmoid(gate) * value) @ leave


class Restated:
    """The whole model for one batch."""

    def __init__(self, model: CTRModel[Any], w: Weights, batch: Batch) -> None:
        assert isinstance(model, EST), "the model is EST"
        config = model.chosen
        self.config, self.length, self.w, self.batch = config, model.length, w, batch
        self.side = config.content in ("side", "both")
        self.counts = config.content in ("simtier", "both")

    def head_input(self, row: int, place: int) -> Array:
        """All last tokens, then the mean of the last behaviors."""
        shown, config = self.batch.candidates, self.config
        item = int(shown.items[row, place])
        visible = int(shown.visible[row, place])
        # A causal row reads older rows, whether or not the candidate sees those by itself.
        every = [b for b in self.timeline(row) if b.column < visible]
        seen = [b for b in every if b.column >= int(shown.oldest[row, place])]
        recent = [b for b in seen if b.column >= visible - config.recent]
        kept = self.retrieved(item, seen)
        tower = every if config.csa == "causal" else recent
        counted = [b.column >= recent[0].column if recent else False for b in tower]
        tokens = self.tokens(row, place, recent, kept)
        now = int(shown.times[row, place])
        bias = [self.bias(b, visible, now) for part in (tower, kept) for b in part]
        hidden = np.array([*(not c for c in counted), *([False] * len(kept))], dtype=bool)
        tokens, rows = self.blocks(
            tokens, tower, kept, np.where(hidden, -np.inf, bias) if bias else np.zeros(0)
        )
        rows = rows[~hidden]
        mean = rows.mean(axis=0) if len(rows) else np.zeros(config.width)
        return np.concatenate([tokens.ravel(), mean])

    # --- inputs

    def timeline(self, row: int) -> list[Behavior]:
        """All behaviors of a row."""
        user, found = self.batch.user, []
        for column, item in enumerate(user.items[row].tolist()):
            if item:
                action = looked_up(self.w, "action", user.actions[row, column].numpy())
                dwell = float(user.action_numbers[row, column, 0])
                number = numbered(self.w, "inputs.behavior_side", 0, dwell)
                fields = np.concatenate([*item_fields(self.w, item, self.side), action, number])
                found.append(Behavior(column, item, int(user.times[row, column]), fields))
        return found

    def retrieved(self, item: int, seen: list[Behavior]) -> list[Behavior]:
        """The most similar behaviors, newer ones first among equals, in the order of time."""
        tags = {tag for tag in COLUMNS["field.tags"][item].tolist() if tag > 1}
        scores = []
        for place, behavior in enumerate(seen):
            if self.config.search == "content":
                fits = content_of(item).any() and content_of(behavior.item).any()
                score = content_of(item) @ content_of(behavior.item)
            elif self.config.search == "hash":
                score = self.bits(item) @ self.bits(behavior.item)
                fits = True
            else:
                score = len(tags & set(COLUMNS["field.tags"][behavior.item].tolist()))
                fits = score > 0
            if fits:
                scores.append((round(float(score), 9), place))
        best = sorted(scores)[::-1][: self.config.kept]
        return [seen[place] for _, place in sorted(best, key=lambda pair: pair[1])]

    def bits(self, item: int) -> Array:
        """Signs of the random projections of an item."""
        token = np.concatenate(item_fields(self.w, item, self.side))
        return np.where(token @ self.w["inputs.search.hash.directions"] > 0, 1.0, -1.0)

    def histogram(self, item: int, behaviors: list[Behavior]) -> Array:
        """log(1 + count) of the cosines in equal parts of [-1, 1]."""
        counts, own = np.zeros(self.config.tiers), content_of(item)
        for behavior in behaviors:
            other = content_of(behavior.item)
            if own.any() and other.any():
                tier = int(np.floor((own @ other + 1) / 2 * self.config.tiers))
                counts[min(max(tier, 0), self.config.tiers - 1)] += 1
        return np.log1p(counts)

    def tokens(self, row: int, place: int, recent: list[Behavior], kept: list[Behavior]) -> Array:
        """(N, D): profile, context, candidate, histograms."""
        user, shown, w = self.batch.user, self.batch.candidates, self.w
        fields = [
            looked_up(w, "user", user.profile[row].numpy()),
            numbered(w, "inputs.profile_side", 0, float(user.profile_numbers[row, 0])),
            looked_up(w, "slot", shown.context[row, place].numpy()),
            numbered(w, "inputs.context_side", 0, float(shown.context_numbers[row, place, 0])),
            *item_fields(w, int(shown.items[row, place]), self.side),
        ]
        made = [
            x @ w["inputs.tokens.fields.weight"][n] + w["inputs.tokens.fields.bias"][n, 0]
            for n, x in enumerate(fields)
        ]
        if self.counts:
            sequences = [recent, kept][: len(w["inputs.tokens.histograms.weight"])]
            for n, sequence in enumerate(sequences):
                counts = self.histogram(int(shown.items[row, place]), sequence)
                made.append(
                    counts @ w["inputs.tokens.histograms.weight"][n]
                    + w["inputs.tokens.histograms.bias"][n, 0]
                )
        return np.array(made)

    def bias(self, behavior: Behavior, visible: int, now: int) -> float:
        """Of cross-attention towards a behavior."""
        if self.config.time == "none":
            return 0.0
        time = self.w["light.bias.sets.0.time"][0, bucket(now - behavior.time, "octave")]
        return float(
            time + self.w["light.bias.sets.0.position"][0, min(visible - behavior.column, self.length)]
        )

    # --- blocks

    def neighbors(self, behaviors: list[Behavior], causal: bool) -> Array:
        """(n, n) weight of behavior j in what behavior i gathers."""
        weights = np.zeros((len(behaviors), len(behaviors)))
        if self.config.csa == "none":
            return weights
        vectors = [content_of(b.item) for b in behaviors]
        for i, own in enumerate(behaviors):
            reach = [
                j
                for j, other in enumerate(behaviors)
                if vectors[i].any()
                and vectors[j].any()
                and (not causal or own.column - other.column >= 0)
                and (not causal or own.column - other.column < self.config.recent)
            ]
            ranked = sorted(((round(float(vectors[i] @ vectors[j]), 9), j) for j in reach), reverse=True)
            best = [j for _, j in ranked[: self.config.neighbors]]
            cosines = np.array([vectors[i] @ vectors[j] for j in best])
            if len(best) and self.config.weighting == "softmax":
                cosines = softmax(cosines)
            if len(best) and self.config.weighting == "l1":
                cosines = cosines / np.abs(cosines).sum()
            weights[i, best] = cosines
        return weights

    def blocks(
        self, tokens: Array, tower: list[Behavior], kept: list[Behavior], bias: Array
    ) -> tuple[Array, Array]:
        """Last tokens and last rows; rows of both sequences stand together, but gather within their own."""
        w, width = self.w, self.config.width
        split = len(tower)
        made = [w["inputs.recent_rows.weight"] @ b.fields + w["inputs.recent_rows.bias"] for b in tower]
        made += [w["inputs.kept_rows.weight"] @ b.fields + w["inputs.kept_rows.bias"] for b in kept]
        rows = np.array(made).reshape(len(made), width)
        gather = np.zeros((len(rows), len(rows)))
        gather[:split, :split] = self.neighbors(tower, self.config.csa == "causal")
        gather[split:, split:] = self.neighbors(kept, causal=False)
        for number in range(self.config.blocks):
            part = {k.removeprefix(f"light.blocks.{number}."): v for k, v in w.items()}
            entered, asked = rms(rows, part["row_norm.gain"]), rms(tokens, part["token_norm.gain"])
            tokens = tokens + self.cross_attention(part, asked, entered, bias)
            rows = rows + gather @ entered
            inner = rms(tokens, part["token_ffn_norm.gain"])
            enter, leave = part["token_ffn.enter.weight"], part["token_ffn.leave.weight"]
            tokens = tokens + np.array([swiglu(x, enter[n], leave[n]) for n, x in enumerate(inner)])
            inner = rms(rows, part["row_ffn_norm.gain"])
            rows = rows + swiglu(inner, part["row_ffn.enter.weight"].T, part["row_ffn.leave.weight"].T)
        return tokens, rows

    def cross_attention(self, part: Weights, tokens: Array, rows: Array, bias: Array) -> Array:
        """Every token by itself over all rows."""
        if not len(rows) or not np.isfinite(bias).any():
            return np.zeros_like(tokens)
        width, heads = self.config.width, self.config.heads
        size, out = width // heads, np.zeros_like(tokens)
        key, value = np.split(rows @ part["attention.key_value.weight"].T, 2, axis=1)
        for n, token in enumerate(tokens):
            query = token @ part["attention.query.weight"][n]
            found = []
            for head in range(heads):
                cut = slice(head * size, (head + 1) * size)
                found.append(softmax(key[:, cut] @ query[cut] / np.sqrt(size) + bias) @ value[:, cut])
            out[n] = np.concatenate(found) @ part["attention.out.weight"][n]
        return out
