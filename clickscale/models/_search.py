"""A search unit that belongs to a model: what it compares comes from the fields of the data set."""

import numpy as np
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError, unknown
from clickscale.features import Features, categorical, column_of, content
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.retrieval import ContentTable, ItemTokens, SearchKind, SearchResult, SearchUnit
from clickscale.layers.visibility import Visibility


class CandidateSearch(SearchUnit):
    """Finds the ``kept`` most relevant behaviors of all that each candidate sees.

    Args:
        width: of an item's token. kind: how relevance is measured.
        field: the item field that ``kind=field`` compares; the first attribute of the item if empty.

    Raises:
        ConfigError: the search needs what the data set does not have.
    """

    def __init__(
        self,
        features: Features,
        items: ItemColumns,
        width: int,
        kind: SearchKind,
        kept: int,
        field: str = "",
    ) -> None:
        codes = np.asarray(items[column_of(_field(features, field))]) if kind == "field" else None
        super().__init__(kind, kept, width, codes)
        self.width = width
        self.vectors = _content(features, items) if kind == "content" else None

    def find(self, shown: Visibility, own: Tensor, tokens: Tensor) -> SearchResult:
        """Search for the candidates of ``shown``.

        Args:
            own: (B, C, >= width), tokens of the candidates that begin with their items'.
            tokens: (B, L, >= width) of the behaviors, likewise.
        """
        candidates: CandidateSide = shown.candidates
        cosines = None if self.vectors is None else self.vectors.compare(candidates.items, shown.items)
        result: SearchResult = self(
            ItemTokens(candidates.items, own[..., : self.width]),
            ItemTokens(shown.items, tokens[..., : self.width]),
            shown.seen,
            cosines,
        )
        return result

    def relevance(self, own: Tensor, tokens: Tensor) -> Tensor:
        """Relevance (B, C, L) of every behavior in a learned search; arguments as of `find`."""
        assert self.learned is not None, "only a learned search has a relevance that is trained"
        learned: Tensor = self.learned(own[..., : self.width], tokens[..., : self.width])
        return learned


def _field(features: Features, name: str) -> str:
    """The item field to compare; the first attribute if none is named."""
    fields = [feature.name for feature in categorical(features.item)]
    if not name:
        return fields[1] if len(fields) > 1 else fields[0]  # the item id is the first field
    if name not in fields:
        raise ConfigError(unknown("item field", name, fields))
    return name


def _content(features: Features, items: ItemColumns) -> ContentTable:
    columns = [np.asarray(items[column_of(feature.name)]) for feature in content(features.item)]
    if not columns:
        raise ConfigError(
            "search=content needs content vectors of items, which the data set does not have; add them"
            " (clickscale content --help) or choose another search."
        )
    return ContentTable(columns)
