"""Numbers made of other fields and of the time: ages, differences, distances, local times, matches.

`clickscale.schema.Derived` declares them. A model knows the day of an upload and the hour of an impression,
and cannot learn what they tell together: at the end of the log, items have days that training never saw. Nor
does it learn from few rows that a topic is among the interests of a user, since it learns pair by pair.

Preparation, training and serving make them here, from encoded columns, so they cannot disagree. They are
columns of impressions as statistics are, but no request carries them::

    batch = DerivedNumbers(encoder, dataset.item_columns()).fill(batch)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clickscale.arrays import Array, Floats, Floats32, Ints
from clickscale.batch import Batch
from clickscale.data.columns import NpyWriter, blocks, open_column
from clickscale.data.features.encoder import DAY, Encoder, owner
from clickscale.data.features.zones import utc_offsets
from clickscale.features import FIRST, UNKNOWN, Feature, Features, categorical, column_of, numeric
from clickscale.schema import Comparison, Derived

_ROUNDED = 1e-5  # deviations that float32 may lose
_EARTH = 6371.0  # kilometers, the mean radius
_LOCAL = ("local_hour", "local_weekday")
_THURSDAY = 3  # the first of January 1970, where Monday is 0
_PLACES = 2  # of the numbers of an offset; float32 has lost the others
_SHOWN = 3  # zones in a note
_Values = Callable[[str], Array]  # encoded values of a field: (N,), or (N, values) where it has several


class DerivedNumbers:
    """Makes the derived numbers of the candidates of batches; see the module docstring.

    Args:
        encoder: of a data set or an artifact; its schema declares the numbers.
        items: columns of the item table, as `Dataset.item_columns` gives them.
    """

    def __init__(self, encoder: Encoder, items: Mapping[str, Array]) -> None:
        self._encoder, self._items = encoder, items

    @cached_property
    def _features(self) -> Features:
        return self._encoder.features()

    def fill(self, batch: Batch) -> Batch:
        """Fill in the derived numbers of all candidates of a batch, which lies on the CPU."""
        declared = self._encoder.schema.derived
        if not declared:
            return batch
        side, user, shape = batch.candidates, batch.user, batch.candidates.items.shape
        items, times = side.items.numpy().ravel(), side.times.numpy().ravel()
        owner = np.repeat(np.arange(shape[0]), shape[1])  # (B * C,) row of the user of each candidate
        shown = _by_name(
            self._features.context, side.context.flatten(0, 1), side.context_numbers.flatten(0, 1)
        )
        profile = _by_name(self._features.profile, user.profile, user.profile_numbers)

        def values(name: str) -> Array:
            if (column := self._items.get(column_of(name))) is not None:
                return column[items]
            return shown[name] if name in shown else profile[name][owner]

        numbers = side.context_numbers.clone()
        names = [feature.name for feature in numeric(self._features.context)]
        for one in declared:
            raw = _raw(self._encoder, one, times, values)
            encoded = self._encoder.encode_raw(one.name, raw.astype(np.float64))
            numbers[:, :, names.index(one.name)] = torch.from_numpy(encoded.reshape(shape))
        return replace(batch, candidates=replace(side, context_numbers=numbers))


def write_derived(folder: Path, encoder: Encoder) -> list[str]:
    """Write the raw column of every derived number of an unfinished data set, beside its other columns.

    Args:
        encoder: with the scales of all fields that these numbers are made of.

    Returns:
        A note for each local time that impressions lack.
    """
    notes = []
    schema = encoder.schema
    time, user, item = (open_column(folder / f"impressions/{name}.npy") for name in ("time", "user", "item"))
    sides = {field.name: ("users", user) for field in schema.profile}
    sides |= {field.name: ("items", item) for field in schema.items}
    for one in schema.derived:
        columns = {
            name: (open_column(folder / side / f"{column_of(name)}.npy"), rows)
            for name in one.by
            for side, rows in [sides.get(name, ("impressions", None))]
        }
        lacking = 0
        with NpyWriter(folder / "impressions" / f"{column_of(one.name)}.npy", "f4") as writer:
            for block in blocks(len(time)):

                def values(name: str, block: slice = block, columns: _Sources = columns) -> Array:
                    column, rows = columns[name]
                    return column[block] if rows is None else column[rows[block]]

                made = _raw(encoder, one, time[block], values)
                lacking += int(np.isnan(made).sum())
                writer.append(made)
        if lacking and one.of in _LOCAL:
            notes.append(_note_on_zones(encoder, one, lacking, len(time)))
    return notes


def _note_on_zones(encoder: Encoder, number: Derived, lacking: int, total: int) -> str:
    """Say how many impressions have no zone, or one that nobody knows, with examples of these."""
    (name,) = number.by
    vocabulary = encoder.vocabularies.get(owner(encoder.schema, name))
    known = [] if vocabulary is None or vocabulary.values is None else vocabulary.values.to_pylist()
    strange = [repr(zone) for zone in known if np.isnan(utc_offsets(str(zone), np.zeros(1, np.int64)))[0]]
    such = f" such as {', '.join(strange[:_SHOWN])}" if strange else ""
    return (
        f"{number.name} is missing in {lacking:,} of {total:,} impressions, whose {name} is missing, rare or "
        f"no time zone{such}."
    )


_Sources = Mapping[str, tuple[Array, Array | None]]


def _raw(encoder: Encoder, number: Derived, times: Ints, values: _Values) -> Floats32:
    """(N,) values of a number at moments (N,) in seconds, before they are standardized; NaN if unknown."""
    if number.of == "matches":
        return _matches(*(values(name).reshape(len(times), -1) for name in number.by)).astype(np.float32)
    if number.of == "local_hour" or number.of == "local_weekday":
        clock = times + _offsets(
            encoder, number.by[0], values(number.by[0]).reshape(len(times), -1)[:, 0], times
        )
        made = clock % DAY / 3600 if number.of == "local_hour" else (clock // DAY + _THURSDAY) % 7
        return made.astype(np.float32)
    numbers = [encoder.decode_numbers(name, values(name)) for name in number.by]
    are_moments = encoder.field(number.by[0]).kind == "timestamp"
    if number.of == "age":
        made = (times - numbers[0]) / DAY
    elif number.of == "difference" and are_moments:
        made = (numbers[0] - numbers[1]) / DAY
    elif number.of == "distance":
        made = _kilometers(*numbers)
    else:
        # A number of 0 comes back as about 0, and would be a divisor.
        nothing = _ROUNDED * encoder.scales[number.by[1]].std
        made = compared(number.of, numbers[0], np.where(np.abs(numbers[1]) <= nothing, 0, numbers[1]))
    return made.astype(np.float32)


def _offsets(encoder: Encoder, name: str, encoded: Array, times: Ints) -> Floats:
    """(N,) seconds that clocks are ahead of UTC in encoded zones (N,); NaN where none is known."""
    offsets = np.full(len(times), np.nan)
    zones, place = _zones(encoder, name, encoded)
    for at, zone in enumerate(zones):
        rows = place == at
        offsets[rows] = utc_offsets(zone, times[rows])
    return offsets


def _zones(encoder: Encoder, name: str, encoded: Array) -> tuple[list[str], Ints]:
    """Texts of the different zones of a field, and the place (N,) of each row among them; -1 for none."""
    if encoder.field(name).kind == "numeric":
        numbers = encoder.decode_numbers(name, encoded).round(_PLACES)
        known, place = np.unique(numbers, return_inverse=True)
        zones = [f"{number:g}" for number in known[~np.isnan(known)].tolist()]
        return zones, np.where(np.isnan(numbers), -1, place)
    indices, place = np.unique(encoded, return_inverse=True)
    values, first = encoder.vocabulary(name).values, int((indices < FIRST).sum())
    assert values is not None, "the schema was checked: a zone has an exact vocabulary"
    zones = [str(zone) for zone in values.take(pa.array(indices[first:] - FIRST)).to_pylist()]
    return zones, np.maximum(place - first, -1)


def compared(of: Comparison, one: Floats, other: Floats) -> Floats:
    """(N,) differences, ratios or products of numbers (N,); a ratio to 0 is NaN."""
    if of == "difference":
        return one - other
    if of == "product":
        return one * other
    return np.divide(one, other, out=np.full(len(one), np.nan), where=other != 0)


def _kilometers(latitude: Floats, longitude: Floats, to_latitude: Floats, to_longitude: Floats) -> Floats:
    """(N,) lengths of great circles between points (N,) in degrees, by the haversine formula."""
    north, east, to_north, to_east = map(np.radians, (latitude, longitude, to_latitude, to_longitude))
    across = np.cos(north) * np.cos(to_north) * np.sin((to_east - east) / 2) ** 2
    chord = np.sin((to_north - north) / 2) ** 2 + across
    return 2 * _EARTH * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))


def _matches(one: Array, other: Array) -> Floats:
    """(N,) number of different indices in both (N, values); NaN where one has no known value."""
    found = np.zeros(len(one))
    for place in range(one.shape[1]):
        value = one[:, place, None]
        is_new = (one[:, :place] != value).all(axis=1)
        found += is_new & (value[:, 0] > UNKNOWN) & (other == value).any(axis=1)
    known = (one > UNKNOWN).any(axis=1) & (other > UNKNOWN).any(axis=1)
    return np.where(known, found, np.nan)


def _by_name(features: tuple[Feature, ...], indices: Tensor, numbers: Tensor) -> dict[str, Array]:
    """Divide the columns of one side of a batch, (N, columns) and (N, F), into those of each field."""
    columns: dict[str, Array] = {}
    begin = 0
    for feature in categorical(features):
        columns[feature.name] = indices[:, begin : begin + feature.values].numpy()
        begin += feature.values
    for place, feature in enumerate(numeric(features)):
        columns[feature.name] = numbers[:, place].numpy()
    return columns
