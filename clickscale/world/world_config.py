"""Options of a world: its size, the strength of every part of the click logit, and the presets."""

from typing import Literal

from msgspec.structs import replace

from clickscale.config import Config, check_least
from clickscale.errors import ConfigError

Preset = Literal["market", "easy", "cold"]

_MOST = 10**9  # impressions


class Strengths(Config, frozen=True):
    """Strength of each part of the click logit, in logits; 0 takes the part away.

    Attributes:
        taste: slowly drifting long-term taste of the user for the item.
        interest: likeness of the item to what the user looked at in the last minutes.
        lasting: the same for the last days.
        need: a recurring need for the category is due.
        complement: another category was bought, and this one follows after a delay.
        satiation: the category was looked at often in the last hours; lowers the logit.
        profile: age, gender and region of the user, by category.
        popularity: quality of the item, and how new it is.
        position: falls from the first place to the last.
        hour: hour of the day, by category.
        price: price of the impression against the usual one of the item; lowers the logit.
    """

    taste: float = 1.2
    interest: float = 4.0
    lasting: float = 4.0
    need: float = 3.5
    complement: float = 2.0
    satiation: float = 0.3
    profile: float = 0.4
    popularity: float = 0.4
    position: float = 0.5
    hour: float = 0.2
    price: float = 1.0


class WorldConfig(Config, frozen=True):
    """A world; the same options give the same bytes.

    Attributes:
        impressions: rounded up to whole requests.
        seed: of everything that is drawn.
        rate: click rate; a pilot of a few hundred users finds the intercept that gives it.
        days: length of the log.
        quiet_days: days at the start in which users visit but are shown nothing.
        visits: organic visits of a user, on average.
        browsed: behaviors of a visit, on average.
        requests: of a user, on average; a request shows `candidates` items in one moment.
        items, categories, factors: the catalogue, and the width of tastes and item factors.
        life: days that most items live; 0 for all items to be there from the first day to the last.
        period: shortest and longest period of a recurring need, in days.
        needy: share of the categories for which a user has a recurring need.
        minutes, lasting_days, drift_days, satiation_hours: time constants.
        clarity: how far visits follow the taste of the user rather than chance.
        targeted: share of the candidates that are drawn from categories likely for the user.
        noise: deviation of a content vector from the item factors, which have length 1.
        statistics: declare the usual statistics, as adapters of real logs do.
    """

    impressions: int
    preset: Preset = "market"
    seed: int = 0
    rate: float = 0.05
    days: int = 80
    quiet_days: int = 40
    visits: float = 80.0
    browsed: float = 12.0
    requests: float = 50.0
    candidates: int = 10
    items: int = 800
    categories: int = 40
    factors: int = 8
    life: float = 0.0
    period: tuple[float, float] = (3.0, 24.0)
    needy: float = 0.3
    minutes: float = 20.0
    lasting_days: float = 2.0
    drift_days: float = 30.0
    satiation_hours: float = 6.0
    clarity: float = 1.5
    targeted: float = 0.4
    noise: float = 0.7
    statistics: bool = False
    strengths: Strengths = Strengths()

    def check(self) -> "WorldConfig":
        """Return self, or refuse what cannot be simulated.

        Raises:
            ConfigError: names the option, its value and what it may be.
        """
        check_least(self, 1_000, "impressions")  # fewer give no users whose parts could be told apart
        check_least(self, 1, "visits", "browsed", "requests", "candidates", "factors")
        check_least(self, 2, "categories", "days")
        check_least(self, 0, "seed", "quiet_days", "life", "clarity", "noise")
        if self.impressions > _MOST:
            raise ConfigError(f"impressions is {self.impressions}; at most {_MOST:,} can be made.")
        if self.items < self.categories:
            raise ConfigError(f"{self.items} items cannot fill {self.categories} categories; add items.")
        if self.quiet_days >= self.days:
            raise ConfigError(f"quiet_days is {self.quiet_days} and days is {self.days}; give more days.")
        for name in ("rate", "needy", "targeted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share from 0 to 1.")
        if not 0.001 <= self.rate <= 0.5:
            raise ConfigError(f"rate is {self.rate}; a click rate from 0.001 to 0.5 can be reached.")
        for name in ("minutes", "lasting_days", "drift_days", "satiation_hours"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; a time constant is above 0.")
        if not 0 < self.period[0] <= self.period[1]:
            raise ConfigError(f"period is {self.period}; give the shortest and the longest, in days.")
        return self


def preset_config(preset: Preset, impressions: int, seed: int) -> WorldConfig:
    """Options of a preset.

    ``market`` tells sizes and lengths apart, ``easy`` has many clicks and few items, ``cold`` has short-lived
    items and users of few visits.
    """
    market = WorldConfig(impressions=impressions, preset=preset, seed=seed)
    if preset == "easy":
        return replace(
            market,
            rate=0.2,
            days=30,
            quiet_days=6,
            visits=30.0,
            browsed=8.0,
            requests=20.0,
            items=120,
            categories=12,
            strengths=Strengths(interest=7.0, lasting=3.0, popularity=0.8, need=0.0, complement=0.0),
        )
    if preset == "cold":
        return replace(
            market,
            days=40,
            quiet_days=4,
            visits=10.0,
            browsed=6.0,
            requests=6.0,
            items=4_000,
            life=5.0,
            noise=0.4,
        )
    return market
