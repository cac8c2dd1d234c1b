"""SUAN and LightSUAN once more, in 64-bit NumPy: one candidate at a time, at the end of its own sequence.

Written from the equations (Lai et al. 2025, eq. 2-16) and their named resolutions, not from the package.
"""

import math

import numpy as np

from clickscale.models import lightsuan, suan, suan_literal
from tests.models.restated import Array, Case, Weights, sigmoid

Config = suan.ModelConfig | suan_literal.ModelConfig | lightsuan.ModelConfig


def seen(config: Config, block: int, head: int, distance: int, *, candidate: bool) -> bool:
    """Whether a behavior, or a candidate, sees in a head the behavior ``distance`` positions back."""
    if not isinstance(config, lightsuan.ModelConfig) or (candidate and config.candidates_read == "all"):
        return True
    number = {"paper": 0, "head": head, "block_head": block * config.heads + head}[config.phase]
    return distance in range(config.k) or distance in range(number % config.r, distance + 1, config.r)


def bucket(seconds: int, kind: str) -> int:
    """Bucket of a time difference."""
    seconds = max(abs(seconds), 1)
    if kind == "paper":
        return min(int(math.log(seconds) / 0.301), 128)
    octave = seconds.bit_length() - 1
    return min(2 * octave + (2 * seconds >= 3 * 2**octave), 128)


def week_of(w: Weights, moment: int) -> Array:
    """(D,) embedding of hour and weekday."""
    hour, day = moment // 3600 % 24, (moment // 86_400 + 4) % 7
    return w["inputs.week.project.weight"] @ (w["inputs.week.hour"][hour] + w["inputs.week.day"][day])


def bias_of(w: Weights, config: Config, block: int, length: int, times: Array) -> Array:
    """(heads, N, N) f1(time) + f2(distance) for key j <= query i, -inf for later keys."""
    bias = np.full((config.heads, len(times), len(times)), -np.inf)
    place = block if config.bias == "blocks" else 0
    for i in range(len(times)):
        for j in range(i + 1):
            shown = [
                seen(config, block, head, i - j, candidate=i == len(times) - 1)
                for head in range(config.heads)
            ]
            if config.bias == "none":
                bias[shown, i, j] = 0
                continue
            f1 = w[f"stack.bias.sets.{place}.time"][:, bucket(int(times[i] - times[j]), config.buckets)]
            both = f1 + w[f"stack.bias.sets.{place}.position"][:, min(i - j, length)]
            bias[shown, i, j] = np.broadcast_to(both, config.heads)[shown]
    return bias


def softmax(x: Array) -> Array:
    """Over the last dimension."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Block:
    """One unified attention block over a whole sequence (N, D)."""

    def __init__(self, w: Weights, config: Config, place: int) -> None:
        self.w = {k.removeprefix(f"stack.blocks.{place}."): v for k, v in w.items()}
        self.config, self.heads = config.block, config.heads

    def norm(self, place: int, x: Array) -> Array:
        """RMSNorm with eps outside the root, or LayerNorm."""
        if self.config.norm == "rms":
            return self.w[f"norms.{place}.gain"] * x / (np.sqrt((x**2).mean(-1, keepdims=True)) + 1e-6)
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"norms.{place}.weight"] + self.w[f"norms.{place}.bias"]

    def attend(self, query: Array, key: Array, value: Array, bias: Array | float) -> Array:
        """Softmax attention head by head; (N, D) over (M, D)."""
        width = query.shape[1]
        scale = math.sqrt(width if self.config.scale == "paper" else width // self.heads)
        out = []
        for head, (q, k, v) in enumerate(
            zip(*(np.split(part, self.heads, axis=1) for part in (query, key, value)), strict=True)
        ):
            added = bias[head] if isinstance(bias, np.ndarray) else bias
            out.append(softmax(q @ k.T / scale + added) @ v)
        return np.concatenate(out, axis=1)

    def self_attention(self, x: Array, bias: Array) -> Array:
        """Equations 2 to 6."""
        query, key, value = np.split(x @ self.w["qkv.weight"].T, 3, axis=1)
        return self.attend(query, key, value, bias) @ self.w["out.weight"].T

    def cross_attention(self, x: Array, profile: Array) -> Array:
        """Equations 7 to 9."""
        key, value = np.split(profile @ self.w["cross_key_value.weight"].T, 2, axis=1)
        return self.attend(x @ self.w["cross_query.weight"].T, key, value, 0.0) @ self.w["cross_out.weight"].T

    def fuse(self, own: Array, profile: Array, pooling: str) -> Array:
        """Equations 10 to 14: two gates, a softmax between them, from the mean over what a row sees."""
        if self.config.fusion == "self":
            return own
        cross = self.cross_attention(own, profile)
        if self.config.fusion == "sum":
            return own + cross
        mean = means(own + cross, pooling)
        hidden = np.maximum(mean @ self.w["fusion.shrink.weight"].T, 0)
        gates = [hidden @ self.w[f"fusion.{name}_gate.weight"].T for name in ("self", "cross")]
        shares = softmax(np.stack(gates, axis=-1))
        return shares[..., 0] * own + shares[..., 1] * cross

    def feed(self, x: Array) -> Array:
        """Equation 16."""
        enter, leave = self.w["ffn.enter.weight"], self.w["ffn.leave.weight"]
        if self.config.ffn == "relu":
            return np.maximum(x @ enter.T, 0) @ leave.T
        gate, value = np.split(x @ enter.T, 2, axis=1)
        return (gate * sigmoid(gate) * value) @ leave.T

    def __call__(self, x: Array, profile: Array, bias: Array, pooling: str) -> Array:
        """(N, D) -> (N, D)."""
        added = (lambda x: x + self.feed(x)) if self.config.ffn != "none" else (lambda x: x)
        match self.config.residual:
            case "literal":
                fused = self.fuse(self.self_attention(self.norm(0, x), bias), profile, pooling)
                return fused if self.config.ffn == "none" else self.feed(fused)
            case "code":
                x1 = self.norm(0, x)
                x2 = self.norm(1, self.self_attention(x1, bias) + x1)
                return added(self.norm(2, self.fuse(x2, profile, pooling) + x2))
            case "postnorm":
                x1 = self.norm(0, x + self.self_attention(x, bias))
                x2 = self.norm(1, x1 + self.fuse(x1, profile, pooling))
                return self.norm(2, added(x2))
            case _:
                x = x + self.self_attention(self.norm(0, x), bias)
                x = x + self.fuse(self.norm(1, x), profile, pooling)
                return x if self.config.ffn == "none" else x + self.feed(self.norm(2, x))


def means(x: Array, pooling: str) -> Array:
    """(N, D) what the gate of each row averages; the last row is the candidate's."""
    behaviors = x[:-1].mean(axis=0) if len(x) > 1 else np.zeros_like(x[0])
    everything = x.mean(axis=0)
    if pooling == "prefix":
        return np.array([x[: i + 1].mean(axis=0) for i in range(len(x))])
    if pooling == "split":
        return np.array([behaviors] * (len(x) - 1) + [everything])
    return np.array([behaviors if pooling == "behaviors" else everything] * len(x))


def restated_suan(w: Weights, case: Case, config: Config, length: int) -> Array:
    """Head input: the last row, the profile, the context (and the candidate with ``target="head"``)."""
    width = case.behaviors.shape[1]
    padded = np.pad(case.candidate, (0, width - len(case.candidate)))
    entered = padded if config.candidate == "zero_fill" else w["inputs.linear.weight"] @ case.candidate
    x, times = np.concatenate([case.behaviors, entered[None]]), np.append(case.times, case.now)
    if config.time_of_week:
        x = x + np.array([week_of(w, int(moment)) for moment in times])
    pooling = config.pooling if isinstance(config, suan_literal.ModelConfig) else "prefix"
    target = config.target if isinstance(config, suan_literal.ModelConfig) else "sequence"
    if target == "head":
        if not len(case.behaviors):
            return np.concatenate([np.zeros(width), padded, case.profile.ravel(), case.context])
        x, times = x[:-1], times[:-1]
        assert pooling == "prefix", "the other means name a candidate row, which this sequence does not have"
    for place in range(config.blocks):
        x = Block(w, config, place)(x, case.profile, bias_of(w, config, place, length, times), pooling)
    last = x[-1]
    if config.block.residual == "prenorm":
        last = w["last.gain"] * last / (np.sqrt((last**2).mean()) + 1e-6)
    end = [padded] if target == "head" else []
    return np.concatenate([last, *end, case.profile.ravel(), case.context])
