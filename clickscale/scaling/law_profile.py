"""The squared error of a power law for every exponent, and what it says about a value.

Given the exponent a and the shift B, a law is a straight line in ``(x - B)^-a``, so its ceiling and scale
have a closed form (variable projection). A grid of a and B hence shows the whole profile of the squared
error, for many data sets at once, and no start can miss the valley. The grid is zoomed into what matters.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clickscale.arrays import Floats

Form = Literal["saturating", "shifted", "gain"]

EXPONENTS: dict[Form, tuple[float, float]] = {
    "saturating": (0.02, 3.0),
    "shifted": (0.02, 3.0),
    "gain": (0.002, 2.0),
}
_LEAST_BASE = 1e-3  # what the shift leaves of the smallest x, in units of it
_POINTS = 160  # exponents of a grid
_SHIFTS = 16  # shifts of a grid
_REFINEMENTS = 4
_ROOM = 30.0  # times the variance above the smallest squared error: beyond any interval
_LEAST_NOISE = 1e-12  # variance: AUCs that agree to six digits are equal


@dataclass(frozen=True)
class _Grid:
    """Exponents (P,) and shifts (S,) to try, in every combination; the G = S P laws are flat, shifts first.

    Attributes:
        bases: what the shifts leave of the smallest x, in units of it; 1 is no shift.
    """

    form: Form
    exponents: Floats
    bases: Floats

    def powers(self, z: Floats) -> Floats:
        """The power of every z, in units of the smallest x, under every law: (G, Z)."""
        sign = 1.0 if self.form == "gain" else -1.0
        base = np.maximum(z[None, :] - 1.0 + self.bases[:, None], _LEAST_BASE)  # (S, Z)
        powers = base[:, None, :] ** (sign * self.exponents[None, :, None])  # (S, P, Z)
        return np.asarray(powers.reshape(-1, len(z)))  # (S, P, Z) -> (G, Z)

    def law(self, index: int) -> tuple[float, float]:
        """(exponent, base) of a law."""
        shift, exponent = divmod(index, len(self.exponents))
        return float(self.exponents[exponent]), float(self.bases[shift])

    def by_exponent(self, squares: Floats) -> Floats:
        """Smallest squared error of each exponent over all shifts: (N, G) -> (N, P)."""
        cube = squares.reshape(len(squares), len(self.bases), len(self.exponents))  # (N, G) -> (N, S, P)
        return np.asarray(cube.min(axis=1))


@dataclass(frozen=True)
class Ladder:
    """What is fixed about the rungs of a fit: z (R,) in units of the smallest x, and weights (R,).

    Attributes:
        top: the ceiling cannot be higher.
    """

    z: Floats
    weights: Floats
    top: float


@dataclass(frozen=True)
class Profile:
    """The best line for each of the G laws of a grid, for N data sets of the same rungs.

    Attributes:
        ceiling, scale, squares: (N, G); a law is ``ceiling - scale * power``.
        mean, spread: (G,) weighted mean of the powers, and sum of squares around it.
        total: sum of the weights.
    """

    grid: _Grid
    ceiling: Floats
    scale: Floats
    squares: Floats
    mean: Floats
    spread: Floats
    total: float

    def values(self, z: float, above: float | None = None) -> Floats:
        """Values of all laws at z: (N, G); those at infinity are the ceilings.

        Args:
            above: another place; the values are those by which the law at z lies above it.
        """
        if above is not None:
            return np.asarray(-self.scale * (self._power(z) - self._power(above)))
        return np.asarray(self.ceiling - self.scale * self._power(z))

    def leverage(self, z: float, above: float | None = None) -> Floats:
        """Variance of these values in units of that of a cell: (G,)."""
        power = self._power(z)
        if above is not None:
            return np.asarray((power - self._power(above)) ** 2 / self.spread)
        if self.grid.form == "gain":
            return np.asarray(power**2 / self.spread)
        return np.asarray(1.0 / self.total + (power - self.mean) ** 2 / self.spread)

    def best(self) -> Floats:
        """Smallest squared errors: (N,)."""
        return np.asarray(self.squares.min(axis=1))

    def best_values(self, z: float, above: float | None = None) -> Floats:
        """Values of the best laws at z: (N,)."""
        best = self.squares.argmin(axis=1)
        return np.asarray(self.values(z, above)[np.arange(len(best)), best])

    def best_exponents(self) -> Floats:
        """Exponents of the best laws: (N,)."""
        return np.asarray(self.grid.exponents[self.squares.argmin(axis=1) % len(self.grid.exponents)])

    def _power(self, z: float) -> Floats:
        return self.grid.powers(np.array([z]))[:, 0]  # (G, 1) -> (G,)


def solve(grid: _Grid, ladder: Ladder, means: Floats, within: Floats) -> Profile:
    """The best line for every law.

    Args:
        means: (N, R) of the rungs. within: (N,) squares of the seeds around them.
    """
    powers, weights, total = grid.powers(ladder.z), ladder.weights, float(ladder.weights.sum())
    if grid.form == "gain":
        spread = powers**2 @ weights
        crossed = (means * weights) @ powers.T  # (N, G)
        squares = (means**2 @ weights)[:, None] - crossed**2 / spread
        squares = np.maximum(squares, 0.0) + within[:, None]
        return Profile(grid, np.zeros_like(crossed), -crossed / spread, squares, spread * 0, spread, total)
    mean = powers @ weights / total
    centered = powers - mean[:, None]
    spread = centered**2 @ weights
    level = (means @ weights / total)[:, None]  # (N, 1)
    around = means - level
    crossed = (around * weights) @ centered.T  # (N, G)
    scale = np.maximum(-crossed / spread, 0.0)  # a law that falls is none; the best it can be is flat
    ceiling = level + scale * mean
    squares = (around**2 @ weights)[:, None] - scale**2 * spread
    over = ceiling > ladder.top
    pressed = (ceiling - ladder.top) ** 2 / (1.0 / total + mean**2 / spread)
    under = ((ladder.top - means) * weights) @ powers.T / (powers**2 @ weights)  # scales with ceiling = top
    squares = np.maximum(squares + np.where(over, pressed, 0.0), 0.0) + within[:, None]
    scale = np.where(over, np.maximum(under, 0.0), scale)
    return Profile(grid, np.minimum(ceiling, ladder.top), scale, squares, mean, spread, total)


def zoomed(form: Form, ladder: Ladder, means: Floats, within: float, freedom: float) -> Profile:
    """The profile of one data set on a grid that is fine where its squared error is small.

    Args:
        means: (R,). within: squares of the seeds around them.
        freedom: cells less parameters.
    """
    low, high = EXPONENTS[form]
    least, most = (_LEAST_BASE, 1.0) if form == "shifted" else (1.0, 1.0)
    while True:
        bases = np.geomspace(least, most, _SHIFTS) if form == "shifted" else np.ones(1)
        grid = _Grid(form, np.geomspace(low, high, _POINTS), bases)
        profile = solve(grid, ladder, means[None], np.array([within]))
        near = profile.squares[0] <= profile.best()[0] + _ROOM * variance_of(profile.best(), freedom)[0]
        near = near.reshape(len(bases), _POINTS)  # (G,) -> (S, P)
        (kept,), (shifts,) = np.nonzero(near.any(axis=0)), np.nonzero(near.any(axis=1))
        first, last = max(kept[0] - 1, 0), min(kept[-1] + 1, _POINTS - 1)
        if last - first > _POINTS // 3:
            return solve(_with_best(profile, ladder, means), ladder, means[None], np.array([within]))
        low, high = float(grid.exponents[first]), float(grid.exponents[last])
        if form == "shifted":
            least = float(bases[max(shifts[0] - 1, 0)])
            most = float(bases[min(shifts[-1] + 1, len(bases) - 1)])


def _with_best(profile: Profile, ladder: Ladder, means: Floats) -> _Grid:
    """The grid of a profile, and in it exponent and shift of the smallest squared error."""
    grid, inner = profile.grid, profile
    for _ in range(_REFINEMENTS):
        exponent, base = inner.grid.law(int(inner.squares[0].argmin()))
        exponents, bases = _around(inner.grid.exponents, exponent), _around(inner.grid.bases, base)
        inner = solve(_Grid(grid.form, exponents, bases), ladder, means[None], np.zeros(1))
    exponent, base = inner.grid.law(int(inner.squares[0].argmin()))
    return _Grid(grid.form, np.union1d(grid.exponents, exponent), np.union1d(grid.bases, base))


def _around(values: Floats, value: float) -> Floats:
    """As many values between the neighbors of one."""
    place = int(np.searchsorted(values, value))
    low, high = values[max(place - 1, 0)], values[min(place + 1, len(values) - 1)]
    return np.geomspace(low, high, len(values))


def variance_of(squares: Floats, freedom: float) -> Floats:
    """Variance of a cell, never quite zero."""
    return np.maximum(squares / freedom, _LEAST_NOISE)
