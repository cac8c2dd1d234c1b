"""The versions of a model that a server holds: load, promote, canary, shadow, roll back, unload.

Everything here runs on the event loop but `load_model`, which runs in a thread of its own. A switch is one
assignment: requests that come later get the new version, those before it keep theirs until they are answered.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickscale.artifact import SERVING
from clickscale.errors import ArtifactError, ClickscaleError
from clickscale.files import sha256_text
from clickscale.inference.states.cache import StateCache
from clickscale.serving.messages import Refusal
from clickscale.serving.versions.publishing import POINTER, folder_of, pointed_version
from clickscale.serving.versions.served_model import ScoringConfig, ServedModel, StoreOf, load_model
from clickscale.serving.versions.trial import Kind, Trial, TrialConfig

_REMEMBERED = 20  # refused versions whose reason is told
_BUCKETS = 10_000
_LOG = logging.getLogger("clickscale.serving")


@dataclass(frozen=True)
class Source:
    """Where versions come from.

    Attributes:
        artifact: the folder that is served first, if it is one artifact.
        root: folder of published versions; None if one artifact is served.
    """

    artifact: Path | None
    root: Path | None

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Tell an artifact from a folder of published versions.

        Raises:
            ArtifactError: no version of the folder is promoted.
        """
        if (path / POINTER).is_file():
            return cls(None, path.resolve())
        if any(path.glob(f"*/{SERVING}")):
            raise ArtifactError(
                f"{path} holds published versions and no {POINTER} that names one; publish one without"
                " --no-promote."
            )
        return cls(path, None)


class ModelVersions:
    """Versions by name, which of them answers, and what became of the others.

    Args:
        store_of: the online store as the artifact of a version reads it; None without a store.
        changed: called after each change, with what happened.
    """

    def __init__(
        self,
        source: Source,
        scoring: ScoringConfig,
        trials: TrialConfig,
        cache: StateCache | None,
        store_of: StoreOf | None,
        changed: Callable[[str, str], None],
    ) -> None:
        self._source, self._scoring, self._trials = source, scoring, trials
        self._cache, self._store_of, self._changed = cache, store_of, changed
        self._held: dict[str, ServedModel] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}  # versions that wait for their last answer
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._loading: set[str] = set()
        self._lock = asyncio.Lock()
        self._current: ServedModel | None = None
        self.trial: Trial | None = None

    # --- who answers

    @property
    def current(self) -> ServedModel | None:
        """The version that answers, None before the first one is loaded."""
        return self._current

    def choose(self, user: str) -> ServedModel:
        """The version for a user: the canary for its share of all users, the current one otherwise.

        Raises:
            Refusal: 503 while nothing is loaded.
        """
        if self._current is None:
            raise Refusal(503, "not_ready", "No version of the model is loaded yet.", 1.0)
        trial = self.trial
        if trial is not None and trial.kind == "canary" and user:
            bucket = int(sha256_text(f"{trial.newer}:{user}")[:8], 16) % _BUCKETS
            if bucket < trial.share * _BUCKETS:
                return self._held[trial.newer]
        return self._current

    def other(self, model: ServedModel) -> ServedModel | None:
        """The other side of the trial that a version is in, if there is one."""
        trial = self.trial
        if trial is None or model.version not in (trial.newer, trial.older):
            return None
        return self._held.get(trial.older if model.version == trial.newer else trial.newer)

    def named(self, version: str) -> ServedModel:
        """A loaded version.

        Raises:
            Refusal: 404.
        """
        if version not in self._held or version in self._leaving:
            raise Refusal(404, "unknown_version", f"There is no loaded version {version[:64]!r}.")
        return self._held[version]

    # --- changes

    async def start(self) -> None:
        """Load and serve the first version.

        Raises:
            ClickscaleError: it cannot be served.
        """
        async with self._lock:
            if self._source.root is not None:
                version = pointed_version(self._source.root)
                model = await self._load(version, folder_of(self._source.root, version))
            else:
                assert self._source.artifact is not None, "a source has a folder of one kind"
                model = await self._load("", self._source.artifact)
            self._held[model.version] = self._current = model
            model.facts.served_since = time.time()
            self._changed("serving", model.version)

    async def load(self, version: str) -> ServedModel:
        """Load a published version beside the one that answers.

        Raises:
            Refusal: 409 with the reason, 404 if there is none of this name; the version that answers keeps
                doing so.
        """
        async with self._lock:
            return await self._hold(version)

    async def promote(self, version: str) -> None:
        """Let a version answer from now on, and watch it against the one before."""
        async with self._lock:
            model, before = await self._hold(version), self._current
            if model is before:
                return
            self._end_trial(model, before)
            self._current = model
            model.facts.served_since = time.time()
            self._changed("promoted", version)
            if before is not None:
                self._begin("promoted", model, before)

    async def try_out(self, version: str, kind: Kind, share: float) -> None:
        """Let a version score beside the current one: as a shadow, or as canary for a share of the users."""
        async with self._lock:
            model, before = await self._hold(version), self._current
            if before is None or model is before:
                raise Refusal(409, "not_possible", f"Version {version!r} answers already.")
            self._end_trial(model, before)
            self._begin(kind, model, before, share)
            self._changed(kind, version)

    async def unload(self, version: str) -> None:
        """Let go of a version once its last request is answered.

        Raises:
            Refusal: 409 for the one that answers, 404 for one that is not there.
        """
        async with self._lock:
            model = self.named(version)
            if model is self._current:
                raise Refusal(409, "not_possible", f"Version {version!r} answers; promote another one first.")
            if self.trial is not None and version in (self.trial.newer, self.trial.older):
                self.trial = None
            leaving = self._let_go(model)
        await asyncio.wait([leaving])  # without the lock, and whatever becomes of it

    async def judge(self) -> None:
        """Take the newer version of a trial back if something speaks against it; end a trial that is over."""
        trial = self.trial
        if trial is None:
            return
        if objection := trial.objection():
            async with self._lock:
                if self.trial is trial:
                    self._take_back(trial, objection)
        elif trial.kind == "promoted" and time.monotonic() - trial.begun > self._trials.seconds:
            async with self._lock:
                if self.trial is trial:
                    self.trial = None
                    self._let_go(self._held[trial.older])

    async def follow(self) -> None:
        """Promote the version that the pointer names, if it changed; a version that was refused stays out."""
        assert self._source.root is not None, "one artifact has no pointer"
        try:
            loop = asyncio.get_running_loop()  # as in `_hold`
            version = await loop.run_in_executor(self._loader, pointed_version, self._source.root)
        except ArtifactError as error:
            _LOG.warning("The pointer cannot be read: %s", error)
            return
        if (self._current is None or version != self._current.version) and version not in self._refused:
            try:
                await self.promote(version)
            except Refusal as error:
                _LOG.warning("Version %s is not served: %s", version, error)

    def forget(self, user: Any, tenants: tuple[str, ...]) -> int:
        """Delete the kept states of a user for all versions; the number deleted."""
        return sum(model.scorer.forget(user, tenant) for model in self._held.values() for tenant in tenants)

    async def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def facts(self) -> dict[str, Any]:
        """Versions and what they do, for ``GET /v1/models``."""
        trial = self.trial
        versions = []
        for name, model in self._held.items():
            doing = "serving" if model is self._current else "leaving" if name in self._leaving else "loaded"
            if trial is not None and name in (trial.newer, trial.older) and model is not self._current:
                doing = trial.kind if name == trial.newer else "previous"
            versions.append(
                {
                    "version": name,
                    "state": doing,
                    "model": model.artifact.config.model,
                    "grade": model.artifact.config.grade,
                    "length": model.artifact.config.length,
                    "labels": list(model.labels),
                    "digest": model.artifact.digest,
                    "requests": model.facts.requests,
                    "failed": model.facts.failed,
                    "not_finite": model.facts.not_finite,
                    "in_flight": model.facts.in_flight,
                }
            )
        versions += [{"version": name, "state": "loading"} for name in sorted(self._loading)]
        versions += [
            {"version": name, "state": "refused", "reason": reason} for name, reason in self._refused.items()
        ]
        return {"models": versions, "trial": trial.facts() if trial is not None else None}

    # --- steps

    async def _hold(self, version: str) -> ServedModel:
        """A version that is loaded, or is loaded now; one that was about to go stays."""
        if version in self._held:
            if (leaving := self._leaving.pop(version, None)) is not None:
                leaving.cancel()
            return self._held[version]
        if self._source.root is None:
            raise Refusal(
                409,
                "not_possible",
                "This server was started with one artifact. To change versions, publish them"
                " (clickscale publish) and start it with their folder.",
            )
        try:
            # In the thread of the loader, since the disk may be slow and the loop answers requests.
            loop = asyncio.get_running_loop()
            folder = await loop.run_in_executor(self._loader, folder_of, self._source.root, version)
        except ArtifactError as error:  # it may be published later, so it is not among those refused
            raise Refusal(404, "unknown_version", str(error)) from error
        try:
            model = await self._load(version, folder)
        except Exception as error:
            # Whatever it is, the version is refused: a follower would try to load it again and again.
            reason = str(error) if isinstance(error, ClickscaleError) else _strange(error)
            self._refuse(version, reason)
            raise Refusal(409, "refused", reason) from error
        self._refused.pop(version, None)
        self._held[version] = model
        return model

    async def _load(self, version: str, folder: Path) -> ServedModel:
        self._loading.add(version)
        try:
            loop, before = asyncio.get_running_loop(), self._current
            return await loop.run_in_executor(
                self._loader,
                lambda: load_model(folder, version, self._scoring, self._cache, self._store_of, before),
            )
        finally:
            self._loading.discard(version)

    def _begin(self, kind: Kind, newer: ServedModel, older: ServedModel, share: float = 0.0) -> None:
        self.trial = Trial(kind, newer.version, older.version, self._trials, time.monotonic(), share)

    def _end_trial(self, *staying: ServedModel | None) -> None:
        """End a trial before another one begins; a version that is not part of that one goes."""
        trial, self.trial = self.trial, None
        if trial is not None:
            for name in (trial.newer, trial.older):
                if self._held[name] not in staying:
                    self._let_go(self._held[name])

    def _take_back(self, trial: Trial, objection: str) -> None:
        newer, older = self._held[trial.newer], self._held[trial.older]
        self.trial = None
        if self._current is newer:
            self._current = older
        self._refuse(trial.newer, f"taken back: {objection}")
        self._changed("rolled_back", trial.newer)
        self._let_go(newer)

    def _refuse(self, version: str, reason: str) -> None:
        self._refused[version[:64]] = reason
        while len(self._refused) > _REMEMBERED:
            self._refused.popitem(last=False)
        _LOG.error("Version %s is refused: %s", version[:64], reason)
        self._changed("refused", version[:64])

    def _let_go(self, model: ServedModel) -> "asyncio.Task[None]":
        """Take no more requests for a version, and drop it after its last answer."""
        if model.version not in self._leaving:
            self._leaving[model.version] = asyncio.get_running_loop().create_task(self._drop(model))
        return self._leaving[model.version]

    async def _drop(self, model: ServedModel) -> None:
        while model.facts.in_flight:
            await asyncio.sleep(0.01)
        del self._leaving[model.version], self._held[model.version]
        self._changed("unloaded", model.version)


def _strange(error: Exception) -> str:
    """Reason of a refusal for an error that nobody foresaw; its text may hold anything, so the log has it."""
    _LOG.error("Loading a version failed.", exc_info=error)
    return f"Loading it failed with {type(error).__name__}; the log of the server says where."
