"""How often intervals of power laws hold the truth, beside percentiles of refitted parameters.

    python benchmarks/law_coverage.py [--repeats 200]

Plants a law, measures a ladder of it with the noise of seeds (deviation of AUC 0.0007), fits, and predicts
one rung beyond. "covers" is the share of 90% intervals that hold the planted value, and for predictions the
mean of three new runs. "percentiles" are those of the same resamples, refitted. "told" is the share of
ladders whose points are said not to determine the law; their intervals count as well. The last line is that
of the joint law on 4 sizes, 5 lengths and 4 fractions without the largest corner, which it predicts.
"""

import argparse
import itertools
from dataclasses import dataclass

import configured  # noqa: F401 - first, for its effect
import numpy as np
import numpy.typing as npt

from clickscale.scaling.joint_law import fit_joint, place_of, sizes
from clickscale.scaling.ladders import Axis
from clickscale.scaling.law_profile import Form
from clickscale.scaling.points import Measured
from clickscale.scaling.power_law import PowerLaw, Rungs, fit_law

NOISE, SEEDS = 0.0007, 3
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """A law and the rungs on which it is measured; the last rung is the one to predict."""

    title: str
    x: tuple[float, ...]
    ceiling: float
    scale: float
    exponent: float
    shift: float = 0.0
    form: Form = "saturating"

    def values(self) -> Floats:
        return self.ceiling - self.scale * (np.array(self.x) - self.shift) ** -self.exponent


SIZES, LENGTHS, FRACTIONS = (1.0, 4.0, 20.0, 100.0), (10, 25, 50, 100, 200), (1 / 64, 1 / 16, 1 / 4, 1.0)
JOINT: dict[Axis, float] = {"compute": 0.35, "length": 0.5, "data": 0.3}
DOUBLING = tuple(2.0**k for k in range(7))
LAWS = (
    Planted("doublings, exponent 0.5", DOUBLING, 0.78, 0.06, 0.5),
    Planted("doublings, exponent 0.3", DOUBLING, 0.78, 0.06, 0.3),
    Planted("doublings, small climb", DOUBLING, 0.78, 0.03, 0.3),
    Planted("lengths 10 to 500", (10, 25, 50, 100, 200, 500, 1000), 0.75, 0.15, 0.7),
    Planted("factors of 4, exponent 0.25", tuple(4.0**k for k in range(7)), 0.75, 0.08, 0.25),
    Planted("shifted, 8 doublings", tuple(2.0**k for k in range(9)), 0.78, 0.06, 0.5, 0.3, "shifted"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="ladders of each law")
    repeats = parser.parse_args().repeats
    print(f"{repeats} ladders of each law, {SEEDS} seeds, noise {NOISE}, intervals of 90%\n")
    headers = ("law", "exponent covers", "ceiling covers", "prediction covers", "percentiles: exponent")
    print(f"| {' | '.join((*headers, 'percentiles: ceiling', 'told'))} |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for planted in LAWS:
        random = np.random.default_rng(0)
        shares = np.mean([_held(planted, random) for _ in range(repeats)], axis=0)
        print(f"| {planted.title} | {' | '.join(f'{share:.3f}' for share in shares)} |")
    random = np.random.default_rng(0)
    exponent, ceiling, prediction, told = np.mean([_held_by_joint(random) for _ in range(repeats)], axis=0)
    print(f"| joint law | {exponent:.3f} | {ceiling:.3f} | {prediction:.3f} | - | - | {told:.3f} |")


def _held(planted: Planted, random: np.random.Generator) -> list[bool]:
    """What the intervals of one measured ladder hold."""
    measured = planted.values()[:, None] + NOISE * random.standard_normal((len(planted.x), SEEDS))
    rungs = Rungs(np.array(planted.x), tuple(map(tuple, measured.tolist())))
    law = fit_law(rungs.only(slice(0, -1)), planted.form)
    predicted = law.predict(planted.x[-1], SEEDS)
    exponents, ceilings = _percentiles(law)
    return [
        law.exponent.low <= planted.exponent <= law.exponent.high,
        law.ceiling.low <= planted.ceiling <= law.ceiling.high,
        predicted.low <= float(measured[-1].mean()) <= predicted.high,
        exponents[0] <= planted.exponent <= exponents[1],
        ceilings[0] <= planted.ceiling <= ceilings[1],
        bool(law.verdict),
    ]


def _held_by_joint(random: np.random.Generator) -> list[float]:
    """What the intervals of a joint law hold; of the exponents, the share."""
    cells = [
        _cell(size, length, fraction, seed, NOISE * float(random.standard_normal()))
        for size, length, fraction in itertools.product(SIZES, LENGTHS, FRACTIONS)
        for seed in range(SEEDS)
    ]
    corner = [cell for cell in cells if cell.training_flops == max(c.training_flops for c in cells)]
    law = fit_joint([cell for cell in cells if cell not in corner])
    predicted = law.predict(place_of(corner[0], sizes(cells)), SEEDS)
    return [
        float(
            np.mean([law.exponents[axis].low <= a <= law.exponents[axis].high for axis, a in JOINT.items()])
        ),
        float(law.ceiling.low <= 0.8 <= law.ceiling.high),
        float(predicted.low <= np.mean([cell.auc for cell in corner]) <= predicted.high),
        float(bool(law.verdict)),
    ]


def _cell(size: float, length: int, fraction: float, seed: int, luck: float) -> Measured:
    """A cell of the planted joint law."""
    flops, impressions = round(1e5 * size * length), round(1e6 * fraction)
    gap = 0.02 * size ** -JOINT["compute"] + 0.04 * (length / LENGTHS[0]) ** -JOINT["length"]
    gap += 0.03 * (fraction / FRACTIONS[0]) ** -JOINT["data"]
    return Measured(
        model="suan",
        grade=f"{size:g}",
        length=length,
        fraction=fraction,
        seed=seed,
        label="click",
        impressions=impressions,
        dense_parameters=round(1e4 * size),
        flops=flops,
        training_flops=3.0 * flops * impressions,
        auc=0.8 - gap + luck,
        gauc=None,
        log_loss=0.2,
    )


def _percentiles(law: PowerLaw) -> tuple[Floats, Floats]:
    """Percentiles of the refitted exponents and ceilings of the resamples behind the intervals."""
    resampled = law._fitted.resampled
    ends = (0.05, 0.95)
    return np.quantile(resampled.best_exponents(), ends), np.quantile(resampled.best_values(np.inf), ends)


if __name__ == "__main__":
    main()
