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
    cells,
    compare,
    differences,
)
from clickscale.report.results import results_of

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


def entrant(model: str, skill: float, seed: int, **options: Any) -> Entrant:
    made = predictions(skill, seed)
    report = evaluate_predictions(made, bootstrap=20).to_dict()
    chosen = {"model": model, "seed": seed, "data": "prepared", "length": 100} | options
    return Entrant(f"{model}-{seed}", chosen, results_of(model, report), made)


def test_seeds_of_one_model_are_pooled_and_tested_over_seeds() -> None:
    runs = [entrant("din", 0.5, seed) for seed in (0, 1, 2)] + [
        entrant("suan", 2.0, seed) for seed in (0, 1, 2)
    ]
    din, suan = compare(runs, bootstrap=50)
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
    _, suan = compare([entrant("din", -1.0, 0), entrant("suan", 2.0, 0)], bootstrap=20)
    assert np.isnan(suan.rela_impr)
    assert cells(suan)[5] == "-"


def test_one_model_on_two_data_sets_is_two_models() -> None:
    runs = [entrant("din", 0.5, 0, data=name) for name in ("plain", "statistics")]
    assert [line.name for line in compare(runs, bootstrap=20)] == ["din data=plain", "din data=statistics"]


def test_one_seed_gives_no_test_over_seeds() -> None:
    _, suan = compare([entrant("din", 0.5, 0), entrant("suan", 2.0, 1)], bootstrap=20)
    assert suan.seeds_test == {}
    assert cells(suan)[-1] == "-"


def test_runs_of_one_model_are_named_by_what_differs() -> None:
    runs = [
        entrant("suan", 1.0, 0, length=50, optimizer={"learning_rate": 0.1}),
        entrant("suan", 1.0, 0, length=100, optimizer={"learning_rate": 0.1}),
        entrant("din", 1.0, 0, length=50, optimizer={"learning_rate": 0.3}),
    ]
    assert [line.name for line in compare(runs, bootstrap=5)] == ["suan length=50", "suan length=100", "din"]


def test_what_the_recipe_decided_names_no_run() -> None:
    left = entrant("din", 0.5, 0, batch_size=1024, grouping="timeline", optimizer={"learning_rate": 0.003})
    other = entrant("din", 0.5, 1, batch_size=64, grouping="request", optimizer={"learning_rate": 0.001})
    decided = frozenset({"batch_size", "grouping", "optimizer.learning_rate"})
    by_hand = replace(other, decided=decided - {"batch_size"})
    left, other = replace(left, decided=decided), replace(other, decided=decided)
    assert [(line.name, line.seeds) for line in compare([left, other], bootstrap=5)] == [("din", (0, 1))]
    assert [line.name for line in compare([left, by_hand], bootstrap=5)] == ["din", "din batch_size=64"]


def test_the_same_run_twice_is_refused() -> None:
    with pytest.raises(DataError, match="din-0 and din-0 are the same model with the same seed"):
        compare([entrant("din", 1.0, 0), entrant("din", 1.0, 0)])


def test_runs_on_other_impressions_are_refused() -> None:
    other = entrant("suan", 1.0, 0)
    other = Entrant(other.run, other.options, other.results, predictions(1.0, 0, rows=ROWS - 1))
    with pytest.raises(DataError, match="different rows"):
        compare([entrant("din", 1.0, 0), other])


def test_a_line_as_texts_fits_its_headers() -> None:
    din, suan = compare([entrant("din", 0.5, 0), entrant("suan", 2.0, 0)], bootstrap=100)
    assert len(cells(din)) == len(cells(suan)) == len(HEADERS)
    assert cells(din)[5:] == ("-", "-", "-", "-")
    texts = differences(suan)
    assert len(texts) == len(DIFFERENCES)
    assert texts[0] == "suan"
    assert texts[2].startswith("+0.")
    assert texts[4].startswith("-0."), "a better model loses less"
