"""Stores by their URL."""

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from clickscale.artifact import Artifact
from clickscale.errors import ConfigError, StoreError, unknown
from clickscale.serving.store.keyed_store import AHEAD, KeyedStore
from clickscale.serving.store.memory import MemoryBackend
from clickscale.serving.store.reading import Reading
from clickscale.serving.store.store_records import Backend

_SCHEMES = ("memory", "lmdb", "redis", "rediss", "unix")
_LARGEST = 1 << 50
_SYNCS = ("disk", "system")


def open_store(url: str, reading: Reading) -> KeyedStore:
    """Open a store, or make it.

    Args:
        url: ``memory://``, ``lmdb://PATH``, or as redis-py takes it: ``redis://HOST:PORT/DATABASE``,
            ``rediss://...``, ``unix:///PATH``. After ``?``: ``behaviors=N`` of a user that a new store
            keeps, ``ahead=SECONDS`` by which events may be ahead of this machine's clock; of an LMDB store
            ``bytes=N`` that it may take, and ``sync=system`` to acknowledge events before they are on the
            disk.

    Raises:
        ConfigError: no such kind of store, or a wrong option.
        StoreError: the store does not work, or a package is not installed.
        DataError: it was made for other ids, labels or statistics.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigError(
            f"Store {url!r}: " + unknown("kind", parts.scheme, [f"{name}://" for name in _SCHEMES])
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    bound = _number(options, "behaviors", 1)
    ahead = _number(options, "ahead", 0)
    largest = _number(options, "bytes", 1 << 20) if parts.scheme == "lmdb" else None
    sync = options.pop("sync", _SYNCS[0]) if parts.scheme == "lmdb" else _SYNCS[0]
    if sync not in _SYNCS:
        raise ConfigError(f"Store {url!r}: " + unknown("value of sync", sync, _SYNCS))
    if parts.scheme in ("memory", "lmdb") and options:
        raise ConfigError(f"Store {url!r}: " + unknown("option", next(iter(options)), _OPTIONS))
    if parts.scheme == "memory":
        backend: Backend = MemoryBackend()
    elif parts.scheme == "lmdb":
        backend = _lmdb(url, parts.netloc + parts.path, largest, sync == "disk")
    else:
        backend = _redis(parts._replace(query=urlencode(options)).geturl())
    return KeyedStore(backend, reading, bound=bound, ahead=AHEAD if ahead is None else ahead)


class StoreAt:
    """Opens the store of a URL for the first artifact, and reads the same store for later versions."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._first: KeyedStore | None = None

    def __call__(self, artifact: Artifact) -> KeyedStore:
        """The store as an artifact reads it; errors as for `open_store`."""
        reading = Reading.of(artifact)
        if self._first is None:
            self._first = open_store(self._url, reading)
            self._first.check()  # a store that takes no events, or half a load, is found before it is needed
            return self._first
        return self._first.for_model(reading)


_OPTIONS = ("ahead", "behaviors", "bytes", "sync")


# Packages are imported only for the kind of store that needs them.


def _lmdb(url: str, path: str, largest: int | None, sync: bool) -> Backend:
    try:
        from clickscale.serving.store.lmdb_store import LARGEST, LMDBBackend
    except ImportError as error:
        raise _not_here(error) from error
    if not path.strip("/"):
        raise ConfigError(f"Store {url!r} names no folder; write lmdb:///PATH.")
    return LMDBBackend(Path(path), largest or LARGEST, sync)


def _redis(url: str) -> Backend:
    try:
        from clickscale.serving.store.redis_store import RedisBackend
    except ImportError as error:
        raise _not_here(error) from error
    try:
        return RedisBackend(url)
    except (ValueError, TypeError) as error:  # an option that redis-py does not know
        raise ConfigError(f"Store {url!r}: {error}.") from error


def _not_here(error: ImportError) -> StoreError:
    return StoreError(f"The store needs the package {error.name}: pip install 'clickscale[serve]'")


def _number(options: dict[str, str], name: str, least: int) -> int | None:
    """Take a whole number out of the options."""
    text = options.pop(name, None)
    if text is None:
        return None
    if not text.isdecimal() or not least <= int(text) <= _LARGEST:
        raise ConfigError(f"{name}={text!r} of the store's URL is no whole number from {least:,} on.")
    return int(text)
