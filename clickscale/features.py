"""Features: fields as a model sees them, with the names of their columns and the meaning of their indices.

In every categorical feature, index 0 is padding and index 1 is unknown.
"""

from typing import Literal

from clickscale.config import Config

PADDING, UNKNOWN, FIRST = 0, 1, 2  # meaning of the lowest indices of every categorical feature
POSITIVES = "positives"  # table of the events that statistics count in a log whose negatives were drawn


def column_of(name: str) -> str:
    """Name of the column of a field, in canonical tables, in records and in every file."""
    return f"field.{name}"


def label_of(name: str) -> str:
    """Name of the column of a label, in canonical tables, in records and in every file."""
    return f"label.{name}"


class Feature(Config, frozen=True):
    """Shape of a field for a model.

    Attributes:
        size: embedding rows of a categorical feature, padding and unknown included; 0 otherwise.
        values: values a row may hold (categorical), 1 otherwise.
        width: floats a row holds (content vectors), 1 for numbers, 0 for categorical.
        edges: quantiles of a number in the training part, ascending and distinct, in the scale of its
            column; empty for other kinds and for a number that the training part never has.
        shares: name of the feature whose embedding rows this one uses, or empty.
    """

    name: str
    kind: Literal["categorical", "numeric", "content"]
    size: int = 0
    values: int = 1
    width: int = 0
    edges: tuple[float, ...] = ()
    shares: str = ""


class Features(Config, frozen=True):
    """Features from which a model is built; derived from the schema and the encoder of a data set.

    ``profile`` begins with the user id and ``item`` with the item id. Column order within each side is the
    column order of the tensors of `clickscale.batch`.

    Attributes:
        items: rows of the item table, rows 0 (padding) and 1 (unknown) included.
        labels: names of the labels that the log has, in order.
    """

    profile: tuple[Feature, ...]
    behavior: tuple[Feature, ...]
    item: tuple[Feature, ...]
    context: tuple[Feature, ...]
    items: int
    labels: tuple[str, ...]


def categorical(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Select the categorical features, in order."""
    return tuple(feature for feature in features if feature.kind == "categorical")


def numeric(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Select the numeric features, in order."""
    return tuple(feature for feature in features if feature.kind == "numeric")


def content(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Select the content vectors, in order."""
    return tuple(feature for feature in features if feature.kind == "content")
