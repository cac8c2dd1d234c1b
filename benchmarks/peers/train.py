"""Train DIN of torch-rechub or DeepCTR-Torch on exported rows and keep what it predicts after every epoch.

    PEERS/bin/python benchmarks/peers/train.py PEER FOLDER SETTINGS.json OUT

Runs in an environment that has the library and torch and not clickscale (see README.md). FOLDER is what
``export.py`` wrote. SETTINGS holds a list of objects with the fields of `Setting`; one whose last file is in
OUT is not trained again.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Arrays = dict[str, npt.NDArray[Any]]
BUCKETS = 32  # of a number, for a library whose DIN takes no numbers


@dataclass(frozen=True)
class Setting:
    """How a model is trained.

    Attributes:
        name: of the files.
        optimizer: ``adam`` or ``adagrad``; a rate of 0 takes the one of torch.
        decay: weight decay of torch-rechub; DeepCTR-Torch has its own L2 on embeddings.
        attention: widths of the attention network; empty takes the library's.
    """

    name: str
    width: int
    batch: int
    rate: float
    epochs: int
    optimizer: str = "adam"
    decay: float = 1e-5
    attention: tuple[int, ...] = ()
    seed: int = 0


def file_of(out: Path, setting: Setting, epoch: int) -> Path:
    """Where the predictions after epoch ``epoch`` (from 1) are kept."""
    return out / f"{setting.name}-{epoch}.npz"


class DeepCTR:
    """DIN of DeepCTR-Torch."""

    def __init__(self, columns: list[dict[str, Any]], parts: dict[str, Arrays], setting: Setting) -> None:
        from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
        from deepctr_torch.models.din import DIN

        self.setting = setting
        features: list[Any] = []
        histories: list[str] = []
        for column in columns:
            name, size, table = column["name"], column["size"], column["table"]
            if column["kind"] == "number":
                features.append(DenseFeat(name, 1))
            elif column["kind"] == "index":
                features.append(SparseFeat(name, size, setting.width))
            else:
                history = column["kind"] == "history"
                feature = SparseFeat(
                    f"hist_{table}" if history else name, size, setting.width, embedding_name=table
                )
                width = parts["train"][name].shape[1]
                length = "history_length" if history else None
                histories += [table] if history else []
                features.append(VarLenSparseFeat(feature, width, "mean", length))
        self.inputs = {part: _as_float(arrays) for part, arrays in parts.items()}
        chosen = {"att_hidden_size": setting.attention} if setting.attention else {}
        self.model = DIN(features, histories, seed=setting.seed, **chosen)
        rate = {"lr": setting.rate} if setting.rate else {}
        kind = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}[setting.optimizer]
        self.model.compile(kind(self.model.parameters(), **rate), "binary_crossentropy")

    def epoch(self) -> None:
        """Train for one epoch with the library's own loop."""
        self.model.fit(self._of("train"), self.inputs["train"]["label"], self.setting.batch, 1, verbose=0)

    def predict(self, part: str) -> npt.NDArray[Any]:
        """Probabilities (N,)."""
        return self.model.predict(self._of(part), 1024).reshape(-1)

    def _of(self, part: str) -> Arrays:
        return {name: self.inputs[part][name] for name in self.model.feature_index}


def _as_float(arrays: Arrays) -> Arrays:
    """What the library makes of every input, made once; it wants a history of ITEM named ``hist_ITEM``."""
    floats = {name: value.astype(np.float32) for name, value in arrays.items()}
    for name in [name for name in floats if name.startswith("history_") and floats[name].ndim == 2]:
        floats[f"hist_{name.removeprefix('history_')}"] = floats.pop(name)
    return floats


class Rechub:
    """DIN of torch-rechub, with padding that weighs nothing and numbers in buckets."""

    def __init__(self, columns: list[dict[str, Any]], parts: dict[str, Arrays], setting: Setting) -> None:
        from torch_rechub.basic.features import SequenceFeature, SparseFeature
        from torch_rechub.models.ranking import DIN
        from torch_rechub.trainers import CTRTrainer

        torch.manual_seed(setting.seed)
        self.setting, width = setting, setting.width
        self.random = torch.Generator().manual_seed(setting.seed)
        queries = [column["table"] for column in columns if column["kind"] == "history"]
        plain: list[Any] = []
        targets: dict[str, Any] = {}
        histories: list[Any] = []
        for column in columns:
            name, size, table = column["name"], column["size"], column["table"]
            if column["kind"] == "history":
                histories.append(SequenceFeature(name, size, width, "concat", table, padding_idx=0))
            elif column["kind"] == "indices":
                plain.append(SequenceFeature(name, size, width, "mean", table, padding_idx=0))
            elif name in queries:
                targets[name] = SparseFeature(name, size, width, padding_idx=0)
            else:
                plain.append(SparseFeature(name, size or BUCKETS, width))
        numbers = [column["name"] for column in columns if column["kind"] == "number"]
        used = [feature.name for feature in (*plain, *targets.values(), *histories)]
        buckets = _buckets(parts, numbers)
        self.inputs = {
            part: {name: torch.from_numpy((arrays | buckets[part])[name]) for name in used}
            for part, arrays in parts.items()
        }
        self.label = torch.from_numpy(parts["train"]["label"].astype(np.float32))
        attention = {"dims": list(setting.attention)} if setting.attention else {}
        model = DIN(plain, histories, [targets[name] for name in queries], {"dims": [256, 128]}, attention)
        rates = {"lr": setting.rate, "weight_decay": setting.decay}
        self.trainer = CTRTrainer(model, optimizer_params=rates)

    def epoch(self) -> None:
        """Train for one epoch: the library's steps, on batches that are gathered at once, not row by row."""
        self.trainer.train_one_epoch(self._batches())

    def _batches(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        order = torch.randperm(len(self.label), generator=self.random)
        for rows in order.split(self.setting.batch):
            if len(rows) > 1:  # batch statistics of one row are refused
                yield {name: value[rows] for name, value in self.inputs["train"].items()}, self.label[rows]

    def predict(self, part: str) -> npt.NDArray[Any]:
        """Probabilities (N,)."""
        model, inputs = self.trainer.model.eval(), self.inputs[part]
        rows = len(next(iter(inputs.values())))
        with torch.no_grad():
            scores = [
                model({name: value[at : at + 1024] for name, value in inputs.items()})
                for at in range(0, rows, 1024)
            ]
        return torch.cat(scores).double().numpy()


def _buckets(parts: dict[str, Arrays], numbers: list[str]) -> dict[str, Arrays]:
    """Numbers as buckets that hold equally many rows of the training part."""
    edges = {name: np.quantile(parts["train"][name], np.arange(1, BUCKETS) / BUCKETS) for name in numbers}
    return {
        part: {name: np.searchsorted(edges[name], arrays[name], "right") for name in numbers}
        for part, arrays in parts.items()
    }


PEERS: dict[str, type[DeepCTR] | type[Rechub]] = {"deepctr-torch": DeepCTR, "torch-rechub": Rechub}


def main() -> None:
    """Train the settings one after the other."""
    peer, folder, settings, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    columns = json.loads((folder / "columns.json").read_text())
    parts = {part: dict(np.load(folder / f"{part}.npz")) for part in ("train", "valid", "test")}
    known = parts["train"]["label"] >= 0
    parts["train"] = {name: column[known] for name, column in parts["train"].items()}
    for value in json.loads(settings.read_text()):
        setting = Setting(**value)
        if file_of(out, setting, setting.epochs).is_file():
            continue
        begun = time.process_time()
        model = PEERS[peer](columns, parts, setting)
        for epoch in range(1, setting.epochs + 1):
            model.epoch()
            trained = time.process_time() - begun
            scores = {part: model.predict(part) for part in ("valid", "test")}
            np.savez(file_of(out, setting, epoch), cpu_seconds=trained, **scores)
            print(peer, folder, setting.name, epoch, f"{trained:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
