"""The recipe: what training options become where they are left to it, and why.

A pure function of a few facts of the data set and of the model. An option that is set by hand stays; the
rest of the recipe follows what was set. Each choice comes with a sentence, which a run says when it starts.
How the numbers were found, and on which logs, is in ``docs/recipes.md``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace

from clickscale.arrays import Array
from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import DAY
from clickscale.data.loader import Grouping
from clickscale.features import categorical
from clickscale.models import CTRModel, model_config
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.run.model import label_rates
from clickscale.training.run.run_config import RunConfig, TrainConfig

C = TypeVar("C", bound=RunConfig)

STEPS = 800  # of an epoch, about: fewer learn too little, more cost time and gain nothing
BATCHES = (64, 1024)  # smallest and largest batch
RATE = 3e-6  # learning rate of dense weights for an impression of a batch
RATES = (1e-3, 3e-3)  # least and most
RARE = 0.1  # share of the rarer outcome below which a batch tells little of an embedding row
TABLE_RATE, SLOW_TABLE_RATE = 3e-2, 3e-3  # learning rates of embedding rows
USERS = 64  # in a batch, at least: neighbors in time of few users are nearly the same sample
WINDOW = 8  # impressions of one user in a batch, at most
REPEATS = 25  # impressions for each embedded value below which a second epoch learns by heart
TOUCHES = 8  # impressions for each embedded value from which one epoch may learn rows by heart
# L2 on the embedding rows of a batch of one impression: where a value is seen a few times or the log is
# large, where one epoch may learn it by heart, and where it is seen often or in several epochs. It shrinks
# with the batch as gradients do. Blocks of attention normalize what they read, so a model that has them needs
# less.
L2 = {True: (0.0, 0.1, 0.1), False: (0.025, 0.1, 0.2)}  # by whether candidates share work
BARE_L2 = 0.025  # the same, without statistics: then rows alone know what is clicked
LARGE = 400_000  # impressions beyond which a second epoch pays with the L2 of one, and so does a wider model
_WEEK = 7  # days of the training part from which a model reads hour and weekday
_OFTEN = 10_000  # training impressions from which it does: some hundred for each hour
_RETURNING = (
    0.5  # share of later days from which it does: of users who come once, the hour tells who they are
)
_WIDENED = ("size-2", 16)  # grade that is wider on large logs, and the width of a feature's embedding there
_WIDER_TOO = ("din",)  # models that gain by it without blocks of attention; mlp does not
AGAIN = 4  # passes at most of a second training: with fewer it ends before fields tell things together
JUDGES = 200  # validation impressions from which a second training is tried: fewer choose by chance
CHECKS = 2  # validations in an epoch, if there are several: a single pass cannot learn by heart
PATIENCE = 2  # validations without a gain


@dataclass(frozen=True)
class Facts:
    """What the recipe knows of a data set.

    Attributes:
        impressions: of the training part.
        values: values that have an embedding, of all fields together.
        valid: impressions of the validation part.
        statistics: whether point-in-time statistics are declared.
        positives: share of positives in the training part, of the label whose outcomes are the most even.
        days: whole days that the training part covers.
        returning: share of the training impressions a day or more after the first one of their user.
        drawn: whether negatives were drawn.
    """

    impressions: int
    values: int
    valid: int
    statistics: bool = False
    positives: float = 0.5
    days: int = 0
    returning: float = 0.0
    drawn: bool = False

    @property
    def rarer(self) -> float:
        """Share of the rarer outcome: where nearly all are positive, as little is told as where few are."""
        return min(self.positives, 1 - self.positives)

    @property
    def repeats(self) -> float:
        """Training impressions for each embedded value."""
        return self.impressions / self.values


@dataclass(frozen=True)
class Traits:
    """What the recipe knows of a model.

    Attributes:
        causal, shares: see `clickscale.models.CTRModel`.
        length: behaviors that a candidate sees at most.
    """

    causal: bool
    shares: bool
    length: int


def facts_of(dataset: Dataset) -> Facts:
    """Count what the recipe needs."""
    features = dataset.features
    every = (*features.profile, *features.item, *features.behavior, *features.context)
    values = sum(feature.size for feature in categorical(every) if not feature.shares)
    declared = bool(dataset.schema.statistics)
    positives = max(label_rates(dataset, dataset.labels), key=lambda rate: min(rate, 1 - rate))
    train = dataset.part("train")
    days, returning = _visits(*(np.asarray(dataset.impressions[name])[train] for name in ("user", "time")))
    drawn = bool(dataset.schema.sampled_negatives)
    return Facts(len(train), values, len(dataset.part("valid")), declared, positives, days, returning, drawn)


def _visits(user: Array, time: Array) -> tuple[int, float]:
    """Whole days that impressions cover, and their share a day or more after the first of their user."""
    if not len(user):
        return 0, 0.0
    first = np.full(int(user.max()) + 1, time.max())
    np.minimum.at(first, user, time)
    return int(np.ptp(time)) // DAY, float((time - first[user] >= DAY).mean())


def traits_of(models: Sequence[CTRModel[Any]], length: int) -> Traits:
    """Traits of models that see the same batches: what all can do, and what pays for any of them."""
    return Traits(all(m.causal for m in models), any(m.shares for m in models), length)


def shaped(
    config: TrainConfig, facts: Facts, earlier: TrainConfig | None = None
) -> tuple[TrainConfig, list[str]]:
    """Decide the options of the model that follow from the log; they are needed before it is made.

    Args:
        earlier: options of the run that goes on or that gives the first weights; its choices are kept.

    Returns:
        The options, and a sentence for each that differs from the grade.
    """
    reasons: list[str] = []
    usual: dict[str, Any] = msgspec.to_builtins(model_config(config.model, config.grade))
    # A width that is set by hand decides for candidates, too, so their rule comes before that of the width.
    for name, rule in (("time_of_week", _time_of_week), ("candidate", _candidate), ("d", _width)):
        if _given(config, name):
            continue
        if earlier:
            alike = (earlier.model, earlier.grade) == (config.model, config.grade)
            given = _given(earlier, name) if alike else ()
            reasons += [f"{option}, as in the earlier run" for option in given]
        else:
            given, why = rule(config, facts, usual)
            reasons += why
        config = replace(config, model_options=(*given, *config.model_options))
    return config, reasons


def _width(config: TrainConfig, facts: Facts, usual: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """Width of a feature's embedding."""
    grade, width = _WIDENED
    if not _wide(config, facts) or not ("blocks" in usual or config.model in _WIDER_TOO):
        return (), []
    why = (
        f"width {width} of a feature's embedding: it pays beyond {LARGE:,} training impressions for din and"
        f" models of attention blocks; --set model.d={usual['d']} keeps that of {grade}"
    )
    return (f"d={width}",), [why]


def _candidate(
    config: TrainConfig, facts: Facts, usual: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[str]]:
    """What makes a candidate's token, of models that have the choice."""
    if not _wide(config, facts) or "candidate" not in usual or _given(config, "d"):
        return (), []
    why = (
        f"a linear map of its item fields makes a candidate's token: it pays beyond {LARGE:,} training"
        f" impressions; --set model.candidate={usual['candidate']} keeps that of {config.grade}"
    )
    return ("candidate=linear",), [why]


def _wide(config: TrainConfig, facts: Facts) -> bool:
    """True if the log is large enough for a model that has more weights than its grade."""
    return config.grade == _WIDENED[0] and config.recipe != "fast" and facts.impressions > LARGE


def _time_of_week(
    config: TrainConfig, facts: Facts, usual: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[str]]:
    """Hour and weekday of a candidate among the context, for models that do not read them otherwise."""
    sized = config.grade.startswith("size-")  # that of a paper is kept by the letter
    if not sized or usual.get("time_of_week", True) or not _tells_hours(facts):
        return (), []
    why = (
        f"hour and weekday (UTC) beside the context: {_returns(facts)}; --set model.time_of_week=false leaves"
        " them out"
    )
    return ("time_of_week=true",), [why]


def _tells_hours(facts: Facts) -> bool:
    """True where there are enough hours of users who come back: else the hour tells who they are."""
    return facts.days >= _WEEK and facts.impressions >= _OFTEN and facts.returning >= _RETURNING


def _returns(facts: Facts) -> str:
    """What `_tells_hours` goes by."""
    return (
        f"{facts.impressions:,} training impressions of {facts.days} days, {facts.returning:.0%} of them a"
        " day or more after the user's first"
    )


def _given(config: TrainConfig, name: str) -> tuple[str, ...]:
    """Changes of one option of the model."""
    return tuple(option for option in config.model_options if option.partition("=")[0] == name)


def resolve(config: C, facts: Facts, traits: Traits) -> tuple[C, list[str]]:
    """Decide what ``config`` leaves open.

    Returns:
        The options with everything decided, and one sentence for each choice.
    """
    reasons: list[str] = []
    given = bool(config.epochs.count)
    config = _batches(config, facts, reasons)
    config = _rows(config, facts, traits, reasons)
    config = _epochs(config, facts, reasons)
    config = _validation(config, facts, reasons)
    return _second(config, facts, by_hand=given, reasons=reasons), reasons


def decided_optimizer(
    optimizer: OptimizerConfig, config: RunConfig, facts: Facts, model: type[CTRModel[Any]]
) -> tuple[OptimizerConfig, list[str]]:
    """Decide what the optimizer of one model leaves open in a run that is decided; see `resolve`."""
    reasons: list[str] = []
    if optimizer.learning_rate is None:
        least, most = RATES
        optimizer = replace(optimizer, learning_rate=min(max(RATE * config.batch_size, least), most))
        reasons.append(
            f"learning rate {optimizer.learning_rate:g}: {RATE:g} for each impression of a batch, from"
            f" {least:g} to {most:g}"
        )
    if optimizer.table_learning_rate is None:
        rate, reason = _table_rate(facts, model)
        optimizer = replace(optimizer, table_learning_rate=rate)
        reasons.append(f"learning rate {rate:g} of embedding rows: {reason}")
    hours_tell = _tells_hours(facts) and facts.impressions <= LARGE
    if optimizer.week_rate is None and model.adds_hours and hours_tell:
        optimizer = replace(optimizer, week_rate="table")
        reasons.append(
            f"hour and weekday learn as embedding rows: {_returns(facts)}, and it pays up to {LARGE:,};"
            " --set optimizer.week_rate=dense lets them learn as dense weights"
        )
    if optimizer.table_l2 is None:
        l2, reason = _table_l2(config, facts, model.shares)
        optimizer = replace(optimizer, table_l2=l2)
        reasons.append(reason)
    return optimizer, reasons


def _table_rate(facts: Facts, model: type[CTRModel[Any]]) -> tuple[float, str]:
    """Learning rate of embedding rows, and its reason."""
    if model.adds_products:
        return SLOW_TABLE_RATE, "the logit adds products of rows, and faster ones make it leap"
    rate = SLOW_TABLE_RATE if facts.rarer < RARE else TABLE_RATE
    beyond = f" or above {1 - RARE:.0%}" if facts.positives > 0.5 else ""
    return rate, (
        f"{facts.positives:.1%} of the impressions are positive, and below {RARE:.0%}{beyond} faster rows"
        " follow the noise"
    )


def _table_l2(config: RunConfig, facts: Facts, shares: bool) -> tuple[float, str]:
    """L2 on the embedding rows of a batch, and its reason."""
    if facts.rarer < RARE:
        kind = "positives" if facts.positives < RARE else "negatives"
        return 0.0, f"no L2 on embedding rows: it would outweigh what rare {kind} tell"
    few, some, many = L2[shares]
    if facts.impressions > LARGE:
        each = few
    elif not facts.statistics:
        each = BARE_L2
    elif facts.repeats < TOUCHES and (config.epochs.count == 1 or facts.drawn):
        each = few
    else:
        each = many if config.epochs.count > 1 or facts.repeats >= REPEATS else some
    return each / config.batch_size, (
        f"L2 of {each} / {config.batch_size} on the embedding rows of a batch: such a model sees"
        f" {config.epochs.count * facts.repeats:.0f} impressions for each embedded value, of a log of"
        f" {facts.impressions:,}{'' if facts.statistics else ' without statistics'}"
    )


def _batches(config: C, facts: Facts, reasons: list[str]) -> C:
    if config.batch_size:
        return config
    least, most = BATCHES
    wanted = 2 ** round(math.log2(max(facts.impressions / STEPS, 1)))
    batch = most if config.recipe == "fast" else min(max(wanted, least), most)
    steps = -(-facts.impressions // batch)
    aim = (
        "the fastest batches"
        if config.recipe == "fast"
        else f"about {STEPS} steps, batches of {least} to {most}"
    )
    reasons.append(
        f"batches of {batch} impressions, {steps:,} steps an epoch:"
        f" {facts.impressions:,} training impressions, and the aim is {aim}"
    )
    return replace(config, batch_size=batch)


def _rows(config: C, facts: Facts, traits: Traits, reasons: list[str]) -> C:
    """Grouping and window."""
    if config.grouping == "auto":
        grouping, why = _grouping(traits)
        reasons.append(f"grouping {grouping}: {why}")
        config = replace(config, grouping=grouping)
    if config.grouping != "timeline" or config.window:
        return config
    if config.recipe == "fast":
        window, why = traits.length, "the fastest way, which costs accuracy: few users in a batch"
    else:
        window = min(max(config.batch_size // USERS, 1), WINDOW)
        why = f"then a batch mixes at least {config.batch_size // window} users"
    reasons.append(f"{window} impression{'s' * (window > 1)} of a user in a batch: {why}")
    return replace(config, window=window)


def _grouping(traits: Traits) -> tuple[Grouping, str]:
    if not traits.shares:
        return "impression", "the model shares no work among the candidates of a user"
    if not traits.causal:
        return "request", "the model is not causal, so only candidates of one moment can share a history"
    return "timeline", "neighboring impressions of a user share one encoded history"


def _epochs(config: C, facts: Facts, reasons: list[str]) -> C:
    if config.epochs.count:
        return config
    repeats = facts.repeats
    if config.recipe == "fast":
        count, why = 1, "the fastest way"
    elif facts.impressions > LARGE:
        count, why = 2, f"beyond {LARGE:,} training impressions a second one pays"
    elif facts.statistics and facts.drawn:
        count, why = 2, "where negatives are drawn all users have one rate, and none is learned by heart"
    elif facts.statistics:
        count, why = 1, f"where statistics are declared, one is the default up to {LARGE:,} impressions"
    elif repeats < REPEATS:
        count, why = 1, f"with {repeats:.0f} impressions for each embedded value a second one learns by heart"
    else:
        count, why = 2, f"{repeats:.0f} impressions for each embedded value are enough for a second one"
    reasons.append(f"{count} epoch{'s' * (count > 1)}: {why}")
    return replace(config, epochs=replace(config.epochs, count=count))


def _validation(config: C, facts: Facts, reasons: list[str]) -> C:
    if not config.early_stopping:
        return config
    if not facts.valid:
        reasons.append("no early stopping: there is no validation part")
        return replace(config, early_stopping=False)
    steps = -(-facts.impressions // config.batch_size)
    checks = CHECKS if config.epochs.count > 1 else 1
    every = config.validate_every or max(steps // checks, 1)
    patience = config.patience or PATIENCE
    reasons.append(
        f"validation every {every:,} steps; {patience} without a gain end training, and the best weights stay"
    )
    return replace(config, validate_every=every, patience=patience)


def _second(config: C, facts: Facts, *, by_hand: bool, reasons: list[str]) -> C:
    """A second training; ``by_hand`` says that the passes of the first one were set."""
    if config.epochs.again is not None:
        return config
    plain = config.recipe != "fast" and config.epochs.reset == "none" and not config.epochs.steps
    # Weights of another run are no new start, and what they learned is not to be lost. Of two models that
    # learn together only the first is judged.
    warm = getattr(config, "warm_start", "") or len(getattr(config, "trained", ())) > 1
    fits = facts.valid >= JUDGES and facts.impressions <= LARGE
    if by_hand or warm or not (plain and fits and config.early_stopping):
        return config
    reasons.append(
        f"then a second training of up to {AGAIN} epochs, with slower embedding rows and no L2 on them: it"
        " ends after one, and is forgotten, unless it is clearly better; --set epochs.again=0 leaves it out"
    )
    return replace(config, epochs=replace(config.epochs, again=AGAIN))
