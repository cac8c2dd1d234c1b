"""Candidates that nobody labelled: what is drawn, what is learned from it, and what stays as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.features.statistics_of_others import StatisticsOfOthers
from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.errors import ConfigError
from clickscale.features import numeric
from clickscale.training.distill import unlabelled
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.distill.distillation import distill
from clickscale.training.distill.unlabelled import UnlabelledCandidates
from clickscale.training.objectives import OnlineDistillation, _candidate_columns
from clickscale.training.run.folder import STUDENT, TEACHER, load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.training.compared import differing
from tests.training.pairs import config_of, distill_in_two_calls, same, weights

GROUPINGS = pytest.mark.parametrize("grouping", ["timeline", "request", "impression"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    return open_dataset(data)


def batches(dataset: Dataset, grouping: Grouping) -> list[Batch]:
    options = LoaderConfig(grouping=grouping, length=6, window=8, batch_size=30, labels=("click", "like"))
    return list(Loader(dataset, "train", options).batches())


# --- what is drawn


@GROUPINGS
def test_every_request_gets_candidates_without_labels(dataset: Dataset, grouping: Grouping) -> None:
    draw = UnlabelledCandidates(dataset, 3, seed=0)
    found = 0
    for step, batch in enumerate(batches(dataset, grouping)):
        shown, more = batch.rows.shape[1], draw(batch, step)
        sides = (_candidate_columns(more.candidates, 0, shown), batch.candidates)
        for name in ("items", "times", "visible", "oldest", "context"):
            assert torch.equal(getattr(sides[0], name), getattr(sides[1], name))
        assert torch.equal(more.rows[:, :shown], batch.rows)
        assert torch.equal(more.label_mask[:, :shown], batch.label_mask)
        assert not more.label_mask[:, shown:].any()
        assert not more.labels[:, shown:].any()
        assert more.samples == batch.samples
        extra = _candidate_columns(more.candidates, shown, None)
        for row in range(len(batch.rows)):
            real = batch.rows[row] >= 0
            requests = set(batch.candidates.times[row][real].tolist())
            times = extra.times[row][extra.mask[row]].tolist()
            assert all(times.count(time) in (0, 3) for time in requests)  # 0: nothing was shown before
            assert set(times) <= requests
            found += len(times)
            for column in extra.mask[row].nonzero().flatten().tolist():
                same_time = (batch.candidates.times[row] == extra.times[row, column]) & real
                (anchor, *_) = same_time.nonzero().flatten().tolist()
                assert extra.visible[row, column] == batch.candidates.visible[row, anchor]
                assert extra.oldest[row, column] == batch.candidates.oldest[row, anchor]
                assert torch.equal(extra.context[row, column], batch.candidates.context[row, anchor])
    assert found > 200


def too_new(dataset: Dataset) -> int:
    """Number of drawn items that were not shown before the moment of their request."""
    first = np.asarray(dataset.items["first_seen"])
    draw, count = UnlabelledCandidates(dataset, 4, seed=1), 0
    for step, batch in enumerate(batches(dataset, "request")):
        extra = _candidate_columns(draw(batch, step).candidates, batch.rows.shape[1], None)
        count += int((first[extra.items[extra.mask]] >= extra.times[extra.mask].numpy()).sum())
    return count


def test_only_items_that_existed_by_then_are_drawn(dataset: Dataset) -> None:
    assert too_new(dataset) == 0
    with pytest.MonkeyPatch.context() as patch:  # a mutant: items of the whole log
        patch.setattr(unlabelled.np, "searchsorted", lambda times, now: np.full(now.shape, len(times)))
        assert too_new(dataset) > 0


def test_an_item_is_drawn_with_the_statistics_of_that_moment(dataset: Dataset) -> None:
    names = [feature.name for feature in numeric(dataset.features.context)]
    columns = [names.index(statistic.name) for statistic in STATISTICS]
    assert columns != list(range(len(names)))
    draw, others = (
        UnlabelledCandidates(dataset, 2, seed=0),
        StatisticsOfOthers(dataset.path, dataset.encoder),
    )
    batch = batches(dataset, "impression")[0]
    extra = _candidate_columns(draw(batch, 0).candidates, 1, None)
    rows = batch.rows.expand(-1, 2)[extra.mask].numpy()
    wanted = others.values(rows, extra.items[extra.mask].numpy())
    assert np.array_equal(extra.context_numbers[extra.mask][:, columns].numpy(), wanted)
    hour = names.index("hour")
    anchors = batch.candidates.context_numbers[:, :, hour].expand(-1, 2)
    assert torch.equal(extra.context_numbers[..., hour], anchors)


def test_draws_depend_on_seed_and_step_only(dataset: Dataset) -> None:
    batch = batches(dataset, "request")[0]

    def items(seed: int, step: int) -> list[int]:
        return UnlabelledCandidates(dataset, 2, seed)(batch, step).candidates.items.flatten().tolist()

    assert items(0, 5) == items(0, 5)
    assert items(0, 5) != items(0, 6)
    assert items(0, 5) != items(1, 5)


# --- what is learned


@GROUPINGS
def test_a_student_of_unlabelled_candidates_continues_to_the_bit_beside_a_teacher_as_alone(
    data: Path, tmp_path: Path, grouping: Grouping
) -> None:
    config = config_of(data, "unlabelled=2", f"grouping={grouping}", "log_every=1")
    distill(config, tmp_path / "whole")
    distill_in_two_calls(config, tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run") == []
    train(config.own_run(TEACHER), tmp_path / "teacher")
    assert same(weights(tmp_path / "run/teacher"), weights(tmp_path / "teacher"))
    distill(msgspec.structs.replace(config, unlabelled=0), tmp_path / "without")
    first, plain = (read_metrics(tmp_path / name)[0] for name in ("run", "without"))
    assert first["samples"] == plain["samples"]
    for name in ("loss.student.click", "loss.teacher.click"):
        assert first[name] == pytest.approx(plain[name], rel=1e-6)
    assert first["loss.distill.click"] > plain["loss.distill.click"]
    assert not same(weights(tmp_path / "run/student"), weights(tmp_path / "without/student"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("student.length=3", "teacher.length=9"),
        ("head=aux",),
        ("teacher.model_options=['head.hidden=[8]','head.norm=batch']",),
        ("student.model=lightsuan", "precision=bf16"),
    ],
    ids=" ".join,
)
def test_unlabelled_candidates_go_with_every_other_option(
    data: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    config = config_of(data, "unlabelled=2", *changes)
    assert distill(config, tmp_path / "run").finished
    train(config.own_run(TEACHER), tmp_path / "alone")
    assert same(weights(tmp_path / "run/teacher"), weights(tmp_path / "alone"))
    assert load_run(tmp_path / "run/student").labels == ("click", "like")


def of_run(data: Path, earlier: Path, **given: Any) -> DistillConfig:
    config = msgspec.structs.replace(config_of(data), teacher=None, teacher_run=str(earlier), **given)
    return override(config, ["unlabelled=2", "log_every=1"])


@pytest.mark.parametrize("learns", [False, True])
def test_a_finished_run_labels_them_too(data: Path, tmp_path: Path, learns: bool) -> None:
    train(config_of(data).own_run(TEACHER), tmp_path / "earlier")
    config = of_run(data, tmp_path / "earlier", teacher_learns=learns)
    distill(config, tmp_path / "run")
    distill(msgspec.structs.replace(config, unlabelled=0), tmp_path / "without")
    first, plain = (read_metrics(tmp_path / name)[0] for name in ("run", "without"))
    for part in ("student", "teacher"):
        name = f"loss.{part}.click"
        assert first[name] == pytest.approx(plain[name], rel=1e-6)
    assert first["loss.distill.click"] > plain["loss.distill.click"]


def test_a_teacher_that_learns_from_them_would_be_seen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: drawn candidates count as labelled ones that nobody clicked."""
    config = config_of(data, "unlabelled=2")
    train(config.own_run(TEACHER), tmp_path / "alone")

    def labelled(self: OnlineDistillation, batch: Batch, step: int) -> Batch:
        more = UnlabelledCandidates(open_dataset(data), 2, 0)(batch, step)
        self._step, self.more = step, None
        return replace(more, label_mask=more.candidates.mask[..., None].expand_as(more.label_mask))

    monkeypatch.setattr(OnlineDistillation, "prepared", labelled)
    distill(config, tmp_path / "run")
    assert not same(weights(tmp_path / "run/teacher"), weights(tmp_path / "alone"))


def test_a_number_below_zero_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="it must be a number of candidates, at least 0"):
        config_of(data, "unlabelled=-1")


def test_the_student_alone_is_not_changed_by_the_option(data: Path) -> None:
    assert config_of(data, "unlabelled=2").own_run(STUDENT) == config_of(data).own_run(STUDENT)
