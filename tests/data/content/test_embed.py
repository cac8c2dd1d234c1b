"""Vectors of texts by a sentence-embedding model: a tiny one with random weights, in the real library."""

import importlib.util
import json

import numpy as np
import pytest

from clickscale.data.content.embed import _PACKAGED, _check_model, _load_model, _packaged_model, embed_items
from clickscale.data.content.item_texts import TextTable, item_texts
from clickscale.data.dataset import open_dataset
from clickscale.errors import ConfigError, InputError, SchemaError
from tests.data.tiny import tiny_dataset

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "drama", "comedy", "war", "genre", "heat", "up", ",", ".", ":"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("log")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a BERT of width 8 with mean pooling, in the layout that published models have."""
    pytest.importorskip("sentence_transformers", reason="needs the extra 'content'")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 8,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {
        "": "sentence_transformers.models.Transformer",
        "1_Pooling": "sentence_transformers.models.Pooling",
    }
    modules = [{"idx": i, "name": str(i), "path": k, "type": v} for i, (k, v) in enumerate(kinds.items())]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_each_item_gets_the_unit_vector_of_its_own_text_whatever_the_batch(dataset, model, tmp_path):
    summary = embed_items(dataset, ["genre"], "mood", tmp_path / "a", model=model, batch=3)
    new = open_dataset(tmp_path / "a")
    new.verify()
    column = new.items["field.mood"].astype(np.float32)
    texts = item_texts(dataset, ["genre"])
    encoder = _load_model(model)
    assert len({tuple(column[row]) for row in range(2, len(texts))}) == len(set(texts[2:]))
    for row, text in enumerate(texts):
        if not text:
            assert not column[row].any()
            continue
        alone = np.asarray(encoder.encode([text], batch_size=1, show_progress_bar=False))[0]
        assert np.abs(column[row] - alone / np.linalg.norm(alone)).max() < 2e-3
    assert (summary.width, summary.missing) == (8, sum(not text for text in texts[2:]))
    assert summary.table.rows == sum(bool(text) for text in texts)
    facts = json.loads((tmp_path / "a" / "content" / "mood.json").read_text())
    assert facts["fields"] == ["genre"]
    assert list(facts["weights_sha256"]) == ["model.safetensors"]


def test_the_same_texts_give_the_same_bytes(dataset, model, tmp_path):
    (tmp_path / "t.csv").write_text("item,title\n10,Heat\n20,Up\n")
    table = TextTable(tmp_path / "t.csv", "item")
    for name in "ab":
        embed_items(dataset, ["title", "genre"], "t", tmp_path / name, model=model, table=table)
    first, second = ((tmp_path / name / "items" / "field.t.npy").read_bytes() for name in "ab")
    assert first == second


def test_items_without_any_text_and_names_that_are_taken_are_errors(dataset, model, tmp_path):
    (tmp_path / "t.csv").write_text("item,title\n10,\n")
    table = TextTable(tmp_path / "t.csv", "item")
    with pytest.raises(InputError, match="No item has a text in title"):
        embed_items(dataset, ["title"], "t", tmp_path / "a", model=model, table=table)
    with pytest.raises(SchemaError, match="already has a field 'text'"):
        embed_items(dataset, ["genre"], "text", tmp_path / "a", model=model)
    assert not (tmp_path / "a").exists()


def listing(folder, *kinds, path=""):
    folder.mkdir(exist_ok=True)
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_a_folder_that_could_run_code_is_refused(tmp_path):
    good = "sentence_transformers.models.Transformer"
    _check_model(listing(tmp_path, good))
    for kind in ("evil.Model", "sentence_transformers.models.Evil", "Transformer"):
        with pytest.raises(InputError, match="asks for"):
            _check_model(listing(tmp_path, good, kind))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="as a pickle"):
        _check_model(listing(tmp_path, good))
    (tmp_path / "model.safetensors").write_bytes(b"")
    _check_model(tmp_path)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"modules\.json"):
        _check_model(tmp_path)
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(InputError, match=r"modules\.json"):
        _check_model(tmp_path)


def test_a_model_without_weights_cannot_be_loaded(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs the extra 'content'")
    with pytest.raises(InputError, match="Cannot load"):
        _load_model(listing(tmp_path, "sentence_transformers.models.Transformer"))


def test_the_packaged_model_knows_that_films_of_a_kind_are_alike():
    if importlib.util.find_spec(_PACKAGED) is None:
        with pytest.raises(ConfigError, match="--model"):
            _packaged_model()
        return
    texts = [
        "a war film about soldiers",
        "a movie about a battle in the second world war",
        "a romantic comedy",
    ]
    vectors = np.asarray(_load_model(_packaged_model()).encode(texts, batch_size=3, show_progress_bar=False))
    assert vectors.shape == (3, 384)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2
