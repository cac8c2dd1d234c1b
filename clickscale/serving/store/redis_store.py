"""Records in Redis or Valkey, which several machines may share.

Records of nobody are plain keys, those of a user are fields of one hash, so that a user is deleted by one
command. A change is a transaction (WATCH, MULTI, EXEC), which is done again if somebody else changed what it
read. Whether an acknowledged change survives the end of the server depends on its settings; see `warnings`.

A server that hangs costs each caller the whole timeout. So after one timeout nobody waits for it any more:
calls fail at once, until the server answers a thread that asks it every quarter of a second.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from clickscale.errors import StoreError
from clickscale.serving.store.protocol import StoreFullError
from clickscale.serving.store.store_records import NOBODY, Changes, Key, Reader, Writer

T = TypeVar("T")
_PREFIX = b"clickscale:"
_TRIES = 200  # of a transaction that others disturb
_PATIENCE = 2.0  # seconds for a connection or an answer
_LOOK = 0.25  # seconds between two looks at a server that did not answer in time


class _DisturbedError(Exception):
    """What a reader has read was changed meanwhile."""


class RedisBackend:
    """Records of one Redis database.

    Args:
        url: as redis-py takes it, such as ``redis://localhost:6379/0`` or ``unix:///run/redis.sock``.

    Raises:
        StoreError: the server does not answer.
    """

    kind = "redis"

    def __init__(self, url: str) -> None:
        # No retries below ours: a command whose answer was lost may have been done.
        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE, retry=Retry(NoBackoff(), 0)
        )
        self._lock = threading.Lock()
        self._hangs = self._closed = False
        try:
            self._client.ping()
        except (redis.RedisError, OSError) as error:
            raise StoreError(
                f"No store answers at {self._address} ({error}); start its server, or correct the URL."
            ) from error

    @property
    def _address(self) -> str:
        where = self._client.connection_pool.connection_kwargs
        return where.get("path") or f"{where.get('host')}:{where.get('port')}"

    def view(self, work: Callable[[Reader], T]) -> T:
        """Read at one moment: a second fetch reads the first again, and begins anew if it differs."""
        for _ in range(_TRIES):
            held: dict[Key, bytes | None] = {}

            def fetch(keys: Sequence[Key], held: dict[Key, bytes | None] = held) -> list[bytes | None]:
                found = dict(zip([*held, *keys], self._read([*held, *keys]), strict=True))
                if any(found[key] != record for key, record in held.items()):
                    raise _DisturbedError
                held.update(found)
                return [found[key] for key in keys]

            try:
                return work(Reader(fetch))
            except _DisturbedError:
                continue
        raise _too_busy()

    def change(self, work: Callable[[Writer], T]) -> T:
        """Read and write at one moment."""
        with self._told():
            for attempt in range(_TRIES):
                with self._client.pipeline(transaction=True) as pipe:

                    def fetch(keys: Sequence[Key], pipe: Any = pipe) -> list[bytes | None]:
                        with self._told():
                            return _watched(pipe, keys)

                    writer = Writer(Reader(fetch))
                    result = work(writer)
                    try:
                        self._write(pipe, writer.changes)
                        return result
                    except redis.WatchError:
                        time.sleep(random.random() * 0.001 * min(attempt, 20))
            raise _too_busy()

    def _read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read records at one moment, in one round trip."""
        with self._told():
            try:
                return self._fetch(keys, transaction=True)
            except redis.exceptions.OutOfMemoryError:
                # With a full memory the server takes no transaction, not even one that only reads.
                found = self._fetch(keys, transaction=False)
                for _ in range(_TRIES):
                    found, before = self._fetch(keys, transaction=False), found
                    if found == before:
                        return found
        raise _too_busy()

    def _fetch(self, keys: Sequence[Key], transaction: bool) -> list[bytes | None]:
        commands = _reads(keys)
        # A command alone is a transaction, and costs half as much without the words for one.
        with self._client.pipeline(transaction=transaction and len(commands) > 1) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return _in_order(keys, pipe.execute())

    def _write(self, pipe: Any, changes: Changes) -> None:
        """Write changes in one transaction, in one round trip."""
        pipe.multi()
        plain: dict[bytes, bytes] = {}
        owned: dict[bytes, dict[bytes, bytes]] = {}
        for owner in changes.owners:
            pipe.unlink(_PREFIX + owner)
        for (owner, name), record in changes.records.items():
            if record is None:
                pipe.hdel(_PREFIX + owner, name) if owner else pipe.unlink(_PREFIX + name)
            elif owner:
                owned.setdefault(owner, {})[name] = record
            else:
                plain[_PREFIX + name] = record
        if plain:
            pipe.mset(plain)
        for owner, records in owned.items():
            pipe.hset(_PREFIX + owner, mapping=records)
        pipe.execute()

    def size(self) -> tuple[int, int]:
        """Number of keys, in which a user is one, and bytes of the server's memory."""
        with self._told():
            return int(self._client.dbsize()), int(self._client.info("memory")["used_memory"])

    def warnings(self) -> tuple[str, ...]:
        """Settings of the server under which acknowledged changes may be lost."""
        try:
            settings = self._client.config_get("append*", "maxmemory-policy")
        except redis.RedisError:
            return ("The server does not tell its settings; see that appendfsync is always.",)
        found = []
        if settings.get("appendonly") != "yes" or settings.get("appendfsync") != "always":
            found.append(
                "The server acknowledges events before they are on its disk; set appendonly yes and "
                "appendfsync always, or accept to lose the last ones when it crashes."
            )
        if settings.get("maxmemory-policy", "noeviction") != "noeviction":
            found.append("The server drops records when its memory is full; set maxmemory-policy noeviction.")
        return tuple(found)

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._client.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the client into `StoreError`, and raise at once while the server hangs."""
        if self._hangs:
            raise self._error("it did not answer in time")
        try:
            yield
        except (redis.RedisError, OSError) as error:
            if isinstance(error, redis.TimeoutError):
                self._ask_until_it_answers()
            raise self._error(error) from error

    def _error(self, reason: object) -> StoreError:
        # MISCONF: its disk is full, so that it takes no writes.
        is_full = isinstance(reason, redis.exceptions.OutOfMemoryError) or "MISCONF" in str(reason)
        kind = StoreFullError if is_full else StoreError
        text = f"The store at {self._address} does not work ({reason}); an append may be repeated safely."
        return kind(text)

    def _ask_until_it_answers(self) -> None:
        """Let a thread of its own find out when the server answers again."""
        with self._lock:
            if self._hangs:
                return
            self._hangs = True
        threading.Thread(target=self._ask, name="redis-asks", daemon=True).start()

    def _ask(self) -> None:
        while not self._closed:
            try:
                self._client.ping()
                break
            except (redis.RedisError, OSError):
                time.sleep(_LOOK)
        self._hangs = False


def _watched(pipe: Any, keys: Sequence[Key]) -> list[bytes | None]:
    """Watch records and read them in one round trip, for which a pipeline takes two.

    Whatever changes after the first command ends the transaction, so the reads need none of their own.
    """
    commands = [("WATCH", *dict.fromkeys(_place(key) for key in keys)), *_reads(keys)]
    connection = pipe.connection = pipe.connection or pipe.connection_pool.get_connection()
    pipe.watching = True
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        answers = [connection.read_response() for _ in commands]
    except BaseException:
        connection.disconnect()  # answers that nobody read would be taken for those of the next commands
        raise
    return _in_order(keys, answers[1:])


def _reads(keys: Sequence[Key]) -> list[tuple[str | bytes, ...]]:
    """Commands that read records: one for all of nobody, and one for each owner."""
    plain, owned = _by_owner(keys)
    commands: list[tuple[str | bytes, ...]] = []
    if plain:
        commands.append(("MGET", *(_PREFIX + name for name in plain)))
    return commands + [("HMGET", _PREFIX + owner, *names) for owner, names in owned.items()]


def _in_order(keys: Sequence[Key], answers: Sequence[list[bytes | None]]) -> list[bytes | None]:
    """Records in the order of the keys, from the answers to `_reads`."""
    plain, owned = _by_owner(keys)
    places = [(b"", name) for name in plain]
    places += [(owner, name) for owner, names in owned.items() for name in names]
    found = dict(zip(places, chain.from_iterable(answers), strict=True))
    return [found[key] for key in keys]


def _by_owner(keys: Sequence[Key]) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
    """Names of the records of nobody, and of those of each owner."""
    owned: dict[bytes, list[bytes]] = {}
    for owner, name in keys:
        owned.setdefault(owner, []).append(name)
    return owned.pop(NOBODY, []), owned


def _place(key: Key) -> bytes:
    owner, name = key
    return _PREFIX + (owner or name)


def _too_busy() -> StoreError:
    return StoreError("Others change the same records of the store all the time; repeat the call later.")
