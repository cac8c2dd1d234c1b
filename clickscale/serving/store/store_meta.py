"""The record of a store about itself: what it counts, how much it keeps, what was loaded."""

import msgspec

from clickscale.errors import DataError
from clickscale.schema import Label, Schema, Statistic
from clickscale.serving.store.store_records import NOBODY, Key, decoded
from clickscale.serving.store.user_records import VERSION, check_version

META: Key = (NOBODY, b"m")
BOUND = 10_000  # behaviors of a user that are kept unless told otherwise


class Loading(msgspec.Struct, frozen=True):
    """How far the load of a data set is.

    Attributes:
        data: hash of the manifest of the data set.
        moment: everything that happened before it is loaded.
        stage: ``items``, ``users``, ``counts`` or ``done``.
        position: rows of the stage that are written.
    """

    data: str
    moment: int
    stage: str = "items"
    position: int = 0


class StoreMeta(msgspec.Struct, frozen=True):
    """What a store was made for.

    Attributes:
        bound: behaviors of a user that are kept.
        ids: types of the ids of users and items.
    """

    ids: tuple[str, str]
    labels: tuple[Label, ...]
    statistics: tuple[Statistic, ...]
    bound: int
    loading: Loading | None = None
    used: bool = False
    version: int = VERSION

    @classmethod
    def of(cls, schema: Schema, bound: int) -> "StoreMeta":
        """Describe a new store for the logs of a schema."""
        types = (schema.user.dtype, schema.item.dtype)
        return cls(types, schema.labels, schema.statistics, bound)

    def check(self, schema: Schema) -> None:
        """Refuse a model that reads ids or counts otherwise.

        Raises:
            DataError: names the difference.
        """
        wanted = StoreMeta.of(schema, self.bound)
        for name in ("ids", "labels", "statistics"):
            if getattr(self, name) != getattr(wanted, name):
                raise DataError(
                    f"The store was made for other {name} than this model has; load a new one for its data "
                    "set: clickscale store load DATA --store URL"
                )

    @property
    def is_whole(self) -> bool:
        """True unless a load was begun and not finished."""
        return self.loading is None or self.loading.stage == "done"

    @property
    def loaded(self) -> int | None:
        """Moment up to which a data set was loaded."""
        return self.loading.moment if self.loading is not None and self.is_whole else None

    def record(self) -> bytes:
        """Write it."""
        return msgspec.msgpack.encode(self)


def read_meta(record: bytes | None) -> StoreMeta | None:
    """Read the record of a store about itself; None for a new store."""
    if record is None:
        return None
    check_version(decoded(record, _version_decoder, "the store").version)
    return decoded(record, _decoder, "the store")


class _Versioned(msgspec.Struct):
    version: int


_version_decoder = msgspec.msgpack.Decoder(_Versioned)
_decoder = msgspec.msgpack.Decoder(StoreMeta)
