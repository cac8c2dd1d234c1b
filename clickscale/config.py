"""Base of the typed options: a frozen struct, which stands beside what it configures.

`clickscale.config_text` reads, writes and overrides such structs.
"""

import msgspec

from clickscale.errors import ConfigError

LONGEST = 1_000_000  # behaviors that a history may have at most; anything larger is treated as a typo


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all option structs: immutable, keyword-only, unknown keys refused."""


def check_least(config: msgspec.Struct, least: int, *names: str) -> None:
    """Refuse numbers below ``least`` in the fields ``names``.

    Raises:
        ConfigError: names every field that is too small, and its value.
    """
    wrong = [f"{name} is {value}" for name in names if not (value := getattr(config, name)) >= least]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}; at least {least} is needed.")
