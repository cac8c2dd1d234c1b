"""Proof that a server answers as evaluation measured: a part of a log, replayed event by event.

Everything that happened before the part is in the store. From then on time passes, and every request of the
log is answered from its user, time and candidates alone. All events of a second are appended before its
requests, and behaviors before they become known: the store must not show them too early. The scores are
compared with those of the forward pass that evaluation makes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints, Progress
from clickscale.artifact import MANIFEST, Artifact
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ArtifactError, DataError, RunError
from clickscale.evaluation.evaluate import score_part
from clickscale.features import label_of
from clickscale.inference.replay import Replay
from clickscale.inference.scorer import Scorer
from clickscale.serving.store.protocol import Event, OnlineStore
from clickscale.training.run.folder import read_config

LIMIT = 1e-5  # of the difference between two probabilities
_EVENTS = 500  # in one append
_NAMED = 10  # differences in a report
_PROGRESS = 100  # requests between two reports of progress


class _ReplayTarget(Protocol):
    """What is replayed to."""

    def rank(self, request: Mapping[str, Any]) -> dict[str, Sequence[float | None]]:
        """Probabilities of the candidates of a request, by label."""
        ...

    def append(self, events: Sequence[Event]) -> None:
        """Take events."""
        ...


class StoreTarget:
    """A store and a scorer in this process.

    Attributes:
        missing: statistics that a scored request lacked.
    """

    def __init__(self, store: OnlineStore, scorer: Scorer) -> None:
        self._store, self._scorer = store, scorer
        self.missing: set[str] = set()

    def rank(self, request: Mapping[str, Any]) -> dict[str, Sequence[float | None]]:
        """Complete a request from the store and score it."""
        completed = self._store.complete(request, most=self._scorer.artifact.config.length)
        response = self._scorer.score(completed)
        self.missing.update(response.missing)
        return {name: response.probabilities[:, at].tolist() for at, name in enumerate(response.labels)}

    def append(self, events: Sequence[Event]) -> None:
        """Append to the store."""
        self._store.append(events)


class Difference(msgspec.Struct, frozen=True):
    """One score that is not the evaluated one.

    Attributes:
        row: of the impressions of the data set.
        served: None if there was no number.
    """

    row: int
    time: int
    user: int | str | None
    item: int | str | None
    label: str
    served: float | None
    evaluated: float


class ReplayReport(msgspec.Struct, frozen=True):
    """Outcome of a replay.

    Attributes:
        scored: impressions that were compared.
        largest: difference of two probabilities; infinite if a served one was no number.
        differing: scores beyond the limit, the first of them in ``differences``.
    """

    moment: int
    requests: int
    scored: int
    events: int
    largest: float
    limit: float
    differing: int
    differences: list[Difference]

    @property
    def is_equal(self) -> bool:
        """True if every served score is the evaluated one."""
        return self.scored > 0 and self.differing == 0


def artifact_of(source: Path, data: Path | None) -> tuple[Path, Path]:
    """Folder of the artifact of a run or artifact, and of the data set.

    Raises:
        RunError: an artifact names no data set, or the folder is neither.
    """
    if (source / MANIFEST).is_file():
        if data is None:
            raise RunError(f"{source} is an artifact, which names no data set; say which with --data.")
        return source, data
    return source / "artifact", data or Path(read_config(source).data)


def open_replayed(data: Path, artifact: Artifact) -> Dataset:
    """Open the data set of an artifact.

    Raises:
        ArtifactError: the artifact has another encoder.
    """
    dataset = open_dataset(data)
    if not artifact.encoder.equals(dataset.encoder):
        raise ArtifactError(
            f"The encoder of {artifact.path} differs from that of {data}; give the data set that its run "
            "was trained on."
        )
    return dataset


def replay_check(
    artifact: Artifact,
    dataset: Dataset,
    target: _ReplayTarget,
    moment: int,
    *,
    part: str = "test",
    most: int = 0,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ReplayReport:
    """Replay a part and compare the scores.

    Args:
        target: holds what happened before the moment, and nothing of later.
        moment: first second that is replayed, at or before the first impression of the part.
        most: impressions of the part that are compared; 0 for all.
        progress: called with ("replay", impressions done, impressions to do).

    Raises:
        DataError: the part is empty or begins before the moment.
    """
    rows = dataset.part(part)
    if not len(rows) or int(dataset.impressions["time"][rows].min()) < moment:
        raise DataError(f"The part {part} of {dataset.path} is empty, or begins before {moment}.")
    replay = _Replay(dataset, moment, _first_in_time(dataset, rows, most) if most else rows)
    scores = score_part(
        artifact.model,
        dataset,
        part,
        length=artifact.config.length,
        labels=artifact.config.labels,
    )
    evaluated = np.zeros((len(rows), len(artifact.config.labels)), np.float32)
    for some, logits in scores:
        evaluated[np.searchsorted(rows, some)] = logits
    found = _Comparison(dataset, replay, artifact.config.labels, rows, evaluated, limit)
    requests = events = 0
    for shown, waiting in replay.steps():
        for start in range(0, len(waiting), _EVENTS):
            target.append(waiting[start : start + _EVENTS])
        events += len(waiting)
        for asked, compared in shown:
            requests += 1
            found.compare(asked, compared, target.rank(replay.request(asked)))
            if progress is not None and requests % _PROGRESS == 0:
                progress("replay", found.scored, len(replay.compared))
    return ReplayReport(
        moment, requests, found.scored, events, found.largest, limit, found.differing, found.differences
    )


def _first_in_time(dataset: Dataset, rows: Ints, most: int) -> Ints:
    """Choose the first rows of a part in time."""
    order = np.argsort(dataset.impressions["time"][rows], kind="stable")
    return np.sort(rows[order[:most]])


class _Replay:
    """The log from a moment on, second by second.

    Attributes:
        compared: rows whose scores are compared.
    """

    def __init__(self, dataset: Dataset, moment: int, compared: Ints) -> None:
        self.compared = compared
        self._dataset, self._shown, self._raw = dataset, dataset.impressions, Replay(dataset)
        time = np.asarray(self._shown["time"])
        last = int(time[compared].max())
        rows = np.flatnonzero((time >= moment) & (time <= last))
        self._rows = rows[np.lexsort((rows, time[rows]))]
        known, offsets = dataset.known_at, np.asarray(dataset.users["offsets"])
        happened = np.asarray(dataset.behaviors["time"])
        due = np.flatnonzero((happened >= moment) & (known < last))
        self._due = due[np.lexsort((due, happened[due]))]
        self._owner = np.searchsorted(offsets, self._due, side="right") - 1
        counted = np.asarray(dataset.counted["time"])
        told = np.flatnonzero((counted >= moment) & (counted <= last))
        self._told = told[np.lexsort((told, counted[told]))]

    def steps(self) -> Iterator[tuple[list[tuple[Ints, npt.NDArray[np.bool_]]], list[Event]]]:
        """Yield the requests of one second, and the events up to and in this second since the last one."""
        time = np.asarray(self._shown["time"])[self._rows]
        user = np.asarray(self._shown["user"])[self._rows]
        happened = np.asarray(self._dataset.behaviors["time"])[self._due]
        counted = np.asarray(self._dataset.counted["time"])[self._told]
        cuts = np.flatnonzero(np.diff(time)) + 1
        begun = told = 0
        for here in np.split(np.arange(len(time)), cuts):
            stop, until = (int(np.searchsorted(o, time[here[0]], side="right")) for o in (happened, counted))
            events = [self._behavior(at) for at in range(begun, stop)]
            events += [self._impression(int(row)) for row in self._told[told:until]]
            begun, told = stop, until
            requests = []
            for rows in np.split(self._rows[here], np.flatnonzero(np.diff(user[here])) + 1):
                compared = np.isin(rows, self.compared)
                if compared.any():
                    requests.append((rows, compared))
            yield requests, events

    def request(self, rows: Ints) -> dict[str, Any]:
        """A request with nothing but user, time and candidates."""
        shown = [self._raw.candidate(int(row), statistics=False) for row in rows]
        request = {"time": int(self._shown["time"][rows[0]]), "candidates": shown}
        user = self.user(int(self._shown["user"][rows[0]]))
        return request if user is None else {**request, "user": user}

    def user(self, user: int) -> Any:
        """Raw id of a row of the table of users; None in a log without users."""
        if "user" in self._dataset.schema.absent:
            return None
        return self._raw.users[user].as_py()

    def _impression(self, row: int) -> Event:
        """Return an event that statistics count: in a log whose negatives were drawn, a positive."""
        context, columns = self._raw.counted(row), self._dataset.counted
        labels = {name: int(columns[label_of(name)][row]) for name in self._dataset.labels}
        return Event(
            id=f"impression:{row}",
            user=self.user(int(columns["user"][row])),
            item=context.pop("item", None),
            time=int(columns["time"][row]),
            behavior=None,
            context=context,
            labels={name: value for name, value in labels.items() if value >= 0},
        )

    def _behavior(self, at: int) -> Event:
        behavior = self._raw.behavior(int(self._due[at]))
        return Event(
            id=f"behavior:{self._due[at]}",
            user=self._raw.users[int(self._owner[at])].as_py(),
            item=behavior.pop("item", None),
            time=behavior.pop("time"),
            known_at=behavior.pop("known_at", None),
            behavior=behavior,
        )


class _Comparison:
    """Differences between served and evaluated scores."""

    def __init__(
        self,
        dataset: Dataset,
        replay: _Replay,
        labels: tuple[str, ...],
        rows: Ints,
        evaluated: npt.NDArray[np.float32],
        limit: float,
    ) -> None:
        self._dataset, self._replay, self._labels, self._limit = dataset, replay, labels, limit
        self._rows, self._evaluated = rows, 1 / (1 + np.exp(-evaluated.astype(np.float64)))
        self.scored = self.differing = 0
        self.largest = 0.0
        self.differences: list[Difference] = []

    def compare(
        self, rows: Ints, compared: npt.NDArray[np.bool_], served: Mapping[str, Sequence[float | None]]
    ) -> None:
        """Compare one answer."""
        columns = [[np.nan if one is None else one for one in served[name]] for name in self._labels]
        answer = np.array(columns, np.float64).T[compared]  # (n, T)
        expected = self._evaluated[np.searchsorted(self._rows, rows[compared])]
        apart = np.nan_to_num(np.abs(answer - expected), nan=np.inf)
        self.scored += len(answer)
        self.largest = max(self.largest, float(apart.max()))
        for at, place in zip(*np.nonzero(apart > self._limit), strict=True):
            self.differing += 1
            if len(self.differences) < _NAMED:
                self._name(int(rows[compared][at]), int(place), float(answer[at, place]), expected[at, place])

    def _name(self, row: int, place: int, served: float, evaluated: float) -> None:
        candidate = self._replay.request(np.array([row]))["candidates"][0]
        self.differences.append(
            Difference(
                row=row,
                time=int(self._dataset.impressions["time"][row]),
                user=self._replay.user(int(self._dataset.impressions["user"][row])),
                item=candidate.get("item"),
                label=self._labels[place],
                served=None if np.isnan(served) else served,
                evaluated=float(evaluated),
            )
        )
