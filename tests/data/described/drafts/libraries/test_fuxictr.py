"""A ``dataset_config.yaml`` is read as data, and what it lacks is named."""

import json
import re
import shutil

import pytest

from clickscale.data.described.drafts.libraries.fuxictr import fuxictr_log, is_fuxictr
from clickscale.data.described.drafts.libraries.library_draft import declared_log
from clickscale.errors import ConfigError, InputError

CONFIG = """
tiny:
    data_format: csv
    train_data: somewhere/else/tiny/train
    min_categr_count: 5
    feature_cols:
        - {name: [user, item], dtype: str, type: categorical}
        - {name: user_copy, dtype: str, type: categorical, preprocess: copy_from(user), min_categr_count: 2}
        - {name: group, type: meta, dtype: int}
        - {name: tags, type: sequence, splitter: "|", max_len: 3, source: item}
        - {name: old, type: numeric, active: False}
    label_col: [{name: click, dtype: float}, {name: like, dtype: float}]
"""


def read(folder, text, **options):
    (folder / "tiny").mkdir(exist_ok=True)
    (folder / "tiny/train.csv").write_text("user\n1\n")
    (folder / "dataset_config.yaml").write_text(text)
    return fuxictr_log(folder / "dataset_config.yaml", **options)


def test_columns_are_read_with_their_kinds(tmp_path):
    log = read(tmp_path, CONFIG)
    assert [(f.name, f.kind, f.column, f.min_count) for f in log.fields] == [
        ("user", "categorical", "user", 5),
        ("item", "categorical", "item", 5),
        ("user_copy", "categorical", "user", 2),
        ("group", "meta", "group", 5),
        ("tags", "sequence", "tags", 5),
    ]
    assert (log.fields[-1].separator, log.fields[-1].most, log.fields[-1].source) == ("|", 3, "item")
    assert log.labels == ("click", "like")
    assert log.files == {"train": tmp_path / "tiny/train.csv"}  # the nearest end of the path, with its ending
    assert list(log.left_out) == ["old"]


def test_of_several_data_sets_one_is_chosen(tmp_path):
    both = CONFIG + CONFIG.replace("tiny:", "other:", 1)
    with pytest.raises(ConfigError, match="declares 2 data sets: other, tiny; choose one by --dataset NAME"):
        read(tmp_path, both)
    assert read(tmp_path, both, dataset="other").name == "other"
    with pytest.raises(ConfigError, match="Unknown data set 'othr'; did you mean 'other'"):
        read(tmp_path, both, dataset="othr")


def test_the_only_data_set_whose_data_are_there_is_taken(tmp_path):
    gone = CONFIG.replace("tiny:", "gone:", 1).replace("tiny/train", "gone/rows")
    assert read(tmp_path, gone + CONFIG).name == "tiny"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "type: meta",
            "type: metta",
            r"feature_cols\[2\] \(group\): Unknown type 'metta'; did you mean 'meta'",
        ),
        ("type: meta, ", "", r"feature_cols\[2\] \(group\): Unknown type 'None'"),
        ("type: meta", "type: [meta]", r"feature_cols\[2\] \(group\): Unknown type"),
        ("label_col: [{name: click, dtype: float}", "label_col: [click", r"has 'click'; write a mapping"),
        (
            "label_col: [{name: click, dtype: float}, {name: like, dtype: float}]",
            "label_col: click",
            r"label_col has 'click'; write a mapping, such as \{name: click\}",
        ),
        ("data_format: csv", "data_format: h5", "data_format is 'h5', and csv and parquet can be read"),
        ("name: group", "name: yes", r"name is True; write a text, in quotes"),
        ("max_len: 3", "max_len: many", "max_len is 'many'; write a number"),
        ("train_data: somewhere/else/tiny/train", "", "names no train_data"),
        ("    label_col: [{name: click, dtype: float}, {name: like, dtype: float}]", "", "has no label_col"),
        ("feature_cols:", "feature_cols: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path, old, new, complaint):
    assert old in CONFIG
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path, CONFIG.replace(old, new))


def test_no_object_is_made_of_a_tag(tmp_path):
    tagged = CONFIG.replace("data_format: csv", "data_format: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="cannot be read as YAML: could not determine a constructor"):
        read(tmp_path, tagged)


@pytest.mark.parametrize(
    ("text", "complaint"), [("a: 1", "declares no data set"), ("a: [1", "cannot be read as YAML")]
)
def test_a_file_of_the_usual_name_is_never_passed_over(tmp_path, text, complaint):
    path = tmp_path / "dataset_config.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=complaint):
        declared_log([tmp_path])


def test_a_configuration_in_another_encoding_is_refused(tmp_path):
    read(tmp_path, CONFIG)
    (tmp_path / "dataset_config.yaml").write_bytes(CONFIG.encode() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        fuxictr_log(tmp_path / "dataset_config.yaml")


def encoded(folder, features, labels=("click",)):
    """Blocks of an encoded data set, with its map."""
    for part in ("train", "test"):
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "part_0.parquet").write_text("")
    text = json.dumps({"dataset_id": "tiny", "labels": labels, "features": features})
    (folder / "feature_map.json").write_text(text)
    (folder / "feature_processor.pkl").write_text("never read")
    return folder / "feature_map.json"


def test_the_map_of_encoded_blocks_names_the_same_things(tmp_path):
    features = [
        {"user": {"source": "user", "type": "categorical", "padding_idx": 0, "vocab_size": 9}},
        {"past": {"source": "", "type": "sequence", "share_embedding": "item", "max_len": 5}},
    ]
    path = encoded(tmp_path, features)
    assert is_fuxictr(path)
    log = fuxictr_log(path)
    assert [(f.name, f.kind, f.shares, f.most) for f in log.fields] == [
        ("user", "categorical", "", 0),
        ("past", "sequence", "item", 5),
    ]
    assert (log.name, log.labels) == ("tiny", ("click",))
    assert log.files == {part: tmp_path / part for part in ("train", "test")}


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        (None, "names no features and labels"),
        ([["user"]], "a feature must be a mapping"),
        ([{"user": {"type": "image"}}], "Unknown type 'image'"),
    ],
)
def test_a_wrong_map_is_refused_by_name(tmp_path, features, complaint):
    with pytest.raises(ConfigError, match=complaint):
        fuxictr_log(encoded(tmp_path, features))


def test_a_map_without_its_blocks_names_them(tmp_path):
    path = encoded(tmp_path, [])
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="train names 'train', of which nothing is in"):
        fuxictr_log(path)


@pytest.mark.parametrize("name", ["a/b", "x" * 300, "a**"])  # too long to look for, not a pattern
def test_data_that_are_nowhere_are_named(tmp_path, name):
    with pytest.raises(InputError, match=f"train_data names '{re.escape(name)}', of which nothing is in"):
        read(tmp_path, CONFIG.replace("somewhere/else/tiny/train", name))
