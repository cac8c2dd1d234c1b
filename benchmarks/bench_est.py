"""Cost of EST's parts: a markdown table of ratios.

    python benchmarks/bench_est.py [--rounds 7] [--candidates 500]

One request with a full history, random weights, one thread, CPU seconds; the sides of a ratio take turns in
one process, and the table has medians over rounds with the smallest and the largest. d = 64, 3 blocks, 300
recent and 50 retrieved behaviors, 5 neighbors, content of 64 floats; 13 tokens as in a small log, or 52 as in
the paper.

* recomputed: every candidate encodes the user for itself, as a row of its own in batches of 100 rows;
* full: self-attention over tokens and behaviors (Liu et al. 2026, table 4), in batches of 100 candidates;
* search: finding the top 50 of 5,000 behaviors for every candidate, as a part of the whole request.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import fields

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.costs.flops import PaperRequest, reference_features, reference_items
from clickscale.costs.latency import in_turns, made_up_request
from clickscale.layers.retrieval import ItemTokens
from clickscale.layers.visibility import Visibility
from clickscale.models import CTRModel, build_model, score_in_chunks
from clickscale.models.est import EST

SIZE = ("d=16", "width=64", "blocks=3")
PIECE = 100  # candidates or rows at once, the fastest for both of those measured


class Request:
    """A model and a request of one user."""

    def __init__(
        self, length: int, candidates: int, tokens: PaperRequest, *options: str, model: str = "est"
    ) -> None:
        torch.manual_seed(0)
        features = reference_features(request=tokens)
        items = reference_items(features)
        if tokens.content:
            items["field.text"] = np.random.default_rng(0).normal(size=items["field.text"].shape)
        built = build_model(model, features, items, length=length, overrides=(*SIZE, *options))
        self.model: CTRModel = built.eval()
        self.user, self.candidates = made_up_request(features, length, candidates)
        self.state = self.model.encode_user(self.user)

    def shared(self) -> Tensor:
        """Logits with the user encoded once."""
        return self.model.score(self.model.encode_user(self.user), self.candidates)

    def cached(self) -> Tensor:
        """Logits from the state."""
        return self.model.score(self.state, self.candidates)

    def in_pieces(self) -> Tensor:
        """Logits with the user encoded once, some candidates at a time."""
        return score_in_chunks(self.model, self.model.encode_user(self.user), self.candidates, PIECE)

    def recomputed(self) -> Tensor:
        """Logits with every candidate in a row of its own."""
        found = []
        for start in range(0, self.candidates.items.shape[1], PIECE):
            part = {
                f.name: getattr(self.candidates, f.name)[0, start : start + PIECE]
                for f in fields(CandidateSide)
            }
            rows = {
                f.name: getattr(self.user, f.name).repeat_interleave(len(part["items"]), dim=0)
                for f in fields(UserSide)
            }
            side = CandidateSide(**{name: value[:, None] for name, value in part.items()})
            found.append(self.model.score(self.model.encode_user(UserSide(**rows)), side))
        return torch.cat(found).transpose(0, 1)

    def search(self) -> Tensor:
        """Columns of the behaviors that are retrieved."""
        assert isinstance(self.model, EST), "EST retrieves behaviors"
        inputs, items, offered = self.model.inputs, self.user.items, self.candidates
        assert inputs.vectors is not None, "the search is by content"
        seen = Visibility.of(offered, items, self.user.times).seen
        cosines = inputs.vectors.compare(offered.items, items)
        none = torch.zeros(1, 1, 0)  # a search by content does not read tokens
        candidates, behaviors = ItemTokens(offered.items, none), ItemTokens(items, none)
        return inputs.search(candidates, behaviors, seen, cosines).columns


def ratio(slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> str:
    """Ratio of the other's time to that of ``fast``, and the times."""
    runs = in_turns({"slow": slow, "fast": fast}, rounds, 60.0, time.process_time)
    ratios = [a / b for a, b in zip(runs["slow"], runs["fast"], strict=True)]
    times = [statistics.median(runs[name]) for name in ("slow", "fast")]
    middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
    return f"{times[0]:,.1f} | {times[1]:,.1f} | {middle:.2f}x ({least:.2f}-{most:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count, rounds = options.candidates, options.rounds
    print("| comparison | ms | against, ms | ratio |\n|---|--:|--:|---|")
    with torch.inference_mode():
        small, paper = PaperRequest(content=64), PaperRequest(profile=26, context=20, content=64)
        for name, tokens in (("13", small), ("52", paper)):
            request = Request(300, count, tokens, "csa=paper", "time=none")
            row = ratio(request.recomputed, request.shared, rounds)
            print(f"| {name} tokens: recomputed against shared | {row} |", flush=True)
            full = Request(300, count, tokens, model="est_full")
            row = ratio(full.in_pieces, request.shared, rounds)
            print(f"| {name} tokens: full attention against light, CSA included | {row} |", flush=True)
            long = Request(5000, count, tokens, "csa=paper", "time=none")
            row = ratio(long.search, long.shared, rounds)
            print(f"| {name} tokens: search of 5,000 behaviors against the whole | {row} |", flush=True)
        gap = float((request.shared() - request.recomputed()).abs().max())
        for length in (50, 200, 1000):
            request = Request(length, 100, small, "blocks=2", "kept=0", f"recent={length}")
            row = ratio(request.recomputed, request.shared, rounds)
            print(f"| {length} behaviors x 100 candidates, none retrieved, 2 blocks | {row} |", flush=True)
    print(f"\nlargest difference of logits, recomputed and shared: {gap:.1e}")


if __name__ == "__main__":
    main()
