"""How a gain is judged, and the file that training takes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from clickscale.config_text import override
from clickscale.training.run.run_config import TrainConfig, train_config
from clickscale.tuning.outcome import describe, judge, write_toml
from clickscale.tuning.space import Candidate


def test_the_recipe_stays_if_nothing_is_better() -> None:
    verdict = judge(0, {(0, 0): 0.6, (1, 0): 0.7}, (0, 1))
    assert (verdict.chosen, verdict.gain) == (0, 0.0)
    assert "recipe stays" in verdict.notes[0]


def test_a_gain_of_one_seed_is_taken_and_said_to_be_one() -> None:
    verdict = judge(2, {(0, 0): 0.6, (2, 0): 0.59}, (0, 1))
    assert verdict.chosen == 2
    assert verdict.gain == pytest.approx(0.01)
    assert "no room for another seed" in verdict.notes[0]


@pytest.mark.parametrize(
    ("second", "chosen", "words"),
    [
        ((0.601, 0.591), 2, "beyond the noise"),
        ((0.63, 0.61), 2, "within the noise"),
        ((0.601, 0.602), 0, "does not last"),
    ],
)
def test_a_second_seed_decides(second: tuple[float, float], chosen: int, words: str) -> None:
    recipe, best = second
    verdict = judge(2, {(0, 0): 0.6, (2, 0): 0.59, (0, 1): recipe, (2, 1): best}, (0, 1))
    assert verdict.chosen == chosen
    assert verdict.gain == pytest.approx((0.01 + recipe - best) / 2)
    assert words in verdict.notes[0]


def test_options_come_back_as_they_were_written(tmp_path: Path) -> None:
    changes = (
        "optimizer.learning_rate=1.5e-05",
        "optimizer.table_l2=0.0",
        "optimizer.schedule.decay=constant",
        "epochs.count=2",
        "labels=['click', 'like']",
        "batch_size=128",
        "seed=7",
        "early_stopping=true",
    )
    options = ("d=16", "head.hidden=[8, 4]", "head.norm=batch", "head.dropout=0.1")
    config = override(TrainConfig(model="din", data="somewhere", model_options=options), changes)
    kept = replace(config, keep=1, threads=2)
    write_toml(tmp_path / "tuned.toml", Candidate(kept, {}, 4), ["A note.", "Another one."])
    assert train_config("din", Path("somewhere"), file=tmp_path / "tuned.toml") == config
    first, *others = (tmp_path / "tuned.toml").read_text().splitlines()
    assert "clickscale train din" in first
    assert others[:2] == ["# A note.", "# Another one."]
    # A flag and --set win over the file.
    again = train_config("din", Path("x"), file=tmp_path / "tuned.toml", sets=["model.d=8", "seed=1"])
    assert (again.data, again.seed, again.model_options[-1]) == ("x", 1, "d=8")


def test_an_option_that_was_drawn_wins_over_one_that_was_given(tmp_path: Path) -> None:
    config = TrainConfig(model="din", data="x", model_options=("head.dropout=0.0", "head.dropout=0.2"))
    write_toml(tmp_path / "tuned.toml", Candidate(config, {}, 4), [])
    assert train_config("din", Path("x"), file=tmp_path / "tuned.toml").model_options == ("head.dropout=0.2",)


def test_changes_are_described_as_set_takes_them() -> None:
    assert describe({"batch_size": 128, "optimizer.learning_rate": 0.00123}) == (
        "batch_size=128 optimizer.learning_rate=0.00123"
    )
