"""Exact sparse attention of a few new rows over a long sequence: each reads k + L / r keys, not L.

New rows of one residue class i % r see nearly the same keys, so each class is one small dense attention over
the keys that any of its rows sees.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.layers.attention import attend
from clickscale.layers.bias import Buckets
from clickscale.layers.class_layout import SHUT, masking, write_buckets


@dataclass(frozen=True)
class RowGroup:
    """New rows of one class and what they see.

    Attributes:
        rows: (R,) int64, number of each among the new rows.
        columns: (M,) int64, positions of the keys that any of them sees, ascending.
        ids: (B, R, M) uint8, time bucket of each pair, ``SHUT`` where not seen.
        distance: (R, M) int64, positions from key to row; 0 where the key comes later.
    """

    rows: Tensor
    columns: Tensor
    ids: Tensor
    distance: Tensor


@dataclass(frozen=True)
class RowPlan:
    """What the attention of new rows needs of times, padding, k and r: made once per batch.

    Attributes:
        length: P + Q, positions of the sequence.
        new: Q, how many of them are new.
    """

    length: int
    new: int
    groups: tuple[RowGroup, ...]


def row_plan(times: Tensor, mask: Tensor, new: int, k: int, r: int, kind: Buckets) -> RowPlan:
    """Plan for the last rows of a sequence.

    Args:
        times: (B, P + Q) int64 seconds.
        mask: (B, P + Q) bool, False where there is no behavior; such a row sees itself, and behaviors before.
        new: Q.
        k, r: local window and dilation, both at least 1.
        kind: buckets of time differences, as of `time_buckets`.
    """
    length = times.shape[1]
    position = torch.arange(length, device=times.device)
    distance = position[length - new :, None] - position  # (Q, P + Q)
    seen = (distance >= 0) & ((distance < k) | (distance % r == 0))
    groups = []
    for first in range(min(r, new)):
        rows = torch.arange(first, new, r, device=times.device)
        columns = seen[rows].any(dim=0).nonzero()[:, 0]
        apart, when = distance[rows][:, columns], times[:, length - new :][:, rows]
        ids = torch.empty((len(times), *apart.shape), dtype=torch.uint8, device=times.device)
        write_buckets(when[..., None], times[:, None, columns], kind, ids)
        shown = seen[rows][:, columns] & (mask[:, None, columns] | (apart == 0))
        groups.append(RowGroup(rows, columns, ids.masked_fill_(~shown, SHUT), apart.clamp_(min=0)))
    return RowPlan(length, new, tuple(groups))


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: RowPlan,
    time: Tensor | None,
    position: Tensor | None,
    scale: float,
) -> Tensor:
    """Attention of new rows over the keys that the plan lets them see.

    Args:
        query: (B, H, Q, D / H) of the new rows.
        key, value: (B, H, P + Q, D / H), of the new rows too.
        time: (1 or H, 129) bias by time bucket, or None.
        position: (1 or H, N + 1) bias by distance, where distances beyond N share the last, or None.
        scale: factor of the products.

    Returns:
        (B, H, Q, D / H), computed in float32 (float64 if the query is); any finite numbers in padding rows.
    """
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    with torch.autocast(query.device.type, enabled=False):
        tables = masking(time, query.new_empty(0, dtype=exact))
        parts = []
        for group in plan.groups:
            bias = _gathered(tables, group.ids)
            if position is not None:
                bias = bias + position.to(exact)[:, group.distance.clamp(max=position.shape[1] - 1)]
            rows = query.index_select(2, group.rows).to(exact)
            keys, values = (x.index_select(2, group.columns).to(exact) for x in (key, value))
            parts.append(attend(rows, keys, values, bias, scale))
        if not parts:
            return query
        order = torch.cat([group.rows for group in plan.groups]).argsort()
        return torch.cat(parts, dim=2).index_select(2, order).to(query.dtype)


def _gathered(tables: Tensor, ids: Tensor) -> Tensor:
    """Entries (B, tables, R, M) of all tables at ids (B, R, M), with gradients."""
    flat = ids.flatten().long()
    return torch.gather(tables, 1, flat.expand(len(tables), -1)).view(len(tables), *ids.shape).transpose(0, 1)
