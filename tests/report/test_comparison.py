from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clickscale.errors import DataError
from clickscale.evaluation.label_report import evaluate_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.report.comparison import (
    DIFFERENCES,
    HEADERS,
    Entrant,
    Line,
    _cells,
    compare,
    differences,
    footnotes,
    missing_for_gap,
    table,
)
from clickscale.report.results import gap_text, results_of

ROWS = 600


def predictions(skill: float, seed: int, rows: int = ROWS) -> Predictions:
    """Logits that lean on the label by ``skill``; the labels are the same whatever the seed."""
    truth, noise = np.random.default_rng(7), np.random.default_rng(seed)
    labels = (truth.random((rows, 1)) < 0.4).astype(np.float32)
    numbers = np.arange(rows)
    return Predictions(
        row=numbers,
        user=numbers // 12,
        time=numbers + 1_600_000_000,
        labels=labels,
        label_mask=np.ones((rows, 1), bool),
        logits=(skill * labels + noise.normal(size=(rows, 1))).astype(np.float32),
        behaviors=np.zeros(rows, np.int32),
        item_age=np.zeros(rows, np.int64),
        user_activity=np.ones(rows, np.int32),
        label_names=("click",),
        part="test",
        grouping="request",
    )


def entrant(model: str, skill: float, seed: int, positive: bool = True, **options: Any) -> Entrant:
    made = predictions(skill, seed)
    if not positive:
        made = replace(made, labels=np.zeros_like(made.labels))
    constant, popularity = np.full((ROWS, 1), -0.4, np.float32), predictions(0.2, 99).logits
    simple = {"constant": constant, "popularity": popularity}
    report = evaluate_predictions(made, bootstrap=20, simple=simple).to_dict()
    chosen = {"model": model, "seed": seed, "data": "prepared", "length": 100} | options
    return Entrant(f"{model}-{seed}", chosen, results_of(model, report), made)


def names(lines: Sequence[Line]) -> list[str]:
    """Names of the models, without the two lines that cost nothing."""
    assert [line.name for line in lines[-2:]] == ["the constant rate", "item popularity"]
    return [line.name for line in lines[:-2]]


def test_seeds_of_one_model_are_pooled_and_tested_over_seeds() -> None:
    runs = [entrant("din", 0.5, seed) for seed in (0, 1, 2)] + [
        entrant("suan", 2.0, seed) for seed in (0, 1, 2)
    ]
    din, suan, *_ = compare(runs, bootstrap=50)
    assert (din.name, din.seeds, suan.name, suan.seeds) == ("din", (0, 1, 2), "suan", (0, 1, 2))
    values = [run.results[0].auc.value for run in runs]
    assert din.values["auc"].value == pytest.approx(np.mean(values[:3]))
    assert suan.spread["auc"] == pytest.approx(np.std(values[3:], ddof=1))
    assert suan.rela_impr == pytest.approx(
        ((np.mean(values[3:]) - 0.5) / (np.mean(values[:3]) - 0.5) - 1) * 100
    )
    assert suan.seeds_test["auc"].delta == pytest.approx(np.mean(values[3:]) - np.mean(values[:3]))
    assert suan.against["auc"].delta == pytest.approx(values[3] - values[0])
    assert suan.against["auc"].p_value < 0.05
    assert (din.against, din.seeds_test) == ({}, {})


def test_no_lift_is_told_over_a_model_that_is_no_better_than_chance() -> None:
    _, suan, *_ = compare([entrant("din", -1.0, 0), entrant("suan", 2.0, 0)], bootstrap=20)
    assert np.isnan(suan.rela_impr)
    assert _cells(suan)[5] == "-"


def test_one_model_on_two_data_sets_is_two_models() -> None:
    runs = [entrant("din", 0.5, 0, data=name) for name in ("plain", "statistics")]
    assert names(compare(runs, bootstrap=20)) == ["din data=plain", "din data=statistics"]


def test_one_seed_gives_no_test_over_seeds() -> None:
    _, suan, *_ = compare([entrant("din", 0.5, 0), entrant("suan", 2.0, 1)], bootstrap=20)
    assert suan.seeds_test == {}
    assert _cells(suan)[-1] == "-"


def test_runs_of_one_model_are_named_by_what_differs() -> None:
    runs = [
        entrant("suan", 1.0, 0, length=50, optimizer={"learning_rate": 0.1}),
        entrant("suan", 1.0, 0, length=100, optimizer={"learning_rate": 0.1}),
        entrant("din", 1.0, 0, length=50, optimizer={"learning_rate": 0.3}),
    ]
    assert names(compare(runs, bootstrap=5)) == ["suan length=50", "suan length=100", "din"]


def test_what_the_recipe_decided_names_no_run() -> None:
    left = entrant("din", 0.5, 0, batch_size=1024, grouping="timeline", optimizer={"learning_rate": 0.003})
    other = entrant("din", 0.5, 1, batch_size=64, grouping="request", optimizer={"learning_rate": 0.001})
    decided = frozenset({"batch_size", "grouping", "optimizer.learning_rate"})
    by_hand = replace(other, decided=decided - {"batch_size"})
    left, other = replace(left, decided=decided), replace(other, decided=decided)
    assert compare([left, other], bootstrap=5)[0].seeds == (0, 1)
    assert names(compare([left, other], bootstrap=5)) == ["din"]
    assert names(compare([left, by_hand], bootstrap=5)) == ["din", "din batch_size=64"]


def test_the_same_run_twice_is_refused() -> None:
    with pytest.raises(DataError, match="din-0 and din-0 are the same model with the same seed"):
        compare([entrant("din", 1.0, 0), entrant("din", 1.0, 0)])


def test_runs_on_other_impressions_are_refused() -> None:
    other = entrant("suan", 1.0, 0)
    other = Entrant(other.run, other.options, other.results, predictions(1.0, 0, rows=ROWS - 1))
    with pytest.raises(DataError, match="different rows"):
        compare([entrant("din", 1.0, 0), other])


def test_a_line_as_texts_fits_its_headers() -> None:
    din, suan, *_ = compare([entrant("din", 0.5, 0), entrant("suan", 2.0, 0)], bootstrap=100)
    assert len(_cells(din)) == len(_cells(suan)) == len(HEADERS)
    assert _cells(din)[5:] == ("-", "-", "-", "-")
    texts = differences(suan)
    assert len(texts) == len(DIFFERENCES)
    assert texts[0] == "suan"
    assert texts[2].startswith("+0.")
    assert texts[4].startswith("-0."), "a better model loses less"


def test_the_simple_predictions_are_tested_against_the_first_model() -> None:
    din, constant, popularity = compare([entrant("din", 2.0, 0)], bootstrap=20)
    assert (constant.seeds, popularity.seeds) == ((), ())
    assert constant.values["auc"].value == 0.5
    assert constant.against["auc"].delta == pytest.approx(0.5 - din.values["auc"].value)
    assert constant.against["auc"].low < constant.against["auc"].delta < constant.against["auc"].high < 0
    assert constant.against["log_loss"].delta > 0
    texts = _cells(constant)
    assert texts[:3] == ("the constant rate", "-", "0.5000")
    assert texts[5] == "-100.00"
    assert texts[7] == "<= 0.048 (20 resamples)"


def test_a_measure_that_is_not_defined_is_a_dash_with_a_footnote_whatever_the_seeds() -> None:
    runs = [entrant(model, 1.0, seed, positive=False) for model in ("din", "suan") for seed in (0, 1)]
    runs = [replace(r, predictions=replace(r.predictions, labels=0 * r.predictions.labels)) for r in runs]
    lines = compare(runs, bootstrap=20)
    for line in lines:
        assert _cells(line)[2:4] == ("-", "-")
        assert not any("nan" in str(text) for text in _cells(line))
    assert "there are no positives" in footnotes(lines)
    assert set(lines[1].seeds_test) == {"log_loss"}
    assert differences(lines[1])[2:4] == ("-", "-")


def test_one_seed_has_a_footnote_and_two_have_none() -> None:
    one = compare([entrant("din", 1.0, 0), entrant("suan", 2.0, 0)], bootstrap=20)
    assert footnotes(one) == [
        "spread and p (seeds): one seed of a model says nothing about other seeds; train a second"
    ]
    two = [entrant(model, skill, seed) for model, skill in (("din", 1.0), ("suan", 2.0)) for seed in (0, 1)]
    assert footnotes(compare(two, bootstrap=20)) == []
    apart = [entrant("din", 1.0, 0), entrant("din", 1.0, 1), entrant("suan", 1.0, 2), entrant("suan", 1.0, 3)]
    assert footnotes(compare(apart, bootstrap=20)) == [
        "p (seeds): a model and the first one share fewer than two seeds"
    ]


def test_runs_without_a_common_label_are_refused() -> None:
    other = entrant("suan", 1.0, 0)
    liked = [replace(result, label="like") for result in other.results]
    with pytest.raises(
        DataError, match=r"No label is predicted by all runs .*din-0 predicts click; suan-0 predicts"
    ):
        compare([entrant("din", 1.0, 0), replace(other, results=liked)])


# --- the gap to the teacher that a taught student closes


def lesson(seed: int, alone: float = 0.5, taught: float = 1.0, teacher: float = 2.0) -> list[Entrant]:
    """A student alone, its teacher and the taught student, of one seed."""
    one = replace(entrant("light", alone, seed), run=f"alone-{seed}", kind="light size-1:5")
    large = replace(entrant("suan", teacher, seed), run=f"pair-{seed}/teacher", kind="suan size-2:5")
    student = entrant("light", taught, seed, teacher="suan:size-2:5")
    return [
        one,
        large,
        replace(student, run=f"pair-{seed}/student", kind=one.kind, teacher_run=f"./{large.run}"),
    ]


def test_a_comparison_tells_the_gap_that_a_taught_student_closes() -> None:
    runs = lesson(0)
    alone, teacher, taught, *_ = lines = compare(runs, bootstrap=50)
    values = [run.results[0].auc.value for run in (runs[0], runs[2], runs[1])]
    share = taught.gap_closed["auc"]
    assert share.value == pytest.approx((values[1] - values[0]) / (values[2] - values[0]))
    assert list(taught.gap_closed) == ["auc", "gauc", "log_loss"]
    assert alone.gap_closed == teacher.gap_closed == {}
    headers, rows = table(lines)
    assert headers == (*HEADERS, "AUC gap closed", "GAUC gap closed")
    assert all(len(row) == len(headers) for row in rows)
    assert rows[2][-2] == gap_text(share) == f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
    assert rows[0][-2:] == rows[3][-2:] == ("-", "-")
    assert any(note.startswith("gap closed: share of the teacher's lead") for note in footnotes(lines))


def test_seeds_share_one_gap() -> None:
    lines = compare([*lesson(0), *lesson(1)], bootstrap=50)
    (taught,) = (line for line in lines if line.gap_closed)
    low, high = (line.values["auc"].value for line in lines[:2])
    assert taught.seeds == (0, 1)
    assert taught.gap_closed["auc"].value == pytest.approx((taught.values["auc"].value - low) / (high - low))


def test_a_teacher_without_a_lead_leaves_the_gap_undefined() -> None:
    lines = compare(lesson(0, alone=2.0, teacher=1.0), bootstrap=20)
    assert table(lines)[1][2][-2:] == ("undefined", "undefined")
    assert any("the teacher is not better than the student alone" in note for note in footnotes(lines))


@pytest.mark.parametrize("missing", [0, 1], ids=["student alone", "teacher"])
def test_a_gap_that_cannot_be_told_says_which_run_is_missing(missing: int) -> None:
    runs = [run for index, run in enumerate(lesson(0)) if index != missing]
    lines = compare(runs, bootstrap=5)
    assert not any(line.gap_closed for line in lines)
    assert table(lines)[0] == HEADERS
    (note,) = missing_for_gap(runs)
    assert "also name its teacher ./pair-0/teacher and a run of light size-1:5 without a teacher" in note
    assert missing_for_gap(lesson(0)) == []


def test_another_model_or_seed_is_not_the_student_alone() -> None:
    alone, *others = lesson(0)
    for stranger in (replace(alone, kind="light size-1:6"), entrant("light", 0.5, 1)):
        assert not any(line.gap_closed for line in compare([stranger, *others], bootstrap=5))
