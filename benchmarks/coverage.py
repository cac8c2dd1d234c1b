"""How often intervals cover the truth, and how often tests find a difference where there is none.

    python benchmarks/coverage.py [--repeats 1000] [--users 10,30,100,1000]

Draws logs from a known market: users of different activity and taste, and models whose errors are alike
within a user. The truth is measured once on a market of many users. Then each cell draws that many users
`repeats` times. "covers" is the share of nominal 95% intervals that hold the truth. "false" is the share of
tests at 5% that tell two models apart that are equally good (A/A). The last lines of a market give the mean
ECE, as measured and debiased. The model of the last market is calibrated, so its true ECE is 0.
"""

import argparse
from dataclasses import dataclass

import configured  # noqa: F401 - first, for its effect
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from clickscale.evaluation import delong, ece, paired_user_bootstrap, user_bootstrap

TITLES = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log-loss", "pcoc": "PCOC"}
TRUTH_USERS = 200_000


@dataclass(frozen=True)
class Market:
    """Users and two models.

    Attributes:
        activity: standard deviation of the logarithm of a user's impressions, of which 20 are the mean.
        base: logit of a mean impression.
        error: standard deviations of the models' errors, of a user and of a row.
    """

    activity: float
    base: float
    error: tuple[float, float] = (0.7, 1.0)

    def draw(
        self, users: int, random: np.random.Generator
    ) -> tuple[npt.NDArray[np.bool_], list[npt.NDArray[np.float64]], npt.NDArray[np.int64]]:
        """Labels, logits of two equally good models, users."""
        sizes = 20 * np.exp(self.activity * random.normal(size=users) - self.activity**2 / 2)
        user = np.repeat(np.arange(users), np.maximum(sizes.round().astype(int), 1))
        logit = self.base + random.normal(size=users)[user] + random.normal(size=len(user))
        labels = random.random(len(user)) < expit(logit)
        of_user, of_row = self.error
        models = [
            logit + of_user * random.normal(size=users)[user] + of_row * random.normal(size=len(user))
            for _ in range(2)
        ]
        return labels, models, user


MARKETS = {
    "Every fourth is clicked, users alike in activity": Market(activity=0.3, base=-1.5),
    "4% are clicked, few users make most impressions": Market(activity=1.3, base=-4.0),
    "Every fourth is clicked, calibrated models": Market(activity=0.3, base=-1.5, error=(0.0, 0.0)),
}


def cell(market: Market, truth: dict[str, float], users: int, repeats: int) -> dict[str, float]:
    """Shares of one market and number of users; only draws in which a result is defined count."""
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        labels, (a, b), user = market.draw(users, np.random.default_rng([users, repeat]))
        for name, interval in user_bootstrap(labels, a, user, seed=repeat).items():
            if name in TITLES and not interval.reason:
                covers = interval.low <= truth[name] <= interval.high
                found.setdefault(f"{TITLES[name]} covers", []).append(covers)
            elif name == "ece" and interval.value == interval.value:
                found.setdefault("ECE debiased", []).append(interval.value)
                found.setdefault("ECE measured", []).append(ece(labels, expit(a)))
        for name, test in paired_user_bootstrap(labels, a, b, user, seed=repeat).items():
            if not test.reason:
                found.setdefault(f"{TITLES[name]} false", []).append(test.p_value < 0.05)
        for name, groups in (("DeLong by users", user), ("DeLong by rows", None)):
            test = delong(labels, a, b, groups=groups)
            if not test.reason:
                found.setdefault(f"{name} false", []).append(test.p_value < 0.05)
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    """Print a table for each market."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--users", default="10,30,100,1000")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.users.split(",")]
    for title, market in MARKETS.items():
        labels, (logits, _), user = market.draw(TRUTH_USERS, np.random.default_rng(0))
        values = user_bootstrap(labels, logits, user, replicates=0)
        truth = {name: values[name].value for name in TITLES}
        true_ece = ece(labels, expit(logits)) if any(market.error) else 0.0
        cells = [cell(market, truth, count, arguments.repeats) for count in counts]
        print(f"\n{title}:\n\n| users | " + " | ".join(map(str, counts)) + " |")
        print("|---|" + "--:|" * len(counts))
        rows = [f"{name} covers" for name in TITLES.values()]
        if any(market.error):  # models without errors are one model
            rows += [f"{name} false" for name in (*TITLES.values(), "DeLong by users", "DeLong by rows")]
        for row in rows:
            print(f"| {row} | " + " | ".join(f"{found[row]:.3f}" for found in cells) + " |")
        for row in ("ECE measured", "ECE debiased"):
            values = " | ".join(f"{found[row]:.4f}" for found in cells)
            print(f"| {row} (true: {true_ece:.4f}) | {values} |", flush=True)


if __name__ == "__main__":
    main()
