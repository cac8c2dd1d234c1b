"""All errors that clickscale raises.

::

    ClickscaleError
    ├── ConfigError        an option, override or file of options is wrong
    │   └── SchemaError    the description of a log is wrong
    ├── DataError          a raw log or a prepared data set is wrong
    │   ├── InputError     a table or request cannot be read as described
    │   └── DamagedError   bytes on disk are not the bytes that were written
    ├── RunError           a training run cannot start, continue or be read
    │   └── DivergedError  the loss or a gradient stopped being a number
    ├── ArtifactError      a model folder cannot be loaded or does not fit
    └── StoreError         the store of a server does not work

A message names the thing, the value and the way out.
"""

import difflib
from collections.abc import Iterable


class ClickscaleError(Exception):
    """Base of every error that clickscale raises."""


class ConfigError(ClickscaleError):
    """An option, an override or a file of options is wrong."""


class SchemaError(ConfigError):
    """The description of a log contradicts itself or the log."""


class DataError(ClickscaleError):
    """A raw log or a prepared data set is wrong."""


class InputError(DataError):
    """A table or a request cannot be read as described."""


class DamagedError(DataError):
    """Bytes on disk are not the bytes that were written."""


class RunError(ClickscaleError):
    """A training run cannot start, continue or be read."""


class DivergedError(RunError):
    """The loss or a gradient stopped being a number."""


class ArtifactError(ClickscaleError):
    """A model folder cannot be loaded or does not fit what is asked of it."""


class StoreError(ClickscaleError):
    """The store of a server cannot be reached, has no room left, or is damaged."""


def unknown(thing: str, value: str, known: Iterable[str]) -> str:
    """Sentence for a name that is not known: the value, the nearest known name, all known names."""
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"Unknown {thing} {value!r}{hint} Known: {', '.join(names) or 'none'}."
