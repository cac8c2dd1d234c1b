"""Records in LMDB: a file on this machine, which several processes may read and write.

By default a change is synced to the disk before it is acknowledged (`sync` and `metasync` are on, `writemap`
is off). So what was acknowledged survives the end of the process, of the machine, and of the power, as far as
the disk keeps its word. Without the sync it is in the hands of the system: it survives the end of the process
at any moment, but a power cut may damage the file. A reader sees the file as it was when it began and waits
for nobody.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from clickscale.errors import StoreError
from clickscale.serving.store.protocol import StoreFullError
from clickscale.serving.store.store_records import Key, Reader, Writer

T = TypeVar("T")
LARGEST = 1 << 40  # bytes of address space; the file takes only what it needs
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_LITTLE = 1 << 20  # bytes of a disk on which a write may have found no room
_READERS = 510  # threads that read at the same time, of all processes


class LMDBBackend:
    """Records of one LMDB folder.

    Args:
        largest: bytes beyond which the store takes no more.
        sync: wait for the disk before a change is acknowledged.

    Raises:
        StoreError: the folder cannot be opened, or this process has it open already.
    """

    kind = "lmdb"

    def __init__(self, folder: Path, largest: int = LARGEST, sync: bool = True) -> None:
        self._folder, self._process, self._sync = folder, os.getpid(), sync
        with self._told("opened"):
            folder.mkdir(parents=True, exist_ok=True)
            self._environment: Any = lmdb.open(
                str(folder),
                map_size=largest,
                max_readers=_READERS,
                sync=sync,
                metasync=sync,
                writemap=False,
                readahead=False,  # keys of one request lie all over the file
            )
            self._environment.reader_check()  # slots of processes that were killed

    def view(self, work: Callable[[Reader], T]) -> T:
        """Read at one moment."""
        with self._told("read"), self._environment.begin(buffers=False) as transaction:
            return work(Reader(_fetch_from(transaction)))

    def change(self, work: Callable[[Writer], T]) -> T:
        """Read and write at one moment, and sync."""
        with self._told("written"), self._environment.begin(write=True) as transaction:
            writer = Writer(Reader(_fetch_from(transaction)))
            result = work(writer)
            for owner in writer.changes.owners:
                _delete_owner(transaction, owner)
            for (owner, name), record in sorted(writer.changes.records.items()):
                if record is None:
                    transaction.delete(owner + name)
                else:
                    transaction.put(owner + name, record)
            return result

    def size(self) -> tuple[int, int]:
        """Number of records and of bytes of the file that are in use."""
        with self._told("read"):
            stat, info = self._environment.stat(), self._environment.info()
            return int(stat["entries"]), (int(info["last_pgno"]) + 1) * int(stat["psize"])

    def warnings(self) -> tuple[str, ...]:
        """What a power cut may do."""
        if self._sync:
            return ()
        return ("sync=system leaves writing to the system: a power cut may damage the store.",)

    def close(self) -> None:
        """Sync and close the file."""
        if not self._sync:
            with self._told("synced"):
                self._environment.sync(True)
        self._environment.close()

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Turn errors of LMDB and of the system into `StoreError`."""
        if self._process != os.getpid():
            raise StoreError(
                f"The store {self._folder} was opened before this process was forked; open it after the fork."
            )
        try:
            yield
        except lmdb.MapFullError as error:
            raise StoreFullError(
                f"The store {self._folder} is full; nothing was written. Open it with more bytes: "
                f"lmdb://{self._folder.absolute()}?bytes=N"
            ) from error
        except (lmdb.Error, OSError) as error:
            kind = StoreFullError if self._has_no_room(str(error)) else StoreError
            raise kind(
                f"The store {self._folder} cannot be {done} ({error}); nothing was written."
            ) from error

    def _has_no_room(self, reason: str) -> bool:
        """True if a write failed because the disk is full."""
        # LMDB names the reason in its text only, and calls it an input/output error if a part was written.
        if any(full in reason for full in _FULL):
            return True
        try:
            space = os.statvfs(self._folder)
        except OSError:
            return False
        return os.strerror(errno.EIO) in reason and space.f_bavail * space.f_frsize < _LITTLE


def _fetch_from(transaction: Any) -> Callable[[Sequence[Key]], list[bytes | None]]:
    get = transaction.get

    def fetch(keys: Sequence[Key]) -> list[bytes | None]:
        return [get(owner + name) for owner, name in keys]

    return fetch


def _delete_owner(transaction: Any, owner: bytes) -> None:
    """Delete the records whose key begins with the owner, which is the beginning of no other owner."""
    with transaction.cursor() as cursor:
        found = cursor.set_range(owner)
        while found and cursor.key().startswith(owner):
            found = cursor.delete()
