"""The default block of SUAN in few large operations, with gradients written by hand.

A small training step is bound by the number of operations and not by their size. Each function is one step of
`clickscale.models._suan.block.AttentionBlock`, where its equations are: `Enter`, `MeetProfile`, `Leave`. What
lies between them, self attention and the running mean, is the caller's. All rows of a batch are one matrix
(R, D) inside, R = B N.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from clickscale.layers.kernels.products import (
    first_rows,
    input_gradient,
    product,
    rows_with_room,
    weight_gradient,
    with_room,
)
from clickscale.layers.kernels.rms_scaling import Scaled, rms_gradients, scale_by_rms

_silu_backward = torch.ops.aten.silu_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.default
_threshold_backward = torch.ops.aten.threshold_backward.default


class Enter(torch.autograd.Function):
    """Normalized rows, queries, keys and values (eq. 2, 3).

    ``forward(x (B, N, D), gain (D,), qkv (3D, D), heads, eps)`` gives rows (B, N, D) and query, key, value
    (B, H, N, D / H).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, qkv: Tensor, heads: int, eps: float) -> tuple[Tensor, ...]:
        """See the class."""
        batch, count, width = x.shape
        scaled = scale_by_rms(x.reshape(-1, width), eps)
        room = rows_with_room(x, batch * count, width, qkv.numel())
        rows = torch.mul(scaled.unit, gain, out=first_rows(room, batch * count))
        parts = first_rows(product(room, qkv), batch * count).view(batch, count, 3, heads, width // heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # (B, H, N, D / H)
        ctx.eps = eps
        ctx.save_for_backward(gain, qkv, room, *scaled)
        return rows.view(x.shape), query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows: Tensor, *of_parts: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        gain, qkv, room, *scaled = ctx.saved_tensors
        batch, heads, count, width = of_parts[0].shape
        joined = rows_with_room(room, batch * count, 3 * heads * width, qkv.numel())
        split = first_rows(joined, batch * count).view(batch, count, 3, heads, width)
        for place, part in enumerate(of_parts):
            split[:, :, place].copy_(part.transpose(1, 2))
        dnormal = first_rows(input_gradient(joined, qkv), batch * count)
        dnormal = dnormal.add_(drows.view(dnormal.shape))
        dx, dgain = rms_gradients(dnormal, gain, Scaled(*scaled), ctx.eps)
        return dx.view(drows.shape), dgain, weight_gradient(joined, room), None, None


class MeetProfile(torch.autograd.Function):
    """Cross attention over the profile, and the inputs of the gate's mean (eq. 5-10).

    ``forward(rows (B, N, D), seen (B, H, N, D / H), profile (B, n2, d), gain (D,), out (D, D), query (D, D),
    key_value (2D, d), leave (D, D), shrink (D / 4, D), scale, eps)`` gives own and cross (B, N, D) and
    averaged (B, N, D / 4).

    A query is ``x @ Wq`` and a key ``p @ Wk``, so their product is ``x @ (p @ Wk Wq)``. With the product of
    the weights, which is small, cross attention reads the rows themselves; likewise, the map after it is
    applied to the few values and not to the rows. Two products of all rows with (D, D) become two with the
    n2 H rows that stand for the profile.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        seen: Tensor,
        profile: Tensor,
        gain: Tensor,
        out: Tensor,
        query: Tensor,
        key_value: Tensor,
        leave: Tensor,
        shrink: Tensor,
        scale: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        batch, heads, count, _ = seen.shape
        fields, width = profile.shape[1], rows.shape[2]
        merged = rows_with_room(seen, batch * count, width, out.numel())
        first_rows(merged, batch * count).view(batch, count, heads, width // heads).copy_(
            seen.transpose(1, 2)
        )
        attention = first_rows(product(merged, out), batch * count)
        scaled = scale_by_rms(attention.add_(rows.view(attention.shape)), eps)
        own = (scaled.unit * gain).view(rows.shape)
        from_profile = key_value.view(2 * heads, width // heads, -1)  # (2 H, D / H, d)
        to_rows = torch.cat([query * scale, leave.t()]).view(2 * heads, width // heads, width)
        maps = torch.bmm(from_profile.transpose(1, 2), to_rows).transpose(0, 1).flatten(1)  # (d, 2 H D)
        fields_of_all = profile.reshape(-1, profile.shape[2])  # (B n2, d)
        key, value = (
            torch.mm(fields_of_all, part).view(batch, fields * heads, width) for part in maps.chunk(2, dim=1)
        )
        # The fields are not the last axis: a softmax over a few neighbors in memory is slow.
        logits = torch.bmm(key, own.transpose(1, 2)).view(batch, fields, heads * count)
        weights = logits.softmax(dim=1).view(batch, fields * heads, count)
        cross = torch.bmm(weights.transpose(1, 2), value)  # (B, N, D)
        both = (own + cross).view(-1, width)  # (R, D)
        ctx.heads, ctx.scale, ctx.eps = heads, scale, eps
        ctx.save_for_backward(
            *(fields_of_all, gain, out, shrink, from_profile, to_rows),
            *(maps, merged, own, key, value, weights, both, *scaled),
        )
        return own, cross, torch.mm(both, shrink.t()).view(batch, count, len(shrink))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, down: Tensor, dcross: Tensor, daveraged: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        profile, gain, out, shrink, from_profile, to_rows, *made = ctx.saved_tensors
        maps, merged, own, key, value, weights, both, *scaled = made
        (batch, count, width), dim = own.shape, profile.shape[1]
        fields = weights.shape[1] // ctx.heads
        flat = daveraged.reshape(-1, len(shrink))  # (R, D / 4)
        dboth = torch.mm(flat, shrink).view(own.shape)
        dcross = dcross + dboth
        dvalue = torch.bmm(weights, dcross)  # (B, n2 H, D)
        dweights = torch.bmm(value, dcross.transpose(1, 2)).view(batch, fields, ctx.heads * count)
        dlogits = torch._softmax_backward_data(dweights, weights.view(dweights.shape), 1, weights.dtype)
        dlogits = dlogits.view(weights.shape)
        dkey = torch.bmm(dlogits, own)  # (B, n2 H, D)
        down = dboth.add_(down).baddbmm_(dlogits.transpose(1, 2), key)
        dread = torch.cat([part.view(batch * fields, ctx.heads * width) for part in (dkey, dvalue)], dim=1)
        dmaps = torch.mm(profile.t(), dread)  # (d, 2 H D)
        dmaps = dmaps.view(dim, len(to_rows), width).transpose(0, 1)  # (2 H, d, D)
        dfrom_profile = torch.bmm(to_rows, dmaps.transpose(1, 2))  # (2 H, D / H, d)
        dquery, dleave = torch.bmm(from_profile, dmaps).view(2, width, width)
        room = rows_with_room(down, batch * count, width, out.numel())
        dsum = first_rows(room, batch * count)
        _, dgain = rms_gradients(down.view(-1, width), gain, Scaled(*scaled), ctx.eps, out=dsum)
        dmerged = first_rows(input_gradient(room, out), batch * count)
        dseen = dmerged.view(batch, count, ctx.heads, width // ctx.heads).transpose(1, 2)  # (B, H, N, D / H)
        return (
            dsum.view(own.shape),
            dseen,
            torch.mm(dread, maps.t()).view(batch, fields, dim),
            dgain,
            weight_gradient(room, merged),
            dquery.mul_(ctx.scale),
            dfrom_profile.view(2 * width, dim),
            dleave.t(),
            torch.mm(flat.t(), both),
            None,
            None,
        )


class Leave(torch.autograd.Function):
    """Gate, norm and feed-forward (eq. 11-16).

    ``forward(own, cross (B, N, D), mean (B, N, D / 4), gates (D, D / 4), gain (D,), enter (6D, D), leave
    (D, 3D), eps)`` gives rows (B, N, D). ``gates`` is the difference of the weights of both branches.
    """

    @staticmethod
    def forward(
        ctx: Any,
        own: Tensor,
        cross: Tensor,
        mean: Tensor,
        gates: Tensor,
        gain: Tensor,
        enter: Tensor,
        leave: Tensor,
        eps: float,
    ) -> Tensor:
        """See the class."""
        shape, width, hidden = own.shape, own.shape[2], leave.shape[1]
        own, cross = own.reshape(-1, width), cross.reshape(-1, width)  # (R, D)
        count = len(own)
        positive = torch.relu(mean).view(-1, gates.shape[1])  # (R, D / 4)
        gate = torch.mm(positive, gates.t()).sigmoid_()  # (R, D)
        apart = own - cross
        scaled = scale_by_rms(torch.addcmul(cross, gate, apart).add_(own), eps)
        room, fed = (rows_with_room(own, count, columns, enter.numel()) for columns in (width, hidden))
        rows = torch.mul(scaled.unit, gain, out=first_rows(room, count))
        entered = first_rows(product(room, enter), count)  # (R, 6D)
        to_bend, linear = entered.chunk(2, dim=1)
        bent = functional.silu(to_bend)  # (R, 3D)
        torch.mul(bent, linear, out=first_rows(fed, count))
        ctx.eps = eps
        ctx.save_for_backward(
            gates, gain, enter, leave, positive, gate, apart, room, entered, bent, fed, *scaled
        )
        return first_rows(product(fed, leave), count).add_(rows).view(shape)  # (B, N, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        gates, gain, enter, leave, positive, gate, apart, rows, entered, bent, fed, *scaled = (
            ctx.saved_tensors
        )
        (count, hidden), shape = bent.shape, grad.shape
        flat = grad.reshape(-1, shape[2])
        room = with_room(flat, enter.numel())
        dfed = first_rows(input_gradient(room, leave), count)  # (R, 3D)
        to_bend, linear = entered.chunk(2, dim=1)
        dentered = rows_with_room(entered, count, 2 * hidden, enter.numel())
        of_bend, of_linear = first_rows(dentered, count).chunk(2, dim=1)
        torch.mul(dfed, bent, out=of_linear)
        _silu_backward(dfed.mul_(linear), to_bend, grad_input=of_bend)
        drows = first_rows(input_gradient(dentered, enter), count).add_(flat)
        dsum, dgain = rms_gradients(drows, gain, Scaled(*scaled), ctx.eps)
        share = dsum * gate  # of ``own``; the rest is that of ``cross``
        dlogit = _sigmoid_backward(dsum * apart, gate)
        dmean = _threshold_backward(torch.mm(dlogit, gates), positive, 0)
        return (
            (dsum + share).view(shape),
            dsum.sub_(share).view(shape),
            dmean.view(*shape[:2], gates.shape[1]),
            torch.mm(dlogit.t(), positive),
            dgain,
            weight_gradient(dentered, rows),
            weight_gradient(room, fed),
            None,
        )


def enter_by_hand(block: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Rows, query, key and value, with the weights of an `AttentionBlock`."""
    norm = block.norms[0]
    made: tuple[Tensor, ...] = Enter.apply(x, norm.gain, block.qkv.weight, block.heads, norm.eps)  # type: ignore[no-untyped-call]
    return made


def meet_by_hand(block: Any, rows: Tensor, seen: Tensor, profile: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Own, cross and averaged, with the weights of an `AttentionBlock`."""
    layers = block.out, block.cross_query, block.cross_key_value, block.cross_out, block.fusion.shrink
    norm, weights = block.norms[1], [layer.weight for layer in layers]
    made: tuple[Tensor, Tensor, Tensor] = MeetProfile.apply(  # type: ignore[no-untyped-call]
        rows, seen, profile, norm.gain, *weights, block.scale, norm.eps
    )
    return made


def leave_by_hand(block: Any, own: Tensor, cross: Tensor, mean: Tensor) -> Tensor:
    """Rows (B, N, D), with the weights of an `AttentionBlock`."""
    norm = block.norms[2]
    weights = block.fusion.gates(), norm.gain, block.ffn.enter.weight, block.ffn.leave.weight
    mean = mean.expand(-1, own.shape[1], -1)  # (B, N, D / 4)
    made: Tensor = Leave.apply(own, cross, mean, *weights, norm.eps)  # type: ignore[no-untyped-call]
    return made
