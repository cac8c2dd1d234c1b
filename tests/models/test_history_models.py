"""Models in which candidates meet embedded behaviors, against their formulas in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.errors import ConfigError
from clickscale.models import CTRModel
from tests.models.restated import (
    Array,
    Case,
    Weights,
    case_of,
    dice,
    gaps,
    shake_statistics,
    tower,
    weights_of,
)
from tests.models.restated_suan import bucket
from tests.models.test_field_models import layer_norm, softmax
from tests.models.toy import pick_rows, toy_batch, toy_model, with_candidates, with_user

WIDTH = 8


def full_width(case: Case) -> Array:
    """(D,) the candidate with zeros for the fields of behaviors."""
    return np.pad(case.candidate, (0, case.behaviors.shape[1] - len(case.candidate)))


def activated(w: Weights, name: str, case: Case, behaviors: Array) -> Array:
    """(D,) DIN's sum of behaviors."""
    return weighted(w, name, full_width(case), behaviors)


def weighted(w: Weights, name: str, query: Array, behaviors: Array) -> Array:
    """(D,) DIN's sum of behaviors (n, D) for the token of a candidate (D,)."""
    parts = ("query", "key", "gap", "product")
    weight = np.concatenate([w[f"{name}.{part}_weight"] for part in parts], axis=1)
    total = np.zeros(behaviors.shape[1])
    for key in behaviors:
        units = weight @ np.concatenate([query, key, query - key, query * key]) + w[f"{name}.first_bias"]
        variance = w[f"{name}.dice.rate"] ** -2 - 1e-8
        bent = dice(units, w[f"{name}.dice.center"], variance, w[f"{name}.dice.alpha"])
        total += key * (w[f"{name}.second.weight"][0] @ bent + w[f"{name}.second.bias"])
    return total


def gaps_of(w: Weights, name: str, case: Case) -> Array:
    """(n, d) embeddings of the time from each behavior to the candidate."""
    return np.array([w[name][bucket(case.now - int(t), "octave")] for t in case.times]).reshape(-1, WIDTH)


def heads_of(x: Array, heads: int) -> Array:
    """(N, W) -> (H, N, W / H)."""
    return x.reshape(len(x), heads, x.shape[1] // heads).transpose(1, 0, 2)


def with_fields(case: Case, *read: Array) -> Array:
    """Head input."""
    return np.concatenate([*read, case.profile.ravel(), case.context])


def bst(w: Weights, case: Case) -> Array:
    """Transformer over behaviors and candidate; the candidate's row."""
    rows = np.concatenate([case.behaviors, full_width(case)[None]])
    now = np.tile(w["gap.weight"][0], (1, 1))
    x = np.concatenate([rows, np.concatenate([gaps_of(w, "gap.weight", case), now])], axis=1)
    for block in range(2):
        name = f"blocks.{block}"

        def linear(part: str, x: Array, name: str = name) -> Array:
            return x @ w[f"{name}.{part}.weight"].T + w[f"{name}.{part}.bias"]

        key, value = np.split(linear("key_value", x), 2, axis=1)
        query, key, value = (heads_of(part, 2) for part in (linear("query", x), key, value))
        seen = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])) @ value
        x = layer_norm(w, f"{name}.norms.0", x + linear("out", seen.transpose(1, 0, 2).reshape(x.shape)))
        hidden = linear("enter", x)
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        x = layer_norm(w, f"{name}.norms.1", x + linear("leave", hidden))
    return with_fields(case, x[-1])


def nearest(scores: Array, kept: int) -> Array:
    """Places of the highest scores, oldest first; of equal ones the newest are kept."""
    order = sorted(range(len(scores)), key=lambda place: (scores[place], place), reverse=True)
    return np.array(sorted(order[:kept]), np.int64)


def two_interests(
    kept: int, relevance: Callable[[Weights, Case], Array], counts: bool = True
) -> Callable[[Weights, Case], Array]:
    """SIM and ETA: DIN over the newest three, attention over what the search keeps."""

    def restated(w: Weights, case: Case) -> Array:
        newest = activated(w, "interests.activation", case, case.behaviors[-3:])
        scores = relevance(w, case)
        places = nearest(scores, kept)
        places = places[scores[places] > -np.inf]
        tokens = np.concatenate([case.behaviors, gaps_of(w, "interests.gap.weight", case)], axis=1)[places]
        read = np.zeros(32)
        if len(places):
            key, value = np.split(tokens @ w["interests.attention.key_value.weight"].T, 2, axis=1)
            query = (w["interests.attention.query.weight"] @ full_width(case)).reshape(2, 1, 16) / 4
            logits = query @ heads_of(key, 2).transpose(0, 2, 1)  # (H, 1, K)
            if counts and "interests.search.learned.candidate.weight" in w:
                logits = logits + scores[places]
            read = (softmax(logits) @ heads_of(value, 2)).ravel()
        return with_fields(case, newest, read, case.candidate)

    return restated


def learned(w: Weights, case: Case) -> Array:
    """Product of projections of the items."""
    items = case.behaviors[:, : len(case.candidate)]
    asked = w["interests.search.learned.candidate.weight"] @ case.candidate / 4
    return items @ w["interests.search.learned.behavior.weight"].T @ asked


def hashed(w: Weights, case: Case) -> Array:
    """Equal minus different bits of the signs."""
    directions = w["interests.search.hash.directions"]
    signs = [np.where(x @ directions > 0, 1, -1) for x in case.behaviors[:, : len(case.candidate)]]
    return np.array([sign @ np.where(case.candidate @ directions > 0, 1, -1) for sign in signs])


def twin(w: Weights, case: Case) -> Array:
    """One relevance for search and attention."""
    width, count = len(case.candidate), len(case.behaviors)
    newest = activated(w, "activation", case, case.behaviors[-3:])
    query = (w["query.weight"] @ case.candidate).reshape(4, 16) / 4
    key = heads_of(case.behaviors[:, :width] @ w["inherent.weight"].T, 4)
    times = gaps_of(w, "gap.weight", case)
    fields = [*np.split(case.behaviors[:, width:], 2, axis=1), times]  # action, dwell, time
    relevance = np.einsum("hw,hnw->hn", query, key)
    for field, cross, weights in zip(fields, w["cross"], w["cross_weights"], strict=True):
        relevance = relevance + weights[:, None] * (field @ cross).T
    read = np.zeros(64)
    if count:
        places = nearest(relevance.sum(axis=0), 5)
        tokens = np.concatenate([case.behaviors, times], axis=1)[places]
        value = heads_of(tokens @ w["value.weight"].T, 4)
        read = np.einsum("hk,hkw->hw", softmax(relevance[:, places]), value).ravel()
    return with_fields(case, newest, read, case.candidate)


SHORT = ("recent=3", "kept=5")
CASES = {
    "bst": ((), bst),
    "sim": (SHORT, two_interests(5, learned)),
    "sim auxiliary=1": (SHORT, two_interests(5, learned, counts=False)),
    "eta": (SHORT, two_interests(5, hashed)),
    "twin": (SHORT, twin),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("full", [False, True])
def test_against_numpy(name: str, full: bool) -> None:
    options, restated = CASES[name]
    model = toy_model(name, *options).double()
    shake_statistics(model)
    inner, outer = gaps(model, toy_batch(full=full), restated)
    assert inner <= 1e-9
    assert outer <= 1e-6  # logits are 32-bit


def test_a_hard_search_takes_the_newest_of_one_kind() -> None:
    """Behaviors that share no tag with the candidate are never read by the long interest."""
    model, batch = toy_model("sim", "search=field", "recent=1", "kept=3"), toy_batch(full=True)
    rows = model.inputs.items.rows  # type: ignore[union-attr]
    tags = rows[:, 1:4]
    shared = torch.tensor(
        [
            [bool(set(tags[item].tolist()) & set(tags[other].tolist()) - {0}) for item in range(30)]
            for other in range(30)
        ]
    )
    seen: list[torch.Tensor] = []
    model.interests.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))  # type: ignore[union-attr]
    with torch.no_grad():
        model(batch)
    found = seen[0].view(5, 4, 3).sum(dim=-1)
    for row in range(5):
        for place in range(4):
            matches = shared[batch.candidates.items[row, place]][batch.user.items[row]]
            assert found[row, place] == min(int(matches.sum()), 3)


def test_the_loss_of_a_learned_search_against_numpy() -> None:
    """A tower of its own over all visible behaviors, weighted by relevance."""
    model, batch = toy_model("sim", "auxiliary=0.5").double().train(), toy_batch()
    with torch.no_grad():
        found = float(model.auxiliary_loss(model.encode_user(batch.user), batch))  # type: ignore[arg-type]
    w = weights_of(model)
    losses = []
    for row, place in batch.candidates.mask.nonzero().tolist():
        case = case_of(w, batch, row, place)
        read = with_fields(case, learned(w, case) @ case.behaviors, case.candidate)
        own = {
            name.replace("search_head.", "head."): value for name, value in w.items() if "search_head" in name
        }
        (logit,) = tower(model, own, read)
        label = float(batch.labels[row, place, 0])
        losses.append(np.log1p(np.exp(-logit)) if label else np.log1p(np.exp(logit)))
    assert found == pytest.approx(0.5 * np.mean(losses), rel=1e-5)


def test_only_a_learned_search_has_a_loss_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"auxiliary=1\.0 trains a learned search, and search=field"):
        toy_model("sim", "auxiliary=1", "search=field")


@pytest.mark.parametrize("name", ["sim", "eta", "twin"])
def test_a_search_finds_no_padding(name: str) -> None:
    """With fewer behaviors than it keeps, what is read does not depend on how far a row is filled up."""
    model, batch = toy_model(name, "kept=30"), toy_batch()
    one = pick_rows(batch, torch.tensor([1]))
    changed = with_user(one, times=torch.where(one.user.items > 0, one.user.times, 12345))
    with torch.no_grad():
        assert torch.equal(model(one), model(changed))


@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_bst_pools_only_what_a_candidate_sees(pool: str) -> None:
    model, batch = toy_model("bst", f"pool={pool}"), toy_batch(full=True)
    windowed = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 4))
    items = batch.user.items.clone()
    items[:, 4:] = 3
    with torch.no_grad():
        assert torch.equal(model(windowed), model(with_user(windowed, items=items)))
        assert not torch.equal(model(windowed), model(batch))


@pytest.mark.parametrize(
    ("name", "option", "complaint"),
    [
        ("bst", "heads=5", r"A token is 56 wide .* which heads=5 does not divide"),
        ("bst", "dropout=1", r"dropout is 1\.0"),
        ("sim", "kept=0", "kept is 0; at least 1"),
        ("hstu", "heads=5", "The width of a block, 48, is not a multiple of heads=5"),
    ],
)
def test_a_wrong_option_is_named(name: str, option: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        toy_model(name, option)


def test_a_hard_search_names_the_fields_it_could_compare() -> None:
    with pytest.raises(ConfigError, match=r"Unknown item field 'tag'; did you mean 'tags'\?"):
        toy_model("sim", "search=field", "field=tag")


# --- pointwise attention


class Pointwise:
    """A stack of HSTU blocks over one sequence in which row i sees the rows before it and itself."""

    def __init__(self, w: Weights, config: Any, before: int) -> None:
        self.w, self.config, self.before = w, config, before

    def norm(self, block: int, name: str, x: Array, kinds: list[int]) -> Array:
        """LayerNorm with the weights of each row's kind."""
        path = f"stack.blocks.{block}.{name}"
        count = sum(f"{path}.{kind}.weight" in self.w for kind in range(3))
        rows = [layer_norm(self.w, f"{path}.{kind % count}", row) for row, kind in zip(x, kinds, strict=True)]
        return np.array(rows)

    def run(self, x: Array, times: Array, silu: bool) -> Array:
        """All rows after the last block."""
        kinds = [0] * self.before + [1] * (len(x) - self.before - 1) + [2]
        for block in range(self.config.blocks):
            entered = self.norm(block, "norms", x, kinds) @ self.w[f"stack.blocks.{block}.enter.weight"].T
            entered = entered + self.w[f"stack.blocks.{block}.enter.bias"]
            entered = bent(entered) if silu else entered
            gate, value, query, key = np.split(entered, 4, axis=1)
            seen = np.zeros_like(x)
            for head in range(2):
                part = slice(head * x.shape[1] // 2, (head + 1) * x.shape[1] // 2)
                for i in range(len(x)):
                    last = self.before if i < self.before else i + 1  # tokens before it see each other
                    for j in range(last):
                        score = query[i, part] @ key[j, part] + self.bias(block, head, i, j, times)
                        seen[i, part] += bent(score) * value[j, part] / 12
            read = self.norm(block, "seen_norms", seen, kinds) * gate
            name = f"stack.blocks.{block}.leave"
            x = x + read @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]
        return x

    def bias(self, block: int, head: int, i: int, j: int, times: Array) -> float:
        """Of time and distance; tokens before the sequence have none."""
        if j < self.before:
            return 0.0
        sets = f"stack.bias.sets.{block}"
        seconds = bucket(int(times[i - self.before] - times[j - self.before]), "octave")
        return float(self.w[f"{sets}.time"][head, seconds] + self.w[f"{sets}.position"][head, min(i - j, 12)])


def bent(x: Any) -> Any:
    """SiLU."""
    return x / (1 + np.exp(-x))


def timed(w: Weights, rows: Array, times: Array) -> Array:
    """Rows with hour and weekday added."""
    week = w["inputs.week.project.weight"]
    added = [
        week @ (w["inputs.week.hour"][t // 3600 % 24] + w["inputs.week.day"][(t // 86_400 + 4) % 7])
        for t in times
    ]
    return rows + np.array(added)


def whole_sequence(w: Weights, case: Case) -> tuple[Array, Array]:
    """Tokens and times of behaviors and candidate."""
    times = np.concatenate([case.times, [case.now]])
    rows = np.concatenate([case.behaviors, full_width(case)[None]])
    return timed(w, rows, times), times


def test_hstu_against_numpy() -> None:
    model = toy_model("hstu").double()

    def restated(w: Weights, case: Case) -> Array:
        x, times = whole_sequence(w, case)
        return with_fields(case, Pointwise(w, model.config, 0).run(x, times, silu=True)[-1])

    assert gaps(model, toy_batch(), restated)[0] <= 1e-9


@pytest.mark.parametrize("silu", [False, True])
def test_mtgr_against_numpy(silu: bool) -> None:
    model: CTRModel[Any] = toy_model("mtgr", f"uvqk_silu={silu}".lower()).double()

    def tokens(w: Weights, name: str, x: Array) -> Array:
        hidden = bent(x @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"])
        return hidden @ w[f"{name}.2.weight"].T + w[f"{name}.2.bias"]

    def restated(w: Weights, case: Case) -> Array:
        x, times = whole_sequence(w, case)
        profile = case.profile @ w["profile_tokens.weight"].T + w["profile_tokens.bias"]
        candidate = tokens(w, "candidate_tokens", np.concatenate([x[-1], case.context]))
        rows = np.concatenate([profile, tokens(w, "behavior_tokens", x[:-1]), candidate[None]])
        return with_fields(case, Pointwise(w, model.config, 2).run(rows, times, silu)[-1])

    assert gaps(model, toy_batch(), restated)[0] <= 1e-9


@pytest.mark.parametrize("full", [False, True])
def test_mtgr_as_in_its_paper_against_numpy(full: bool) -> None:
    """Profile and older behaviors see each other, the newest ones see them and what was before."""
    model: CTRModel[Any] = toy_model("mtgr", "visible=paper", "bias=none", "recent=4").double()

    def tokens(w: Weights, name: str, x: Array) -> Array:
        hidden = bent(x @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"])
        return hidden @ w[f"{name}.2.weight"].T + w[f"{name}.2.bias"]

    def restated(w: Weights, case: Case) -> Array:
        x, _ = whole_sequence(w, case)
        older, newest = np.split(x[:-1], [max(len(x) - 5, 0)])
        profile = case.profile @ w["profile_tokens.weight"].T + w["profile_tokens.bias"]
        candidate = tokens(w, "candidate_tokens", np.concatenate([x[-1], case.context]))
        parts = [tokens(w, "behavior_tokens", older), tokens(w, "recent_tokens", newest)]
        rows = np.concatenate([profile, *parts, candidate[None]])
        kinds = np.repeat([0, 1, 3, 2], [len(profile), len(older), len(newest), 1])
        order = np.arange(len(rows))
        of_all = (kinds == 0) | (kinds == 1)  # keys that all see
        of_newest = (kinds == 3) & ((kinds == 3)[:, None] & (order <= order[:, None]))
        seen_by_candidate = (kinds == 2)[:, None] & ((kinds == 3) | (order == order[:, None]))
        allowed = of_all | of_newest | seen_by_candidate
        for block in range(2):
            name = f"stack.blocks.{block}"
            normed = np.array(
                [layer_norm(w, f"{name}.norms.{kind}", row) for row, kind in zip(rows, kinds, strict=True)]
            )
            gate, value, query, key = np.split(
                normed @ w[f"{name}.enter.weight"].T + w[f"{name}.enter.bias"], 4, axis=1
            )
            scores = bent(heads_of(query, 2) @ heads_of(key, 2).transpose(0, 2, 1)) * allowed
            seen = (scores @ heads_of(value, 2)).transpose(1, 0, 2).reshape(rows.shape) / 12
            last = block == 1
            read = np.array(
                [
                    layer_norm(w, f"{name}.seen_norms.{0 if last else kind}", row)
                    for row, kind in zip(seen, kinds, strict=True)
                ]
            )
            rows = rows + (read * gate) @ w[f"{name}.leave.weight"].T + w[f"{name}.leave.bias"]
        return with_fields(case, rows[-1])

    assert gaps(model, toy_batch(full=full), restated)[0] <= 1e-9


def test_mtgr_as_in_its_paper_appends_nothing_and_has_no_bias() -> None:
    model, batch = toy_model("mtgr", "visible=paper", "bias=none"), toy_batch(full=True)
    with pytest.raises(ConfigError, match="not causal, so nothing can be appended"):
        model.extend_user(model.encode_user(batch.user), batch.user)
    with pytest.raises(ConfigError, match="visible=paper has no attention bias, and bias is blocks"):
        toy_model("mtgr", "visible=paper")


@pytest.mark.parametrize("name", ["hstu", "mtgr"])
def test_sums_are_divided_by_the_length_of_the_model(name: str) -> None:
    """Divided by the width of a batch, a score would change with its neighbors' histories."""
    model, batch = toy_model(name), toy_batch()
    one = pick_rows(batch, torch.tensor([1]))
    with torch.no_grad():
        together, alone = model(batch)[1], model(one)[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
