"""One figure of a simulated world: a life, click probabilities, what is due, what lengths are worth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clickscale.data.dataset import Dataset
from clickscale.data.source import PARTS
from clickscale.features import column_of
from clickscale.files import replacing
from clickscale.report.plots import COLORS, FAINT, MUTED, in_style, save_figure
from clickscale.world.lives import ACTIONS
from clickscale.world.market import DAY, START, make_market
from clickscale.world.truth import true_probability, world_facts
from clickscale.world.window_oracle import due_shares, sample_rows

_SAMPLE = 20_000  # impressions behind a curve
_BINS = np.linspace(0, 2, 21)  # ages of purchases, in periods
_FEW = 20  # impressions; the mean of fewer is not drawn


@in_style
def plot_world(dataset: Dataset, auc: Mapping[int, float], best: float, path: Path) -> None:
    """Draw a world.

    Args:
        auc: expected AUC of the oracles that see the last behaviors, by length; 0 sees none.
        best: expected AUC of the true probabilities.
        path: file to write; its suffix (``.svg``, ``.png``, ``.pdf``) chooses the format.
    """
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    config = world_facts(dataset).options
    figure.suptitle(
        f"{dataset.schema.name}, seed {config.seed}: a simulated market, its truth known",
        fontsize=13,
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    axes = figure.subplots(2, 2, width_ratios=(3, 2))
    _plot_life(axes[0, 0], dataset)
    rows = sample_rows(dataset.part("test"), _SAMPLE)
    truth = true_probability(dataset, rows)
    _plot_probabilities(axes[0, 1], truth)
    _plot_needs(axes[1, 0], due_shares(dataset, rows), truth)
    _plot_lengths(axes[1, 1], auc, best)
    with replacing(path) as partial:
        save_figure(figure, partial, dpi=120)


def _plot_life(axes: Axes, dataset: Dataset) -> None:
    """Behaviors of one user by day and category; the days of each part are told."""
    offsets = np.asarray(dataset.users["offsets"])
    count = np.diff(offsets)
    user = int(np.argsort(count)[len(count) // 2])
    lived = slice(int(offsets[user]), int(offsets[user + 1]))
    past = dataset.behaviors
    category = make_market(world_facts(dataset).options).category
    kind = category[np.asarray(dataset.items["ids"])[past["item"][lived]]]
    day = (np.asarray(past["time"][lived]) - START) / DAY
    action = np.asarray(past[column_of("action")])[lived]
    index = dataset.encoder.vocabulary("action").encode(ACTIONS)
    shades, sizes = (FAINT, COLORS[1], COLORS[2]), (6, 22, 22)
    for name, code, color, size in zip(ACTIONS.to_pylist(), index, shades, sizes, strict=True):
        some = action == code
        axes.scatter(day[some], kind[some], s=size, color=color, label=name, linewidths=0, zorder=2)
    for first, part in zip(dataset.boundaries, PARTS[1:], strict=False):
        axes.axvline((first - START) / DAY, color=MUTED, lw=1, ls="--")
        above = axes.get_xaxis_transform()
        side = "right" if part == "valid" else "left"
        axes.text((first - START) / DAY, 1.01, f" {part} ", transform=above, color=MUTED, fontsize=8, ha=side)
    axes.set_title("The life of one user", pad=16)
    axes.set(xlabel="day", ylabel="category")
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0.2, 0.99), borderaxespad=0.2)


def _plot_probabilities(axes: Axes, truth: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    """Histogram of the true probabilities, on a logarithmic scale."""
    edges = np.logspace(-4, 0, 41)
    share = 100 * np.histogram(np.clip(truth, 1e-4, 1), edges)[0] / max(len(truth), 1)
    axes.bar(edges[:-1], share, width=np.diff(edges), align="edge", color=COLORS[0], linewidth=0)
    axes.axvline(float(truth.mean()), color=COLORS[1], lw=1.5)
    axes.annotate(
        f"mean {truth.mean():.3f}",
        (float(truth.mean()), 0.95),
        (5, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        color=COLORS[1],
        fontsize=9,
    )
    axes.set_xscale("log")
    axes.set_title("True probabilities, % of impressions")
    axes.set_xlabel("click probability")


def _plot_needs(
    axes: Axes,
    share: "np.ndarray[tuple[int], np.dtype[np.float32]]",
    truth: "np.ndarray[tuple[int], np.dtype[np.float32]]",
) -> None:
    """Mean true probability by the time since the last purchase in the category of the candidate."""
    place = np.digitize(share, _BINS) - 1
    inside = place < len(_BINS) - 1
    count = np.bincount(place[inside], minlength=len(_BINS) - 1)
    total = np.bincount(place[inside], weights=truth[inside], minlength=len(_BINS) - 1)
    mean = np.where(count >= _FEW, total / np.maximum(count, 1), np.nan)
    axes.plot((_BINS[:-1] + _BINS[1:]) / 2, mean, "o-", color=COLORS[2], lw=1.8, ms=4)
    never = share > _BINS[-1]
    if never.sum() >= _FEW:
        axes.axhline(float(truth[never].mean()), color=MUTED, lw=1, ls="--")
        beside = axes.get_yaxis_transform()  # at the right edge, whatever ages there are
        axes.text(
            0.99,
            float(truth[never].mean()),
            "no such purchase",
            transform=beside,
            color=MUTED,
            fontsize=8,
            ha="right",
            va="bottom",
        )
    axes.set_ylim(bottom=0)
    axes.set_title("Recurring needs: mean click probability")
    axes.set_xlabel("time since the user's last purchase in the category, in periods of the category")


def _plot_lengths(axes: Axes, auc: Mapping[int, float], best: float) -> None:
    """Expected AUC of oracles by length; lengths are evenly spaced."""
    names = [f"{length:,}" if length else "none" for length in auc]
    axes.plot(range(len(auc)), list(auc.values()), "o-", color=COLORS[0], lw=1.8, ms=5)
    for place, value in enumerate(auc.values()):
        axes.annotate(
            f"{value:.3f}", (place, value), (8, -12), textcoords="offset points", ha="center", fontsize=8
        )
    axes.axhline(best, color=COLORS[1], lw=1.5)
    axes.text(0, best, f"the truth: {best:.3f}", color=COLORS[1], fontsize=9, va="bottom")
    axes.set_xticks(range(len(auc)), names)
    axes.margins(x=0.08, y=0.15)
    axes.set_title("Expected AUC by length")
    axes.set_xlabel("last behaviors that an oracle sees")
