import dataclasses
import math

import numpy as np

from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.significance import Interval
from clickscale.report import sections
from clickscale.report.comparison import Entrant
from clickscale.report.results import Result
from clickscale.report.sections import PageModel


def result(name: str, auc: float, log_loss: float = 0.5) -> Result:
    around = {
        measure: Interval(value - 0.01, value + 0.01, value)
        for measure, value in (("auc", auc), ("gauc", auc), ("log_loss", log_loss), ("pcoc", 1.0))
    }
    return Result(name=name, label="click", part="test", grouping="request", rows=400, **around)


def predictions(noise: float) -> Predictions:
    """400 rows of 40 users whose logits follow the labels, apart from noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (400, 1)).astype(np.float32)
    rows = np.arange(400)
    return Predictions(
        row=rows,
        user=rows % 40,
        time=rows,
        labels=labels,
        label_mask=np.ones((400, 1), bool),
        logits=(labels + noise * random.normal(size=labels.shape)).astype(np.float32),
        behaviors=np.zeros(400, np.int32),
        item_age=rows,
        user_activity=np.zeros(400, np.int32),
        label_names=("click",),
        part="test",
        grouping="request",
    )


def model(name: str, auc: float, noise: float = 1.0, latency: tuple[float, float] | None = None) -> PageModel:
    found = result(name, auc)
    entrant = Entrant(name, {"model": name, "seed": 0}, [found], predictions(noise))
    return PageModel(name, found, entrant, latency, reliability=([0.1, 0.9], [0.2, 0.8]))


def with_popularity(shown: PageModel) -> PageModel:
    """The same model, measured beside item popularity."""
    simple = (result("item popularity", 0.55),)
    return dataclasses.replace(shown, result=dataclasses.replace(shown.result, simple=simple))


def test_a_warning_names_its_models_once() -> None:
    few = ("click: few steps.", "click: few steps.")
    found = [
        dataclasses.replace(result("din", 0.6), warnings=few),
        result("mlp", 0.4),
        dataclasses.replace(result("suan", 0.6), warnings=(*few[:1], "PCOC is 3.")),
    ]
    assert sections._warnings(found) == ["Warning: din, suan: click: few steps.", "Warning: suan: PCOC is 3."]


def test_the_best_values_stand_out_and_columns_without_times_are_left_out() -> None:
    models = [with_popularity(model("din", 0.6)), model("mlp", 0.7)]
    section = sections.results_section(models, 500)
    (table,) = section.tables
    assert table.headers == ("model", "AUC", "GAUC", "log-loss", "parameters", "GFLOPs")
    assert [row[0] for row in table.rows] == ["din", "mlp", "item popularity"]
    assert table.strong == {(1, 1), (1, 2), (0, 3), (1, 3), (2, 3)}
    assert "Milliseconds" not in section.note
    timed = sections.results_section([model("din", 0.6, latency=(3.0, 1.0))], 20)
    assert timed.tables[0].headers[-2:] == ("ms for 20", "user cached")
    assert timed.tables[0].rows[0][-2:] == ["3.00", "1.00"]
    assert "Milliseconds are those of a request of 20 candidates" in timed.note


def test_a_difference_is_called_real_only_beyond_chance() -> None:
    same = [model("din", 0.6), model("mlp", 0.6)]
    section = sections.comparison_section([same], "click", "")
    assert section.text == "In AUC, no model can be told apart from din on these users."
    assert section.tables[0].strong == frozenset()
    better = [model("din", 0.6, noise=9.0), model("mlp", 0.7, noise=0.1), model("est", 0.7, noise=0.2)]
    section = sections.comparison_section([better, better[:1]], "click", "")
    assert section.text == "In AUC, different from din beyond chance: better: mlp, est."
    assert {(0, 2), (1, 2)} <= section.tables[0].strong
    assert len(section.tables) == 1


def test_the_first_numbers_are_those_of_the_best_model() -> None:
    models = [with_popularity(model("din", 0.6)), model("mlp", 0.7, latency=(3.0, 1.5))]
    found = {tile.title: tile for tile in sections.tiles(models, 500)}
    assert found["Best AUC"].value == "0.7000"
    assert found["Over item popularity"].value == "+0.1500"
    assert found["Latency"].note == "500 candidates, one thread; user cached: 1.5 ms"
    nothing = dataclasses.replace(models[0].result, pcoc=Interval(math.nan, math.nan, math.nan))
    (tile,) = [
        tile
        for tile in sections.tiles([dataclasses.replace(models[0], result=nothing)], 500)
        if tile.title == "Predicted clicks per click"
    ]
    assert (tile.value, tile.note) == ("-", "PCOC; 1 is right; 95%: -")


def test_plots_that_would_show_nothing_are_left_out() -> None:
    plain = model("din", 0.6)
    assert len(sections.behavior_section([plain], "").plots) == 1
    full = dataclasses.replace(
        plain,
        learning=([1, 2], [0.6, 0.5]),
        validation=([1, 2], [0.6, 0.5]),
        by_behaviors={"0": 0.5, "1-4": 0.6},
        by_item_age={"90+ days": 0.6},
    )
    assert len(sections.behavior_section([full], "").plots) == 4


def test_results_show_the_gap_that_a_taught_student_closes() -> None:
    closed = {name: Interval(0.35, 0.6, 0.47) for name in ("auc", "gauc", "log_loss")}
    taught = dataclasses.replace(model("distilled student", 0.72, latency=(2.0, 1.0)), gap_closed=closed)
    alone = model("student alone", 0.7, latency=(2.0, 1.0))
    section = sections.results_section([alone, taught], 60)
    (table,) = section.tables
    place = table.headers.index("AUC gap closed")
    assert [row[place] for row in table.rows] == ["-", "47%\n[35%, 60%]"]
    assert all(len(row) == len(table.headers) for row in table.rows)
    assert sections.GAP_MEANING in section.note
    assert "AUC gap closed" not in sections.results_section([alone], 60).tables[0].headers
    (tile,) = (tile for tile in sections.tiles([alone, taught], 60) if "Gap" in tile.title)
    assert tile.value == "47% [35%, 60%]"
    picture = sections.latency_section([alone, taught], 60, "").plots[0]
    assert "gap closed: 47% [35%, 60%]" in picture


def test_a_gap_that_is_not_defined_is_told_as_that_with_its_reason() -> None:
    lack = Interval(math.nan, math.nan, math.nan, "the teacher is not better than the student alone")
    taught = dataclasses.replace(model("distilled student", 0.72), gap_closed={"auc": lack, "gauc": lack})
    section = sections.results_section([taught], 60)
    assert section.tables[0].rows[0][4] == "undefined"
    assert "Unsure or undefined: the teacher is not better than the student alone." in section.note
    assert "nan" not in section.note
