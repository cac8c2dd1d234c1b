import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clickscale.analysis.est_blocks import (
    _blocks_of,
    _cut_pairs,
    _effective_rank,
    _Places,
    attention_of,
    block_effects,
    block_name,
    full_attention_model,
)
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.metrics import auc, gauc
from clickscale.models import build_model
from clickscale.models.est_full import ESTFull
from tests.data.tiny import tiny_dataset, tiny_source
from tests.models.toy import toy_model

LENGTH = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source()))


def model_of(dataset: Dataset, *options: str, labels: tuple[str, ...] = ("click",)) -> ESTFull:
    """Full attention and weights that are all far from 0."""
    torch.manual_seed(0)
    overrides = ("recent=5", "kept=3", "heads=2", "head.hidden=[8]", *options)
    model = build_model(
        "est_full",
        dataset.features,
        dataset.item_columns(),
        grade="size-2",
        length=LENGTH,
        labels=labels,
        overrides=overrides,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.inputs.table.weight[0] = 0
    assert isinstance(model, ESTFull)
    return model.eval()


def test_blocks_are_those_of_the_paper_and_with_both_kinds_of_behaviors_apart(dataset: Dataset) -> None:
    four = [("N", "N"), ("N", "B"), ("B", "N"), ("B", "B")]
    assert list(_blocks_of(model_of(dataset, "kept=0"))) == four
    names = [block_name(block) for block in _blocks_of(model_of(dataset))]
    assert names[:4] == ["<N, N>", "<N, B>", "<B, N>", "<B, B>"]
    assert names[4:] == [
        "<N, B_u>",
        "<N, B_c>",
        "<B_u, N>",
        "<B_u, B_u>",
        "<B_u, B_c>",
        "<B_c, N>",
        "<B_c, B_u>",
        "<B_c, B_c>",
    ]


def test_a_cut_leaves_everyone_itself_and_all_that_is_outside_the_block() -> None:
    pairs = torch.tensor([True, True, False, True])[None, None, None]  # a token, two recent, one retrieved
    places = _Places(tokens=1, recent=2, kept=1)
    assert _cut_pairs(pairs, places, ("B", "B_u"))[0, 0].int().tolist() == [
        [1, 1, 0, 1],
        [1, 1, 0, 1],
        [1, 0, 1, 1],
        [1, 0, 0, 1],
    ]
    assert _cut_pairs(pairs, places, ("N", "B_c"))[0, 0, 0].tolist() == [True, True, False, False]
    assert _cut_pairs(pairs, places, ("N", "N"))[0, 0, 0].tolist() == [True, True, False, True]


def rank_of(matrix: list[list[float]]) -> float:
    weights = torch.tensor(matrix)[None, None]
    return float(
        _effective_rank(weights, *(torch.ones(1, n, dtype=torch.bool) for n in weights.shape[2:])).item()
    )


def test_effective_rank_by_hand() -> None:
    assert rank_of([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx(1.0)
    assert rank_of([[0.5, 0.5], [0.5, 0.5]]) == pytest.approx(0.5)  # rank 1 of 2
    assert rank_of([[3.0, 0.0], [0.0, 4.0]]) == pytest.approx(25 / 16 / 2)
    assert rank_of([[1.0, 1.0, 1.0, 1.0]]) == pytest.approx(0.25)
    assert rank_of([[2.0], [0.0], [1.0]]) == pytest.approx(1 / 3)
    assert math.isnan(rank_of([[0.0, 0.0]]))


def test_effective_rank_is_the_formula_on_the_rows_and_columns_that_count() -> None:
    random = np.random.default_rng(0)
    weights = random.random((3, 2, 5, 4))
    queries, keys = np.array([[1, 1, 0, 1, 1], [1] * 5, [0] * 5]), np.array([[0, 1, 1, 1], [1] * 4, [1] * 4])
    found = _effective_rank(*(torch.from_numpy(x) for x in (weights, queries > 0, keys > 0)))
    for row in range(2):
        for head in range(2):
            h = weights[row, head][queries[row] > 0][:, keys[row] > 0]
            expected = (h**2).sum() / np.linalg.norm(h, 2) ** 2 / max(h.shape)
            assert float(found[row, head]) == pytest.approx(expected)
    assert bool(found[2].isnan().all())


def test_weights_are_what_full_attention_pays() -> None:
    model = toy_model("est_full", "heads=4")
    assert isinstance(model, ESTFull)
    block = model.full.typed_blocks()[0]
    width, tokens = model.config.width, len(model.inputs.names)
    tokens_in, rows = torch.randn(tokens, 3, width), torch.randn(3, 6, width)
    pairs = torch.rand(3, 1, tokens + 6, tokens + 6) < 0.6
    pairs |= torch.eye(tokens + 6, dtype=torch.bool)
    with torch.no_grad():
        weights = block.weights(tokens_in, block.project(rows), pairs)
        value = block.key_value(block.token_norm(tokens_in)).transpose(0, 1).chunk(2, dim=-1)[1]
        value = torch.cat([value, block.project(rows).chunk(3, dim=-1)[2]], dim=1)
        heads = value.unflatten(-1, (4, -1)).transpose(1, 2)
        paid = (weights @ heads).transpose(1, 2).flatten(2)
        out, _ = block(tokens_in, rows, block.project(rows), pairs)
        expected = tokens_in + block.token_out(paid[:, :tokens].transpose(0, 1))
        expected = expected + block.token_ffn(block.token_ffn_norm(expected))
    assert weights.shape == (3, 4, tokens + 6, tokens + 6)
    assert float((out - expected).abs().max()) <= 1e-5
    assert float((weights * ~pairs).abs().max()) == 0


@pytest.mark.parametrize("place", range(4))
def test_cutting_is_what_a_model_does_that_was_built_without_the_block(dataset: Dataset, place: int) -> None:
    model = model_of(dataset, labels=("click", "like"))
    without = model_of(
        dataset, f'mask_blocks=["{("NN", "NB", "BN", "BB")[place]}"]', labels=("click", "like")
    )
    without.load_state_dict(model.state_dict())
    effects = block_effects(
        model, dataset, "train", length=LENGTH, labels=("click", "like"), bootstrap=39, seed=1
    )
    assert [effect.comparison.label for effect in effects] == ["click", "like"] * 12
    whole, cut = (
        predict(each, dataset, "train", length=LENGTH, labels=("click", "like")) for each in (model, without)
    )
    for column in range(2):
        effect = effects[2 * place + column].to_dict()
        known = cut.label_mask[:, column]
        facts = cut.labels[known, column], cut.logits[known, column]
        assert effect["auc"]["cut"] == pytest.approx(auc(*facts), abs=1e-6)
        assert effect["gauc"]["cut"] == pytest.approx(gauc(*facts, cut.user[known]), abs=1e-6)
        assert effect["auc"]["whole"] == pytest.approx(auc(facts[0], whole.logits[known, column]), abs=1e-6)
        assert effect["auc"]["change"] == pytest.approx(effect["auc"]["cut"] - effect["auc"]["whole"])
        assert effect["auc"]["low"] <= effect["auc"]["high"]


def test_every_block_changes_the_scores_and_the_model_is_left_as_it_was(dataset: Dataset) -> None:
    model = model_of(dataset)
    before = predict(model, dataset, "test", length=LENGTH).logits
    effects = block_effects(model, dataset, "test", length=LENGTH, bootstrap=0)
    losses = {effect.to_dict()["log_loss"]["cut"] for effect in effects}
    assert len(losses) == len(effects) == 12
    assert np.array_equal(predict(model, dataset, "test", length=LENGTH).logits, before)


def test_some_users_are_measured_with_all_their_impressions(dataset: Dataset) -> None:
    told: list[tuple[str, int, int | None]] = []
    effects = block_effects(
        model_of(dataset, "kept=0"),
        dataset,
        "train",
        length=LENGTH,
        users=3,
        bootstrap=0,
        progress=lambda *given: told.append(given),
    )
    user = dataset.impressions["user"][dataset.part("train")]
    expected = {int(np.isin(user, some).sum()) for some in _triples(np.unique(user))}
    assert effects[0].comparison.users == 3
    assert effects[0].comparison.rows in expected
    assert told[-1][1:] == (effects[0].comparison.rows, effects[0].comparison.rows)


def _triples(users: np.ndarray) -> list[list[int]]:
    found = [int(user) for user in users]
    return [[a, b, c] for a in found for b in found for c in found if a < b < c]


def by_hand(model: ESTFull, dataset: Dataset) -> list[Tensor]:
    """Per layer, weights (H, T, T) of every impression of the test part, from a batch of one."""
    found: list[Tensor] = []
    blocks = model.full.typed_blocks()
    hooks = [
        block.register_forward_pre_hook(lambda m, given: found.append(m.weights(given[0], *given[2:])[0]))
        for block in blocks
    ]
    config = LoaderConfig(grouping="impression", length=LENGTH, batch_size=1, shuffle=False)
    with torch.no_grad():
        for batch in Loader(dataset, "test", config).batches():
            model(batch)
    for hook in hooks:
        hook.remove()
    return found


def test_means_are_those_of_one_impression_at_a_time(dataset: Dataset) -> None:
    model = model_of(dataset)
    tokens, layers = len(model.inputs.names), len(model.full.typed_blocks())
    seen = np.asarray(dataset.impressions["visible"][dataset.part("test")])
    found = attention_of(model, dataset, "test", length=LENGTH, samples=10**6)
    weights = by_hand(model, dataset)
    assert found.places == _Places(tokens, 5, 3)
    assert found.names == model.inputs.names
    first = torch.stack([w.mean(dim=0)[:tokens, :tokens] for w in weights[::layers]]).mean(dim=0)
    assert np.abs(found.maps[0][:tokens, :tokens] - first.numpy()).max() <= 1e-6
    some = [w for w, count in zip(weights[1::layers], seen, strict=True) if count]
    shares = [float(w[:, :tokens, tokens:].sum(dim=(1, 2)).mean()) / tokens for w in some]
    ranks, least = [], []
    for w, count in zip(weights[1::layers], seen, strict=True):
        if count:
            recent = min(int(count), 5)  # left of them is padding, right of them what was retrieved
            end = w.shape[1] - min(3, min(int(seen.max()), LENGTH), w.shape[1])
            h = w[:, end - recent : end, :tokens].double().numpy()
            ranks.append(np.mean([(x**2).sum() / np.linalg.norm(x, 2) ** 2 / max(x.shape) for x in h]))
            least.append(1 / max(recent, tokens))
    blocks = {(b.layer, block_name(b.block)): b for b in found.blocks}
    assert blocks[1, "<N, B>"].share == pytest.approx(np.mean(shares), abs=1e-6)
    assert blocks[1, "<N, B>"].samples == len(some)
    assert blocks[1, "<N, N>"].samples == len(seen)
    assert blocks[1, "<N, N>"].share + blocks[1, "<N, B>"].share * len(some) / len(seen) == pytest.approx(1)
    assert blocks[1, "<B_u, N>"].rank == pytest.approx(np.mean(ranks), abs=1e-5)
    assert blocks[1, "<B_u, N>"].least == pytest.approx(np.mean(least), abs=1e-6)
    assert all(each.least <= each.rank <= 1 for each in found.blocks)


def test_each_row_of_a_map_adds_up_to_one_and_samples_are_drawn_by_seed(dataset: Dataset) -> None:
    model = model_of(dataset)
    found, again, other = (
        attention_of(model, dataset, "train", length=LENGTH, samples=20, seed=seed) for seed in (0, 0, 1)
    )
    assert np.abs(found.maps.sum(axis=2) - 1).max() <= 1e-6
    assert found.blocks[0].samples == 20
    assert np.array_equal(found.maps, again.maps)
    assert not np.array_equal(found.maps, other.maps)


def test_a_block_that_was_cut_in_training_has_no_attention(dataset: Dataset) -> None:
    found = attention_of(model_of(dataset, 'mask_blocks=["NB"]'), dataset, "train", length=LENGTH, samples=20)
    (block,) = [each for each in found.blocks if each.block == ("N", "B") and each.layer == 0]
    assert block.share == 0
    assert math.isnan(block.rank)


def test_only_full_attention_can_be_taken_apart(dataset: Dataset) -> None:
    model = model_of(dataset)
    assert full_attention_model(model, "run") is model
    with pytest.raises(ConfigError, match=r"runs/a holds EST; .*train est_full"):
        full_attention_model(toy_model("est"), "runs/a")
    with pytest.raises(ConfigError, match=r"runs/b holds DIN; only est_full"):
        full_attention_model(toy_model("din"), "runs/b")


def test_wrong_numbers_and_parts_are_refused(dataset: Dataset) -> None:
    model = model_of(dataset)
    with pytest.raises(ConfigError, match="samples is 0"):
        attention_of(model, dataset, "test", length=LENGTH, samples=0)
    for measure in (attention_of, block_effects):
        with pytest.raises(DataError, match="Unknown part"):
            measure(model, dataset, "tests", length=LENGTH)


def test_a_part_without_impressions_is_refused(tmp_path: Path) -> None:
    source = tiny_source()
    empty = open_dataset(
        tiny_dataset(tmp_path, dataclasses.replace(source, split=Split(kind="time", valid=0.0, test=0.1)))
    )
    for measure in (attention_of, block_effects):
        with pytest.raises(DataError, match=r"'valid' of .* has no impressions"):
            measure(model_of(empty), empty, "valid", length=LENGTH)
