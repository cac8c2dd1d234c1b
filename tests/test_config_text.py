import json
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from clickscale.config import Config
from clickscale.config_text import build, load_json, load_toml, override, parse, to_json
from clickscale.data.described.log import LogConfig
from clickscale.data.layout import Manifest, TableReport
from clickscale.data.loader import LoaderConfig
from clickscale.data.source import Split
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.files import FileEntry
from clickscale.models import model_config, model_names, presets
from clickscale.schema import Schema
from clickscale.training.run.run_config import TrainConfig
from tests.data.tiny import STATISTICS, tiny_schema
from tests.models.toy import features


class Leaf(Config, frozen=True):
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1, 2)


class Tree(Config, frozen=True):
    steps: int = 1
    on: bool = False
    name: str = "n"
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = (Leaf(),)
    by_name: dict[str, Leaf] = {}
    chosen: Leaf | None = None


class Root(Config, frozen=True):
    tree: Tree = Tree()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("suan", "suan"),
        ("a b", "a b"),
        ("", ""),
        ("True", "True"),
    ],
)
def test_a_value_is_read_as_toml_and_anything_else_is_text(text: str, value: object) -> None:
    found = parse(text)
    assert found == value
    assert type(found) is type(value)


def test_overrides_reach_every_depth_and_leave_the_original() -> None:
    root = Root()
    changed = override(
        root,
        [
            "tree.steps=7",
            "tree.leaf.widths=[4, 5, 6]",
            " tree.leaf.kind = b ",
            "tree.leaf.rate=1",
            "tree.on=true",
        ],
    )
    assert changed == Root(tree=Tree(steps=7, on=True, leaf=Leaf(rate=1.0, kind="b", widths=(4, 5, 6))))
    assert type(changed.tree.leaf.rate) is float
    assert root == Root()


def test_a_later_override_wins_and_may_hold_equal_signs() -> None:
    assert override(Tree(), ["name=a", "name=b=c"]).name == "b=c"
    assert override(Tree(), []) == Tree()


def test_a_whole_branch_can_be_replaced() -> None:
    changed = override(Tree(), ["leaves=[{rate = 2.0}, {}]", "by_name={x = {kind = 'b'}}", "chosen={}"])
    assert changed.leaves == (Leaf(rate=2.0), Leaf())
    assert changed.by_name == {"x": Leaf(kind="b")}
    assert changed.chosen == Leaf()


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("tree.steps", r"Override 'tree.steps' has no '='; write key=value"),
        ("treee=1", r"Unknown option 'treee'; did you mean 'tree'\?"),
        ("tree.step=1", r"Unknown option 'tree.step'; did you mean 'tree.steps'\?"),
        ("tree.leaf.rat=1", r"Unknown option 'tree.leaf.rat'; did you mean 'tree.leaf.rate'\?"),
        ("tree.leef.rate=1", r"Unknown option 'tree.leef'; did you mean 'tree.leaf'\?"),
        ("tree.steps.more=1", r"Unknown option 'tree.steps.more'"),
        ("=1", r"Unknown option ''"),
        ("tree.steps=1.5", r"the overrides: tree.steps is 1.5, and must be a whole number\."),
        ("tree.steps=many", r"the overrides: tree.steps is 'many', and must be a whole number\."),
        ("tree.on=1", r"the overrides: tree.on is 1, and must be true or false\."),
        ("tree.name=3", r"the overrides: tree.name is 3, and must be text\."),
        ("tree.leaf.kind=c", r"the overrides: Unknown tree.leaf.kind 'c'.*Known: a, b\."),
        ("tree.leaf.widths=3", r"the overrides: tree.leaf.widths is 3, and must be a list\."),
        (
            "tree.leaf.widths=[1.5]",
            r"the overrides: tree.leaf.widths\[0\] is 1.5, and must be a whole number\.",
        ),
        ("tree.leaf=3", r"the overrides: tree.leaf is 3, and must be a table of keys\."),
        ("tree.leaf={rat = 1}", r"did you mean 'tree.leaf.rate'\?"),
    ],
)
def test_a_wrong_override_is_named(assignment: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        override(Root(), [assignment])


@pytest.mark.parametrize(
    ("tree", "hint"),
    [
        ({"stepz": 1}, "did you mean 'steps'?"),
        ({"leaf": {"rates": 1}}, "did you mean 'leaf.rate'?"),
        ({"leaves": [{}, {"kinds": "a"}]}, "did you mean 'leaves[1].kind'?"),
        ({"by_name": {"any": {"width": []}}}, "did you mean 'by_name.any.widths'?"),
        ({"chosen": {"rte": 1}}, "did you mean 'chosen.rate'?"),
    ],
)
def test_an_unknown_key_is_named_wherever_it_hides(tree: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Tree, tree, "here")
    assert str(caught.value).startswith("here: Unknown key")
    assert hint in str(caught.value)


def test_keys_of_a_mapping_are_data() -> None:
    with pytest.raises(
        ConfigError, match=r"here: by_name\[\.\.\.\].rate is something else, and must be a number\."
    ):
        build(Tree, {"by_name": {"what.ever": {"rate": "x"}}}, "here")
    tree = build(Tree, {"by_name": {"whatever": {"rate": 1}}}, "here")
    assert tree.by_name == {"whatever": Leaf(rate=1.0)}


@pytest.mark.parametrize("tree", [[], 3, "text", None])
def test_something_that_is_no_struct_is_refused(tree: object) -> None:
    with pytest.raises(ConfigError, match="here: "):
        build(Tree, tree, "here")


def test_a_toml_file_is_read_and_its_errors_name_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('steps = 3\n[leaf]\nkind = "b"\n', encoding="utf-8")
    assert load_toml(path, Tree) == Tree(steps=3, leaf=Leaf(kind="b"))
    for text, complaint in [
        ("steps = ", "is not valid TOML"),
        ("steps = 1\nsteps = 2", "is not valid TOML"),
        ("steps = 'x'", "steps is 'x', and must be a whole number."),
        ("stps = 1", "did you mean 'steps'"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=complaint) as caught:
            load_toml(path, Tree)
        assert str(path) in str(caught.value)
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_toml(path, Tree)
    with pytest.raises(ConfigError, match=r"Cannot read .*absent.toml: No such file"):
        load_toml(tmp_path / "absent.toml", Tree)
    with pytest.raises(ConfigError, match=r"Cannot read .*: Is a directory"):
        load_toml(tmp_path, Tree)


def test_json_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="the file is not valid JSON"):
        load_json("{", Tree, "the file")
    with pytest.raises(ConfigError, match="the file is not valid JSON"):
        load_json(b"\xff\xfe{}", Tree, "the file")
    with pytest.raises(ConfigError, match="the file: Unknown key 'stps'"):
        load_json('{"stps": 1}', Tree, "the file")


MANIFEST = Manifest(
    schema=tiny_schema(statistics=STATISTICS),
    features=features(),
    counts={"users": 3},
    split=Split(kind="day", valid=1, test=2),
    boundaries=(5, 6),
    report={"users": TableReport(rows=3, kept=2, quarantined={"id": 1})},
    files={"users/ids.npy": FileEntry(bytes=1, sha256="0")},
    samples={"users/ids.npy": "1"},
    notes=("A note with a letter é.",),
)
EVERY: list[msgspec.Struct] = [
    MANIFEST,
    MANIFEST.schema,
    MANIFEST.features,
    Split(),
    LoaderConfig(labels=("click",)),
    TrainConfig(model="suan", data="x"),
    *(preset for name in model_names() for preset in presets(name).values()),
    model_config("suan", overrides=("block.ffn=relu", "head.hidden=[3]")),
]


@pytest.mark.parametrize("config", EVERY, ids=lambda config: type(config).__module__.split(".")[-1])
def test_every_struct_comes_back_from_json(config: msgspec.Struct) -> None:
    text = to_json(config)
    assert load_json(text, type(config), "the text") == config
    assert load_json(text.encode(), type(config), "the text") == config
    again = to_json(load_json(text, type(config), "the text"))
    assert (
        to_json(load_json(again, type(config), "the text")) == again
    )  # 1 and 1.0 are equal, not the same text
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize("kind", [Schema, Features, Manifest, LogConfig, TrainConfig, LoaderConfig, Split])
def test_structs_are_frozen_and_strict(kind: type[Config]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.forbid_unknown_fields
    with pytest.raises(ConfigError, match="did you mean"):
        build(kind, {f"{msgspec.structs.fields(kind)[0].encode_name}s": 1}, "here")


def test_text_beyond_ascii_stays_readable() -> None:
    assert "é" in to_json(MANIFEST)
