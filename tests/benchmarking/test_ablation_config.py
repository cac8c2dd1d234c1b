from pathlib import Path

import pytest
from msgspec.structs import replace

from clickscale.benchmarking.ablation_config import AblationCell, AblationConfig, claim_ablation
from clickscale.errors import ConfigError, RunError
from tests.data.tiny import tiny_dataset

CONFIG = AblationConfig(paper="suan", data="log", grades=("size-2", "size-1"), seeds=2, label="click")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"tables": ("4",)}, "Unknown table of suan '4'"),
        ({"grades": ()}, "name at least one"),
        ({"grades": ("size-1", "size-1")}, "each once"),
        ({"seeds": 0}, "seeds is 0"),
        ({"ids": "log"}, "no line about content"),
    ],
)
def test_an_ablation_that_cannot_be_is_refused(options: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        AblationConfig(**({"data": "", "paper": "suan"} | options))  # type: ignore[arg-type]


def test_only_the_normalization_is_trained_at_every_grade() -> None:
    sections = [(section.table.number, section.grade) for section in CONFIG.sections()]
    assert sections == [("3", "size-2"), ("5", "size-2"), ("5", "size-1")]
    names = ["full-size-2", *(f"{key}-size-2" for key in "ABCDEFG"), "full-size-1", "F-size-1", "G-size-1"]
    assert list(CONFIG.lines()) == names  # the full model of size-2, which two tables show, comes once
    assert list(replace(CONFIG, tables=("5",)).lines()) == [
        f"{key}-{grade}" for grade in CONFIG.grades for key in ("full", "F", "G")
    ]


def test_a_cell_is_a_command(tmp_path: Path) -> None:
    line = CONFIG.lines()["D-size-2"]
    words = AblationCell(line, 1).training(CONFIG, tmp_path)
    assert words[:2] == ["train", "suan_literal"]
    expected = {"--seed": "1", "--labels": "click", "--grade": "size-2", "--data": "log", "--length": "100"}
    for flag, value in expected.items():
        assert words[words.index(flag) + 1] == value
    assert words[words.index("--out") + 1] == str(tmp_path / "runs/D-size-2/seed-1")
    assert words[-4:] == ["--set", "model.target=head", "--set", "model.pooling=prefix"]


def test_what_makes_a_variant_wins_over_options_of_all_runs() -> None:
    config = replace(CONFIG, sets=("model.bias=heads", "suan.model.d=4", "suan_literal.model.d=16"))
    lines = config.lines()
    options = [config.run(lines[f"{key}-size-2"].variant, "size-2").model_options for key in "ADE"]
    assert options[0] == ("bias=heads", "d=4", "block.ffn=none")
    assert options[1] == ("bias=heads", "d=16", "target=head", "pooling=prefix")
    assert options[2][-1] == "bias=none"


def test_the_line_of_semantic_ids_has_a_data_set_of_its_own() -> None:
    config = AblationConfig(paper="est", data="log", ids="log-ids")
    found = {name for name, line in config.lines().items() if config.data_of(line.variant) == "log-ids"}
    assert found == {"ids-size-2"}
    assert set(config.lines()) - set(replace(config, ids="").lines()) == found


def test_a_folder_continues_its_ablation_and_refuses_another(tmp_path: Path) -> None:
    out = tmp_path / "ablation"
    config = replace(CONFIG, data=str(tiny_dataset(tmp_path / "data")))
    claim_ablation(out, replace(config, tables=("3",)))
    claim_ablation(out, replace(config, seeds=3, grades=("size-2", "size-3")))
    with pytest.raises(RunError, match="another ablation: length is 100, not 50"):
        claim_ablation(out, replace(config, length=50))
    with pytest.raises(RunError, match="grade of all tables is 'size-2', not 'size-1'"):
        claim_ablation(out, replace(config, grades=("size-1", "size-2")))
    with pytest.raises(RunError, match="another ablation: paper is 'suan', not 'est'"):
        claim_ablation(out, replace(config, paper="est"))
