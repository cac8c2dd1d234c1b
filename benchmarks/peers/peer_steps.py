"""Train models of torch-rechub or DeepCTR-Torch for whole epochs on exported rows, when asked for one.

    PEERS/bin/python benchmarks/peers/peer_steps.py PEER FOLDER

Runs in an environment that has the library and torch and not clickscale (see README.md). FOLDER holds what
`speed.py` wrote. Every line of standard input names a model; the answer is the CPU seconds of one epoch. A
model that the library does not have is answered by ``none``.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, BATCH, TOWER, ATTENTION, LENGTH = 16, 1024, (256, 128), (36,), 50
Inputs = dict[str, Tensor]
Step = Callable[[Inputs, Tensor], None]


def deepctr(name: str, columns: list[dict[str, Any]]) -> Step | None:
    """One step of a model of DeepCTR-Torch, as its ``fit`` takes it without metrics."""
    from deepctr_torch import models
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat

    features: list[Any] = []
    histories = [column["table"] for column in columns if column["kind"] == "history"]
    for column in columns:
        if column["kind"] == "index":
            features.append(SparseFeat(column["name"], column["size"], WIDTH))
        else:
            table = column["table"]
            # Its AutoInt counts tables for fields, so there a history has a table of its own.
            shared = {} if name == "autoint" else {"embedding_name": table}
            feature = SparseFeat(f"hist_{table}", column["size"], WIDTH, **shared)
            features.append(VarLenSparseFeat(feature, LENGTH, "mean", "history_length"))
    tower = {"dnn_hidden_units": TOWER}
    dice = {"att_activation": "Dice", "dnn_activation": "relu"}
    made: dict[str, Callable[[], Any]] = {
        "din": lambda: models.DIN(features, histories, att_hidden_size=ATTENTION, **dice, **tower),
        "dien": lambda: models.DIEN(features, histories, gru_type="AUGRU", **tower),
        "autoint": lambda: models.AutoInt([], features, att_layer_num=3, att_head_num=2, **tower),
        "dcnv2": lambda: models.DCN([], features, cross_num=3, cross_parameterization="matrix", **tower),
        "dcnv2-mixture": lambda: models.DCNMix([], features, cross_num=3, **tower),
        "deepfm": lambda: models.DeepFM(features, features, **tower),
    }
    if name not in made:
        return None
    model = made[name]()
    model.compile(torch.optim.Adam(model.parameters(), lr=1e-3), "binary_crossentropy")
    model.train()
    order = list(model.feature_index)

    def step(inputs: Inputs, labels: Tensor) -> None:
        taken = [inputs[column.replace("hist_", "history_")].float() for column in order]
        x = torch.cat([one if one.dim() > 1 else one[:, None] for one in taken], dim=1)
        predicted = model(x).squeeze(-1)
        model.optim.zero_grad()
        loss = functional.binary_cross_entropy(predicted, labels, reduction="sum")
        total = loss + model.get_regularization_loss() + model.aux_loss
        total.item()
        total.backward()
        model.optim.step()

    return step


def rechub(name: str, columns: list[dict[str, Any]]) -> Step | None:
    """One step of a model of torch-rechub, as its ``CTRTrainer`` takes it."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models import ranking
    from torch_rechub.trainers import CTRTrainer

    queries = [column["table"] for column in columns if column["kind"] == "history"]

    def sparse(column: dict[str, Any]) -> Any:
        return SparseFeature(column["name"], column["size"], WIDTH, padding_idx=0)

    def histories(pooling: str, prefix: str = "") -> list[Any]:
        return [
            SequenceFeature(prefix + c["name"], c["size"], WIDTH, pooling, c["table"], padding_idx=0)
            for c in columns
            if c["kind"] == "history"
        ]

    targets = [sparse(column) for column in columns if column["name"] in queries]
    plain = [sparse(c) for c in columns if c["kind"] == "index" and c["name"] not in queries]
    tower = {"dims": list(TOWER)}
    fields = [*plain, *targets, *histories("mean")]
    sequence = plain, histories("concat"), targets
    made: dict[str, Callable[[], nn.Module]] = {
        "din": lambda: ranking.DIN(*sequence, tower, {"dims": list(ATTENTION)}),
        "dien-loss": lambda: ranking.DIEN(*sequence[:2], histories("concat", "not_"), targets, tower),
        "bst": lambda: ranking.BST(*sequence, tower, nhead=2, dropout=0.0, max_seq_len=LENGTH + 1),
        "autoint": lambda: ranking.AutoInt(fields, [], 3, 2, mlp_params=tower),
        "dcnv2": lambda: ranking.DCNv2(fields, 3, tower, use_low_rank_mixture=False),
        "dcnv2-mixture": lambda: ranking.DCNv2(fields, 3, tower),
        "deepfm": lambda: ranking.DeepFM(fields, fields, tower),
    }
    if name not in made:
        return None
    trainer = CTRTrainer(made[name](), loss_mode=name != "dien-loss")
    trainer.model.train()

    def step(inputs: Inputs, labels: Tensor) -> None:
        if not trainer.loss_mode:
            others = torch.randperm(len(labels))
            inputs = inputs | {f"not_{q}": inputs[q][others] for q in inputs if q.startswith("history_")}
        found = trainer.model(inputs)
        predicted, more = (found, 0.0) if trainer.loss_mode else found
        loss = trainer.criterion(predicted, labels) + more + trainer.reg_loss_fn(trainer.model)
        trainer.model.zero_grad()
        loss.backward()
        trainer.optimizer.step()
        loss.item()

    return step


def epoch(step: Step, inputs: Inputs, labels: Tensor) -> float:
    """CPU seconds of one epoch; batches are gathered at once, not row by row as the libraries' loaders do."""
    begun = time.process_time()
    for rows in torch.randperm(len(labels)).split(BATCH):
        step({name: value[rows] for name, value in inputs.items()}, labels[rows])
    return time.process_time() - begun


def answers(peer: str, folder: Path) -> Iterator[str]:
    """The answer to each line of standard input."""
    columns = json.loads((folder / "columns.json").read_text())
    inputs = {name: torch.from_numpy(value) for name, value in np.load(folder / "train.npz").items()}
    labels = inputs.pop("label").float()
    make = {"deepctr-torch": deepctr, "torch-rechub": rechub}[peer]
    steps: dict[str, Step | None] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in steps:
            torch.manual_seed(0)
            steps[name] = make(name, columns)
            if (first := steps[name]) is not None:
                first({key: value[:BATCH] for key, value in inputs.items()}, labels[:BATCH])  # warms up
        step = steps[name]
        yield "none" if step is None else str(epoch(step, inputs, labels))


def main() -> None:
    """Answer until the input ends; what the libraries print goes to standard error."""
    torch.set_num_threads(1)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for answer in answers(sys.argv[1], Path(sys.argv[2])):
            print(answer, file=out, flush=True)


if __name__ == "__main__":
    main()
