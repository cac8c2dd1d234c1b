"""The journal of a search: what was asked for, then a line for every piece of training that is done.

::

    tuning.jsonl     {"options": {...}, "data": "hash of the data set"}
                     {"trial": 0, "seed": 0, "losses": [0.61, 0.6], "over": true, "seconds": 50.1, ...}
                     {"sha256": "hash of the lines before"}
    trial-000/       the run of each trial (see `clickscale.training.run.folder`)
    tuned.toml       options of the result

The file is replaced whole after each piece, so a search that is killed loses the piece in progress only, and
the trial continues that piece from its last checkpoint.
"""

import os
from pathlib import Path

import msgspec

from clickscale.config import Config
from clickscale.config_text import build
from clickscale.data.layout import MANIFEST
from clickscale.errors import RunError
from clickscale.files import checksum
from clickscale.locks import WRITER
from clickscale.sealed import read_documents, write_documents
from clickscale.training.run.folder import differences
from clickscale.training.run.run_config import TrainConfig

JOURNAL = "tuning.jsonl"


class Piece(Config, frozen=True):
    """A piece of the training of a trial.

    Attributes:
        trial, seed: which run.
        losses: over the validation part since the start of the run; None where one is not a number.
        over: whether the run cannot go on.
        seconds: wall time of the piece.
        auc, gauc: over the validation part, of the first label, with the weights of the lowest loss.
        failed: why training gave up; empty if it did not.
    """

    trial: int
    seed: int
    losses: tuple[float | None, ...]
    over: bool
    seconds: float
    auc: float | None = None
    gauc: float | None = None
    failed: str = ""


class _Question(Config, frozen=True):
    """First line: the options that were searched around, and the hash of the manifest of the data."""

    options: TrainConfig
    data: str


class Journal:
    """Pieces of a search, kept in its folder.

    Attributes:
        pieces: oldest first.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        """Begin a journal, or continue the one in ``folder``.

        Raises:
            RunError: the folder holds something else, or a search with other options or data.
        """
        self._path = folder / JOURNAL
        self._question = _Question(options=config, data=checksum(Path(config.data) / MANIFEST))
        self.pieces: list[Piece] = []
        if self._path.is_file():
            self._read()
        elif folder.is_dir() and set(os.listdir(folder)) - {f"{JOURNAL}.partial", WRITER}:
            raise RunError(f"{folder} is not empty and holds no search; choose another folder.")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._write()

    def add(self, piece: Piece) -> None:
        """Append one piece."""
        self.pieces.append(piece)
        self._write()

    def seconds(self) -> float:
        """Wall time of all pieces."""
        return sum(piece.seconds for piece in self.pieces)

    def last(self, trial: int, seed: int) -> Piece | None:
        """The newest piece of a run."""
        found = [piece for piece in self.pieces if (piece.trial, piece.seed) == (trial, seed)]
        return found[-1] if found else None

    def seconds_of(self, trial: int, seed: int) -> float:
        """Wall time of the pieces of a run."""
        return sum(piece.seconds for piece in self.pieces if (piece.trial, piece.seed) == (trial, seed))

    def _read(self) -> None:
        origin = str(self._path)
        first, *others = read_documents(self._path, "restore it from a copy, or choose another folder")
        stored = build(_Question, first, origin)
        if changes := differences(stored.options, self._question.options):
            raise RunError(
                f"{self._path.parent} holds another search: {'; '.join(changes)}. Choose another folder or"
                " the same options."
            )
        if stored.data != self._question.data:
            raise RunError(
                f"{self._path.parent} holds a search on other data than {self._question.options.data}; choose"
                " another folder."
            )
        self.pieces = [build(Piece, line, origin) for line in others]

    def _write(self) -> None:
        lines = (self._question, *self.pieces)
        write_documents(self._path, [msgspec.to_builtins(line) for line in lines])
