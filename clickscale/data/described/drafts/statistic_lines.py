"""The statistics of a draft: the usual ones that a log can have, each with its meaning."""

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.toml_lines import quoted
from clickscale.schema import Statistic, usual_statistics

_CATEGORIES = (3, 300)  # fewest and most values of a field that tells the kind of an item
_KINDS = re.compile(r"categ|cate_|genre|topic|tag|department|section|class|type")


def statistic_lines(
    categories: Mapping[str, Column], has: Mapping[str, bool], ordered: bool, free: Callable[[str], str]
) -> Iterator[str]:
    """Yield the tables ``[[statistics]]``.

    Args:
        categories: categorical fields of items by name.
        has: which of ``user`` and ``item`` the log has.
        ordered: true if moments are places in an order, so that windows in seconds mean nothing.
        free: gives a name that no field has.
    """
    category, why = _category(categories)
    statistics = [
        each
        for each in usual_statistics(category)
        if all(has.get(key, True) for key in each.by) and not (each.window and ordered)
    ]
    if not statistics:
        return
    yield "\n# Known before each impression, computed from earlier ones only. Models and trees read these"
    yield "# numbers beside the fields. Any of them may be removed."
    yield f"# {why}"
    for each in statistics:
        yield f"[[statistics]]  # {_meaning(each)}"
        yield f"name = {quoted(free(each.name))}"
        yield f"by = [{', '.join(quoted(key) for key in each.by)}]"
        yield f"of = {quoted(each.of)}"
        if each.window:
            yield f"window = {each.window}"


def _category(categories: Mapping[str, Column]) -> tuple[str, str]:
    """Return the item field that best tells the kind of an item, and why; an empty name if none does."""
    low, high = _CATEGORIES
    fit = {
        name: values for name, column in categories.items() if low <= (values := _value_count(column)) <= high
    }
    if not fit:
        return "", f"No item field has {low} to {high} values, so none stands for the kind of an item."
    said = {name: values for name, values in fit.items() if _tells_kind(categories[name])}
    middle = np.sqrt(low * high)
    chosen = min(said or fit, key=lambda name: abs(np.log(fit[name] / middle)))
    why = "by its name" if said else f"its {fit[chosen]} values are few enough to come back in a history"
    return chosen, f"{chosen} stands for the kind of an item: {why}."


def _meaning(statistic: Statistic) -> str:
    """Describe a statistic in words."""
    what = {
        "count": "number of earlier impressions of the same",
        "rate": "smoothed label rate of earlier impressions of the same",
        "lift": "earlier labels less the rates of their items, of the same",
    }[statistic.of]
    count = statistic.window // 86_400
    days = f", {count} day{'s' * (count > 1)} back" if count else ""
    return f"{what} {' and '.join(statistic.by)}{days}"


def _tells_kind(column: Column) -> bool:
    """True if a column's name implies that its values are kinds of items."""
    return bool(_KINDS.search(column.name.lower()))


def _value_count(column: Column) -> int:
    """Count the different values; those of lists one by one."""
    if pa.types.is_nested(column.values.type):
        return int(pc.count_distinct(pc.list_flatten(column.known)).as_py())
    if not column.separator:
        return column.distinct
    return len({value for entries in column.entries() for value in entries})
