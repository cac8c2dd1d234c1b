"""Cost of a model: its parameters, and the floating point operations of one request.

Operations are counted while the real model runs, two per multiply-add; look-ups, norms, activations and
softmax count nothing. This is the convention that reproduces the table of EST's GFLOPs. A request encodes the
user once and scores its candidates, so its cost is ``user + candidates * candidate``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from clickscale.batch import CandidateSide, UserSide
from clickscale.features import Feature, Features, categorical, column_of, numeric
from clickscale.layers.embedding import FusedEmbedding
from clickscale.models import CTRModel

T = TypeVar("T")
_NOW = 1_700_000_000


@dataclass(frozen=True)
class Cost:
    """Cost of one request with ``candidates`` candidates and a full history of ``length`` behaviors.

    Attributes:
        dense: parameters outside embedding tables.
        embedding: parameters of embedding tables.
        user: operations of encoding the user, once per request.
        candidate: operations of scoring the candidates, divided by their number.
        total: operations of the request.
    """

    length: int
    candidates: int
    dense: int
    embedding: int
    user: int
    candidate: float
    total: int

    @property
    def gflops(self) -> float:
        """10^9 operations of the request."""
        return self.total / 1e9

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "user_gflops": self.user / 1e9,
            "candidate_gflops": self.candidate / 1e9,
            "gflops": self.gflops,
        }


def measure_cost(model: CTRModel[Any], features: Features, length: int, candidates: int = 60) -> Cost:
    """Count parameters and operations of a model on a made-up request.

    Args:
        length: behaviors of the history, all present.
        candidates: items to score, all different.
    """
    dense, embedding = _count_parameters(model)
    user_side, candidate_side = _user(features, length), _candidates(features, length, candidates)
    was_training = model.training
    # Evaluation mode, as a server runs it; the mode is put back, since training may call this.
    model.eval()
    try:
        with torch.no_grad():
            user, state = count_operations(lambda: model.encode_user(user_side))
            score, _ = count_operations(lambda: model.score(state, candidate_side))
    finally:
        model.train(was_training)
    return Cost(length, candidates, dense, embedding, user, score / candidates, user + score)


def _count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(dense, embedding) parameters of a model."""
    # By identity, since tables can be shared between modules.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, FusedEmbedding)}
    embedding = sum(p.numel() for p in model.parameters() if id(p) in tables)
    return sum(p.numel() for p in model.parameters()) - embedding, embedding


def count_operations(work: Callable[[], T]) -> tuple[int, T]:
    """Operations of a piece of work, and its result."""
    aten = torch.ops.aten
    mapping = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._embedding_bag: _bag_flops,
        aten._embedding_bag_forward_only: _bag_flops,
        aten.baddbmm_: _added_flops,
        torch.ops.mkldnn._linear_pointwise: _linear_flops,
    }
    # torch counts none of these by itself.
    counter = _Counter(FlopCounterMode(display=False, custom_mapping=mapping).flop_registry)
    with counter:
        result = work()
    return counter.total, result


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations of all that torch computes meanwhile.

    `FlopCounterMode` counts the same, but the first thing that it sees makes torch import its compiler. That
    takes more than a CPU second, and every training counts once.

    Args:
        formulas: operations of each kernel from its arguments and its result, ``out_val``.
    """

    _SINGLE: ClassVar[set[Any]] = set()  # kernels that are made of no others, for all counts

    def __init__(self, formulas: dict[Any, Callable[..., int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._formulas = formulas

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel and count it, or the kernels of which it is made."""
        named = kwargs or {}
        if func not in self._SINGLE:
            with self:
                made = func.decompose(*args, **named)
            if made is not NotImplemented:
                return made
            self._SINGLE.add(func)
        result = func(*args, **named)
        if formula := self._formulas.get(func.overloadpacket):
            self.total += formula(*args, **named, out_val=result)
        return result


def _attention_flops(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    *rest: Any,
    attn_mask: Any = None,
    scale: float | None = None,
    out_shape: Any = None,
) -> int:
    """Two products of a fused attention on the CPU, which torch does not count by itself."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def _added_flops(
    _: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...], *rest: Any, **options: Any
) -> int:
    """Products of matrices (B, M, K) and (B, K, N) that are added to others."""
    return 2 * math.prod(left) * right[2]


def _linear_flops(rows: tuple[int, ...], weight: tuple[int, ...], *rest: Any, **options: Any) -> int:
    """Product of rows (..., K) and a weight (N, K), by oneDNN."""
    return 2 * math.prod(rows) * weight[0]


def _bag_flops(table: tuple[int, ...], indices: tuple[int, ...], *rest: Any, out_shape: Any = None) -> int:
    """A weighted sum of rows: one multiply-add per number that is looked up and weighted."""
    weighted = len(rest) > 4 and rest[4] is not None
    return 2 * indices[0] * table[1] if weighted else 0


@dataclass(frozen=True)
class PaperRequest:
    """The request on which a paper counts the operations of a grade.

    Attributes:
        profile, context: fields of the two sides. content: width of the items' content vectors.
        length: behaviors of the history.
    """

    profile: int = 5
    context: int = 2
    content: int = 0
    length: int = 100


# Liu et al. 2026: 52 tokens (46 fields beside the item's 4, and 2 histograms), 300 recent behaviors.
_OF_EST = PaperRequest(profile=26, context=20, content=128, length=300)
# 52 tokens as well where the pooled history has tokens, too: 6 of it, 5 of the item, 1 histogram.
_OF_FIELDS = PaperRequest(profile=23, context=17, content=128, length=300)
_LONG = PaperRequest(length=1000)  # Lai et al. 2025 give the models that search a history of this length
_PAPER_REQUESTS = {
    ("est", "paper"): _OF_EST,
    ("est", "est-paper"): _OF_EST,
    ("est", "est-blocks"): _OF_EST,
    ("est_full", "paper"): _OF_EST,
    ("est_full", "est-paper"): _OF_EST,
    **{("onetrans", grade): _OF_EST for grade in ("paper", "paper-d", "paper-f")},
    **{(model, "paper"): _OF_EST for model in ("mtgr", "longer")},
    **{(model, "paper"): _OF_FIELDS for model in ("autoint", "dcnv2", "wukong", "rankmixer", "hiformer")},
    **{(model, "paper"): _LONG for model in ("sim", "eta", "twin")},
    ("sim", "paper-hard"): _LONG,
}


def paper_request(model: str, grade: str) -> PaperRequest:
    """The request to count on without a data set: that of a grade's paper, or a small one."""
    return _PAPER_REQUESTS.get((model, grade), PaperRequest())


def reference_features(items: int = 10_000, request: PaperRequest | None = None) -> Features:
    """A made-up data set.

    By default a profile of 5 fields, behaviors of 5 (4 of them the item's), a context of 2, no content.
    """
    request = request or PaperRequest()

    def field(name: str, size: int) -> Feature:
        return Feature(name=name, kind="categorical", size=size)

    profile = [field("user", 10_000), field("age", 10), field("sex", 5), field("city", 100), field("job", 50)]
    profile += [field(f"profile{index}", 100) for index in range(5, request.profile)]
    context = [field("position", 60), field("channel", 10)]
    context += [field(f"context{index}", 100) for index in range(2, request.context)]
    item = [field("item", items), field("category", 100), field("brand", 1_000), field("shop", 1_000)]
    if request.content:
        item.append(Feature(name="text", kind="content", width=request.content))
    return Features(
        profile=tuple(profile),
        behavior=(field("action", 10),),
        item=tuple(item),
        context=tuple(context),
        items=items,
        labels=("click",),
    )


def reference_items(features: Features) -> dict[str, npt.NDArray[np.generic]]:
    """An item table that fits the features, with made-up attributes."""
    random = np.random.default_rng(0)
    table: dict[str, npt.NDArray[np.generic]] = {}
    for feature in features.item:
        shape = (features.items,) if feature.values == 1 else (features.items, feature.values)
        if feature.kind == "categorical":
            table[column_of(feature.name)] = random.integers(1, feature.size, shape, dtype=np.int32)
        elif feature.kind == "content":
            table[column_of(feature.name)] = np.zeros((features.items, feature.width), np.float16)
        else:
            table[column_of(feature.name)] = np.zeros(features.items, np.float32)
    return table


def _indices(shape: tuple[int, ...], features: tuple[Feature, ...]) -> torch.Tensor:
    """The unknown value of every categorical column."""
    return torch.ones((*shape, sum(feature.values for feature in categorical(features))), dtype=torch.int64)


def _items(features: Features, count: int) -> torch.Tensor:
    """Different items as far as there are."""
    # Different items, so that no model can profit from repeated ones.
    return torch.arange(count)[None] % max(features.items - 2, 1) + min(2, features.items - 1)


def _user(features: Features, length: int) -> UserSide:
    return UserSide(
        profile=_indices((1,), features.profile),
        profile_numbers=torch.zeros(1, len(numeric(features.profile))),
        items=_items(features, length),
        actions=_indices((1, length), features.behavior),
        action_numbers=torch.zeros(1, length, len(numeric(features.behavior))),
        times=torch.arange(_NOW - length, _NOW)[None],
    )


def _candidates(features: Features, length: int, count: int) -> CandidateSide:
    return CandidateSide(
        items=_items(features, count),
        context=_indices((1, count), features.context),
        context_numbers=torch.zeros(1, count, len(numeric(features.context))),
        times=torch.full((1, count), _NOW),
        oldest=torch.zeros(1, count, dtype=torch.int64),
        visible=torch.full((1, count), length),
    )
