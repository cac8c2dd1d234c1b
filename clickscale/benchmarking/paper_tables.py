"""The tables of ablations that the two papers print: which models stand in them, and with which options.

A variant has one key in all tables of its paper, so that a run which two tables show is trained once.
"""

from dataclasses import dataclass
from typing import Literal

Paper = Literal["suan", "est"]


@dataclass(frozen=True)
class Variant:
    """One line of a table.

    Attributes:
        key: short name, that of the paper if it has one.
        about: what differs from the model that the line is compared with.
        model: name of a model.
        options: texts ``KEY=VALUE`` of its training.
        needs_ids: it is trained on the data set that has semantic ids as item features.
    """

    key: str
    about: str
    model: str
    options: tuple[str, ...] = ()
    needs_ids: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        number: in the paper.
        title: what it asks.
        base: the model that the others are tested against.
        all_grades: trained at every grade that is asked for, not only at the first one.
    """

    number: str
    title: str
    base: Variant
    others: tuple[Variant, ...]
    all_grades: bool = False

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The base, then the others."""
        return (self.base, *self.others)


# --- SUAN (Lai et al. 2025)


def _suan(key: str, about: str, *options: str) -> Variant:
    return Variant(key, about, "suan", tuple(f"model.{option}" for option in options))


_SUAN = Variant("full", "SUAN", "suan")
_TARGET_IN_HEAD = Variant(
    "D",
    "no target-aware sequence: the candidate enters the head only",
    "suan_literal",
    ("model.target=head", "model.pooling=prefix"),
)
_TABLE_3 = (
    _suan("A", "no SwiGLU: the block ends with attention", "block.ffn=none"),
    _suan("B", "no AFNet: self attention alone", "block.fusion=self"),
    _suan("C", "sum of self and cross attention for AFNet", "block.fusion=sum"),
    _TARGET_IN_HEAD,
    _suan("E", "no attention bias", "bias=none"),
)
_TABLE_5 = (
    _suan("F", "LayerNorm for RMSNorm", "block.norm=layer"),
    _suan("G", "normalization after the residual", "block.residual=postnorm"),
)

# --- EST (Liu et al. 2026)

# Full attention is not causal. The others could be trained by timelines, in batches of other users; all take
# the same batches, so that a difference is one of models.
_BY_REQUESTS = "grouping=request"


def _est(key: str, about: str, *options: str, needs_ids: bool = False) -> Variant:
    return Variant(
        key, about, "est", (_BY_REQUESTS, *(f"model.{option}" for option in options)), needs_ids=needs_ids
    )


def _full_attention(key: str, about: str, *options: str) -> Variant:
    return Variant(key, about, "est_full", (_BY_REQUESTS, *(f"model.{option}" for option in options)))


_WHOLE = _full_attention("whole", "full attention")
_EST = _est("est", "EST: LCA and CSA, content by SimTier", "content=simtier", "csa=causal")
_NO_CONTENT = _est("no-content", "content is no feature", "content=none", "csa=causal")

TABLES: dict[Paper, tuple[PaperTable, ...]] = {
    "suan": (
        PaperTable("3", "Which parts of a block matter", _SUAN, _TABLE_3),
        PaperTable("5", "Which normalization", _SUAN, _TABLE_5, all_grades=True),
    ),
    "est": (
        PaperTable(
            "1",
            "Full attention trained without a block <query, key>",
            _WHOLE,
            tuple(
                _full_attention(pair, f"without <{pair[0]}, {pair[1]}>", f'mask_blocks=["{pair}"]')
                for pair in ("NN", "NB", "BN", "BB")
            ),
        ),
        PaperTable(
            "2",
            "How content enters as a feature",
            _NO_CONTENT,
            (
                _est("side", "side information", "content=side", "csa=causal"),
                _est("ids", "semantic ids", "content=none", "csa=causal", needs_ids=True),
                _est("est", "SimTier", "content=simtier", "csa=causal"),
                _est("both", "SimTier and side information", "content=both", "csa=causal"),
            ),
        ),
        PaperTable(
            "4",
            "What EST leaves out of full attention",
            _EST,
            (
                _est("lca", "LCA without CSA", "content=simtier", "csa=none"),
                _est("csa-paper", "CSA over the whole sequence, as printed", "content=simtier", "csa=paper"),
                _full_attention("whole", "full attention for LCA and CSA"),
            ),
        ),
    ),
}
