"""Latency of one request, by how its candidates are scored.

``one by one`` encodes the user for every candidate, as a model without a state has to. ``parallel``
encodes once and scores all candidates together (Lai et al. 2025, section 3.3). ``cached`` scores from a
stored state. ``appended`` adds the newest behavior to a stored state, then scores. All four give the same
logits, which is checked on the way. Requests are made up: full histories of random values, so that look-ups
miss the caches as those of real requests do. Reading and encoding raw requests is not part of any number.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clickscale.arrays import Progress
from clickscale.batch import CandidateSide, UserSide
from clickscale.errors import ConfigError
from clickscale.features import Feature, Features, categorical, numeric
from clickscale.models import CTRModel, State

ONE_BY_ONE, PARALLEL, CACHED, APPENDED = "one by one", "parallel", "cached", "appended"
VARIANTS = (ONE_BY_ONE, PARALLEL, CACHED, APPENDED)
_NOW = 1_700_000_000
_FEWEST = 3  # rounds of a cell, whatever they cost
_CHECKED = 4  # candidates that are scored in every way to compare the logits

K = TypeVar("K")
Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds on the clock.

    Attributes:
        p50, p99: percentiles over the runs; of few runs p99 is close to the slowest.
        runs: how often it was measured.
        measured: candidates that a run scored. Fewer than asked for means that the times are scaled up.
    """

    p50: float
    p99: float
    runs: int
    measured: int


@dataclass(frozen=True)
class ScoringCell:
    """Latency of one request; a variant that the model cannot do is missing from ``timings``."""

    length: int
    candidates: int
    timings: Mapping[str, Timing]

    def faster(self, slow: str, fast: str) -> float | None:
        """Median time of one variant over that of another."""
        if slow not in self.timings or fast not in self.timings:
            return None
        return self.timings[slow].p50 / self.timings[fast].p50


@dataclass(frozen=True)
class StateCell:
    """Cost of the user side.

    Attributes:
        encode: encoding the whole history.
        append: appending one behavior to a state; None if the model cannot.
        appendable, scoring, half: bytes of the state that can grow, of the part that candidates read, and of
            that part in half precision.
        gap: largest difference between logits of the variants.
    """

    length: int
    encode: Timing
    append: Timing | None
    appendable: int
    scoring: int
    half: int
    gap: float


@dataclass(frozen=True)
class Latencies:
    """Results of `measure_latency`.

    Attributes:
        trained: the length of the model.
        share: CPU time of this process per time on the clock; below 1 it waited, and the times include that.
    """

    trained: int
    threads: int
    share: float
    cells: tuple[ScoringCell, ...]
    states: tuple[StateCell, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return dataclasses.asdict(self)


def measure_latency(
    model: CTRModel[Any],
    features: Features,
    lengths: Sequence[int],
    candidates: Sequence[int],
    *,
    trained: int,
    repeats: int = 30,
    seconds: float = 1.5,
    progress: Progress = lambda stage, done, total: None,
) -> Latencies:
    """Measure every number of candidates at every length.

    The variants of a cell take turns within one process, so that whatever else the machine does meets all of
    them alike. The number of threads is that of torch.

    Args:
        lengths: behaviors of the user, one of them appended; other lengths than that of training are fine.
        trained: the length of the model.
        repeats: rounds of a cell at most.
        seconds: time of a cell; no further round begins after it, but three always run.

    Raises:
        ConfigError: a length below 2, or no candidate.
    """
    if min(lengths, default=0) < 2 or min(candidates, default=0) < 1:
        raise ConfigError(
            f"Cannot measure lengths {list(lengths)} with {list(candidates)} candidates; "
            "give lengths of at least 2 and at least 1 candidate."
        )
    cells: list[ScoringCell] = []
    states: list[StateCell] = []
    total = len(lengths) * (len(candidates) + 1)
    was_training = model.training
    model.eval()
    clock, cpu = time.perf_counter(), time.process_time()
    try:
        with torch.inference_mode():
            for length in lengths:
                request = _request(model, features, length, max(*candidates, _CHECKED))
                states.append(request.state_cell(repeats, seconds))
                for count in candidates:
                    progress("measuring", len(cells) + len(states), total)
                    cells.append(request.only(count).cell(repeats, seconds))
    finally:
        model.train(was_training)
    share = (time.process_time() - cpu) / (time.perf_counter() - clock)
    return Latencies(trained, torch.get_num_threads(), share, tuple(cells), tuple(states))


def compare_latency(
    models: Mapping[str, tuple[CTRModel[Any], int]],
    features: Features,
    candidates: int,
    *,
    repeats: int = 30,
    seconds: float = 5.0,
) -> dict[str, dict[str, Timing]]:
    """Latency of several models, each at its own length, ``parallel`` and ``cached``, all taking turns.

    Only CPU time of this process counts. With one thread that is the latency on a free core.

    Args:
        models: by name, a model in evaluation mode and the behaviors of its users.
        seconds: of everything together; no further round begins after it, but three always run.
    """
    works: dict[tuple[str, str], Work] = {}
    with torch.inference_mode():
        for name, (model, length) in models.items():
            request = _request(model, features, length, candidates)
            works |= {(name, PARALLEL): request.parallel, (name, CACHED): request.cached}
        runs = in_turns(works, repeats, seconds, time.process_time)
    return {
        name: {way: _timing(runs[name, way], candidates, candidates) for way in (PARALLEL, CACHED)}
        for name in models
    }


def in_turns(
    works: Mapping[K, Work], repeats: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[K, list[float]]:
    """Milliseconds of every run of every work: each once to warm up, then one after the other in rounds.

    Args:
        clock: seconds that pass; ``time.process_time`` counts those of this process only.
    """
    # The first run pays for memory and for code that is loaded late.
    for work in works.values():
        work()
    runs: dict[K, list[float]] = {name: [] for name in works}
    begun = time.perf_counter()
    for done in range(repeats):
        if done >= _FEWEST and time.perf_counter() - begun > seconds:
            break
        for name, work in works.items():
            started = clock()
            work()
            runs[name].append(1e3 * (clock() - started))
    return runs


def _timing(runs: Sequence[float], candidates: int, measured: int) -> Timing:
    """Percentiles of runs, scaled from the candidates that were measured to those that were asked for."""
    p50, p99 = np.percentile(runs, (50, 99)) * (candidates / measured)
    return Timing(float(p50), float(p99), len(runs), measured)


@dataclass(frozen=True)
class _Request:
    """A user, candidates, and the states of the user that a server would have kept.

    Attributes:
        state, stored: of all behaviors; the part that can grow, and the part that candidates read.
        before, newest: the state of all behaviors but the newest, and the newest.
        extend: appends behaviors to a state; None if the model cannot.
    """

    model: CTRModel[Any]
    user: UserSide
    candidates: CandidateSide
    state: State
    stored: State
    before: State
    newest: UserSide
    extend: Callable[[State, UserSide], State] | None

    @property
    def length(self) -> int:
        """Behaviors of the user."""
        return self.user.items.shape[1]

    def only(self, count: int) -> "_Request":
        """The same user and the first candidates."""
        return dataclasses.replace(self, candidates=chosen(self.candidates, slice(0, count)))

    def one_by_one(self, count: int) -> list[Tensor]:
        """Logits of the first candidates, each with an encoding of its own."""
        single = [chosen(self.candidates, slice(column, column + 1)) for column in range(count)]
        return [self.model.score(self.model.encode_user(self.user), one) for one in single]

    def parallel(self) -> Tensor:
        """Logits of all candidates over one encoding."""
        return self.model.score(self.model.encode_user(self.user), self.candidates)

    def cached(self) -> Tensor:
        """Logits from the stored state."""
        return self.model.score(self.stored, self.candidates)

    def append(self) -> State:
        """The state after the newest behavior."""
        assert self.extend is not None, "this model cannot append"
        return self.extend(self.before, self.newest)

    def appended(self) -> Tensor:
        """Logits from a stored state to which the newest behavior is added."""
        return self.model.score(self.append(), self.candidates)

    def cell(self, repeats: int, seconds: float) -> ScoringCell:
        """Latency of every variant.

        All candidates one by one would take minutes where the others take milliseconds: they may take a
        tenth of the cell's time in each round.
        """
        count = self.candidates.items.shape[1]
        (single,) = in_turns({ONE_BY_ONE: lambda: self.one_by_one(1)}, _FEWEST, 0).values()
        # At most a tenth of the time in each round goes to the slow variant.
        few = int(np.clip(1e3 * seconds / 10 / np.median(single), 1, count))
        works: dict[str, Work] = {ONE_BY_ONE: lambda: self.one_by_one(few)}
        works |= {PARALLEL: self.parallel, CACHED: self.cached}
        if self.extend is not None:
            # Appending needs a causal model.
            works[APPENDED] = self.appended
        runs = in_turns(works, repeats, seconds)
        measured = {name: few if name == ONE_BY_ONE else count for name in works}
        timings = {name: _timing(runs[name], count, measured[name]) for name in works}
        return ScoringCell(self.length, count, timings)

    def state_cell(self, repeats: int, seconds: float) -> StateCell:
        """Cost of the user side."""
        works: dict[str, Work] = {"encode": lambda: self.model.encode_user(self.user)}
        if self.extend is not None:
            works["append"] = self.append
        timings = {name: _timing(runs, 1, 1) for name, runs in in_turns(works, repeats, seconds).items()}
        return StateCell(
            length=self.length,
            encode=timings["encode"],
            append=timings.get("append"),
            appendable=self.state.nbytes,
            scoring=self.stored.nbytes,
            half=self.stored.to(dtype=torch.float16).nbytes,
            gap=self.only(_CHECKED).gap(),
        )

    def gap(self) -> float:
        """Largest difference between the logits of the variants."""
        base = self.parallel()  # (1, C, T)
        others = [torch.cat(self.one_by_one(base.shape[1]), dim=1), self.cached()]
        others += [self.appended()] if self.extend is not None else []
        return max(float((other - base).abs().max()) for other in others)


def _request(model: CTRModel[Any], features: Features, length: int, candidates: int) -> _Request:
    """A made-up request and the states of its user."""
    user, shown = made_up_request(features, length, candidates)
    state = model.encode_user(user)
    return _Request(
        model=model,
        user=user,
        candidates=shown,
        state=model.appendable_state(state),
        stored=model.scoring_state(state),
        before=model.appendable_state(model.encode_user(behaviors(user, slice(0, -1)))),
        newest=behaviors(user, slice(-1, None)),
        extend=model.extend_user if model.causal else None,
    )


# --- made-up requests


def made_up_request(
    features: Features, length: int, candidates: int, seed: int = 0
) -> tuple[UserSide, CandidateSide]:
    """A user with random behaviors, a minute apart, and random candidates, all a minute after the last."""
    # Random rows: sequential ones would stay in the processor's caches, unlike those of real requests.
    random = np.random.default_rng(seed)
    user = UserSide(
        profile=_indices(random, (1,), features.profile),
        profile_numbers=torch.zeros(1, len(numeric(features.profile))),
        items=_items(random, features, length),
        actions=_indices(random, (1, length), features.behavior),
        action_numbers=torch.zeros(1, length, len(numeric(features.behavior))),
        times=_NOW - 60 * torch.arange(length, 0, -1)[None],
    )
    shown = CandidateSide(
        items=_items(random, features, candidates),
        context=_indices(random, (1, candidates), features.context),
        context_numbers=torch.zeros(1, candidates, len(numeric(features.context))),
        times=torch.full((1, candidates), _NOW),
        oldest=torch.zeros(1, candidates, dtype=torch.int64),
        visible=torch.full((1, candidates), length),
    )
    return user, shown


def _indices(random: np.random.Generator, shape: tuple[int, ...], features: Sequence[Feature]) -> Tensor:
    """(*shape, columns of the categorical features): random values, none of them padding."""
    columns = [
        torch.from_numpy(random.integers(1, max(feature.size, 2), shape))
        for feature in categorical(tuple(features))
        for _ in range(feature.values)
    ]
    return torch.stack(columns, dim=-1) if columns else torch.zeros((*shape, 0), dtype=torch.int64)


def _items(random: np.random.Generator, features: Features, count: int) -> Tensor:
    """(1, count) random rows of the item table."""
    return torch.from_numpy(random.integers(1, max(features.items, 2), (1, count)))


def behaviors(user: UserSide, columns: slice) -> UserSide:
    """The same user with some of the behaviors."""
    return dataclasses.replace(
        user,
        items=user.items[:, columns],
        actions=user.actions[:, columns],
        action_numbers=user.action_numbers[:, columns],
        times=user.times[:, columns],
    )


def chosen(candidates: CandidateSide, columns: slice) -> CandidateSide:
    """Some of the candidates."""
    fields = dataclasses.fields(candidates)
    return CandidateSide(**{field.name: getattr(candidates, field.name)[:, columns] for field in fields})
