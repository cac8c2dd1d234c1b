"""Schema of a described log, and the contradictions of a description that are refused."""

import zoneinfo
from collections.abc import Sequence

import msgspec

from clickscale.data.described.log_config import CANONICAL, LogConfig
from clickscale.data.described.rows import Columns, Lists
from clickscale.data.described.table_options import History, JoinedTable, Outcome
from clickscale.data.source import PARTS
from clickscale.data.tables.conditions import Condition, parse_condition
from clickscale.errors import SchemaError, unknown
from clickscale.schema import Field, Label, Schema


def log_schema(config: LogConfig, width: int) -> Schema:
    """Derive the schema of a log; ``width`` is that of its content vectors, 0 without them.

    Raises:
        SchemaError: labels, names or fields contradict each other, or a feature reads the column of a label.
    """
    _check_zone(config)
    vectors = (Field(name=config.content.name, kind="content", width=width),) if config.content else ()
    absent = config.absent
    _check_shape(config, absent)
    _check_groups(config)
    nobody = "user" in absent or config.owns_rows
    schema = Schema(
        name=config.name,
        user=_constant("user") if nobody else _user(config),
        item=_constant("item") if "item" in absent else _id("item", config.item, config.impressions.item),
        labels=_labels(config),
        profile=config.users.every(),
        behavior=config.behavior_fields(),
        items=(*config.items.every(), *vectors),
        context=config.impressions.fields,
        derived=config.derived,
        statistics=config.statistics,
        sampled_negatives=config.negatives,
        absent=absent,
        groups=config.groups,
        known_after=0 if "user" in absent else config.known_after,
        behavior_label="" if config.behaviors.files else _behavior_label(config),
        has_own_behaviors=bool(config.behaviors.files),
        time_zone=config.time_zone,
    ).validate()
    _refuse_outcomes(config)
    for field in (*schema.profile, *schema.behavior, *schema.items, *schema.context):
        if field.name in CANONICAL:
            raise SchemaError(
                f"Log {config.name!r}: a field must not be named {field.name!r}; "
                f"choose another and keep the column: name = 'its_{field.name}', column = '{field.source}'."
            )
    return schema


def _user(config: LogConfig) -> Field:
    """Return the field of users; those of one training impression, such as guests, are unknown to models."""
    field = _id("user", config.user, config.impressions.user)
    if not config.impressions.guests:
        return field
    if field.dtype != "string" or field.parts:
        raise SchemaError(
            f"Log {config.name!r}: guests get texts as ids, so the user must be in one column, without dtype."
        )
    return msgspec.structs.replace(field, min_count=max(field.min_count, 2))


def _behavior_label(config: LogConfig) -> str:
    """Name the label without which an impression is no behavior; empty if none decides that."""
    where = parse_condition(config.behaviors.where) if config.behaviors.where else None
    # Drawn negatives are no behaviors, whatever the condition is.
    return next((each.name for each in _labels(config) if config.negatives or _is_told(each, where)), "")


def _is_told(label: Label, where: Condition | None) -> bool:
    """True if a label is 1 just where a condition holds."""
    made = parse_condition(label.condition) if label.condition else Condition(label.column, "==", 1.0)
    return made == where and not label.known


def _refuse_outcomes(config: LogConfig) -> None:
    """Refuse features that read the column from which a label is made."""
    if config.negatives:  # a condition chooses the positives, whose value the negatives copy
        return
    made_of = {label.column or parse_condition(label.condition).column: label.name for label in config.labels}
    tables = {
        "impressions": config.impressions.fields,
        "users": () if config.users.files else config.users.fields,
        "items": () if config.items.files else config.items.fields,
    }
    for name, fields in tables.items():
        for field in fields:
            for column in field.flags or (field.source,):
                if column not in made_of:
                    continue
                raise SchemaError(
                    f"Log {config.name!r}: field {field.name!r} of [{name}] reads the column "
                    f"{column!r}, of which label {made_of[column]!r} is made, so it holds the "
                    "outcome; remove it, or move it to [behaviors], where later impressions see it."
                )


def _id(role: str, declared: Field | None, columns: Columns) -> Field:
    """Return the id field of a role; requests must know that an id has several columns."""
    field = declared or Field(name=role)
    return field if isinstance(columns, str) else msgspec.structs.replace(field, column=columns)


def _constant(role: str) -> Field:
    """Make the id field of a role that the log does not have: every id has the same index."""
    return Field(name=role, dtype="int", vocabulary="hash", buckets=1)


def _check_shape(config: LogConfig, absent: Sequence[str]) -> None:
    """Refuse parts of a description that contradict each other.

    Raises:
        SchemaError: names the keys and the way out.
    """
    shown, history, name = config.impressions, config.history, f"Log {config.name!r}"
    needs_user = [
        key
        for key, used in (
            ("behaviors.files", bool(config.behaviors.files)),
            ("history", history is not None),
            ("users.files", bool(config.users.files or config.users.more)),
            ("impressions.order = 'lists'", shown.order == "lists"),
            ("impressions.guests", bool(shown.guests)),
        )
        if used
    ]
    if "user" in absent and needs_user:
        raise SchemaError(f"{name} has {needs_user[0]} but no user; name its column: user = {{ ... }}.")
    if "item" in absent and (
        shown.lists or config.negatives or config.items.files or config.items.more or config.content
    ):
        raise SchemaError(
            f"{name} has no item, so lists, negatives, items and content mean nothing; name it."
        )
    if shown.order and shown.time != "time":
        raise SchemaError(
            f"{name}: order = {shown.order!r} stands for a missing time, and time = {shown.time!r} names "
            "one; leave one of them out."
        )
    for outcome in config.outcomes:
        _check_outcome(name, outcome)
    for table in config.joined:
        missing = [key for key, value in {"files": table.files, "key": table.key}.items() if not value]
        if missing:
            raise SchemaError(f"{name}: a table of [[joined]] needs {missing[0]}.")
        _check_keys(f"{name}: the table {table.files!r} of [[joined]]", table)
        if table.valid_to and not table.valid_from:
            raise SchemaError(
                f"{name}: the table {table.files!r} of [[joined]] needs valid_from for valid_to."
            )
        if table.valid_from and shown.order:
            raise SchemaError(f"{name}: valid_from asks for the time of an impression, which has none here.")
    _check_condition(name, config)
    if shown.ordered and (other := _beside_order(config)):
        raise SchemaError(
            f"{name}: ordered = true tells rows of one moment apart, which does not go with {other}; leave "
            "one of them out."
        )
    if shown.order == "lists" and shown.lists is None:
        raise SchemaError(f"{name}: order = 'lists' needs a table [impressions.lists], which may be empty.")
    if shown.lists and (isinstance(shown.item, tuple) or (config.item and config.item.parts)):
        raise SchemaError(f"{name}: lists are taken apart in one item column; it has several.")
    if shown.lists:
        _check_lists(f"{name}: [impressions.lists]", shown.lists)
    if history and not history.items:
        raise SchemaError(f"{name}: [history] needs the column with the lists: items = ...")
    if history and (flagged := [field.name for field in history.fields if field.flags]):
        raise SchemaError(f"{name}: field {flagged[0]!r} of [history] has flags, and its entries are lists.")
    if history and history.per_row:
        _check_rows_of_their_own(config, history)
    if isinstance(shown.files, dict) and (wrong := [key for key in shown.files if key not in PARTS]):
        raise SchemaError(f"{name}: impressions.files: " + unknown("part", wrong[0], PARTS))
    if config.parts().kind == "files" and not isinstance(shown.files, dict):
        raise SchemaError(
            f"{name}: a split by files needs the files of each part: "
            'files = { train = "train.csv", test = "test.csv" }.'
        )


def _check_lists(what: str, lists: Lists) -> None:
    """Refuse lists that are made of columns and cannot be, and places that begin below 0."""
    if lists.first_place < 0:
        raise SchemaError(f"{what} has first_place = {lists.first_place}; places begin with 0 or 1.")
    if lists.first and lists.gather:
        raise SchemaError(
            f"{what} has first = {lists.first!r}, an entry of a list that stands in one column, and gathers "
            f"{next(iter(lists.gather))!r} of several columns; name that column alone, without first."
        )
    widths = {name: len(parts) for name, parts in lists.gather.items()}
    for name, width in widths.items():
        if width == 0:
            raise SchemaError(
                f"{what} gathers {name!r} of no columns; name those that stand beside each other."
            )
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name!r} has {width}" for name, width in widths.items())
        raise SchemaError(
            f"{what} gathers lists of different lengths: {told}; name as many columns for each."
        )


def _check_outcome(log: str, outcome: Outcome) -> None:
    """Refuse a table of outcomes without a name, files, key or time."""
    said = {"name": outcome.name, "files": outcome.files, "key": outcome.key}
    missing = [key for key, value in said.items() if not value]
    missing += ["time"] if outcome.within and not outcome.time else []
    if missing:
        raise SchemaError(f"{log}: outcome {outcome.name!r} needs {missing[0]}.")
    _check_keys(f"{log}: outcome {outcome.name!r}", outcome)
    if outcome.within < 0:
        raise SchemaError(f"{log}: outcome {outcome.name!r} counts within {outcome.within} s; set 0 or more.")


def _check_keys(what: str, joined: Outcome | JoinedTable) -> None:
    """Refuse keys of different numbers of columns."""
    if joined.shown_key and len(joined.shown_key) != len(joined.key):
        raise SchemaError(
            f"{what} has {len(joined.key)} columns as its key and {len(joined.shown_key)} as its shown_key; "
            "name as many."
        )


def _check_condition(log: str, config: LogConfig) -> None:
    """Refuse a condition on impressions whose column exists only once rows were chosen by it."""
    shown = config.impressions
    if not shown.where:
        return
    column, lists = parse_condition(shown.where).column, shown.lists
    told = {outcome.name: "[[outcomes]] makes" for outcome in config.outcomes}
    if lists is not None:
        told |= dict.fromkeys(
            (*lists.made, *lists.gather, *lists.parallel, *lists.chosen, *lists.chosen_places),
            "[impressions.lists] takes apart",
        )
    if column in told:
        raise SchemaError(
            f"{log}: [impressions] where = {shown.where!r} chooses rows as they stand in the table, and "
            f"{told[column]} {column!r}; choose by another column."
        )


def _beside_order(config: LogConfig) -> str:
    """Name what does not go with rows of one moment in their true order."""
    shown = config.impressions
    keys = {
        "order": bool(shown.order),
        "lists": shown.lists is not None,
        "history": config.history is not None,
        "behaviors.files": bool(config.behaviors.files),
    }
    return next((key for key, used in keys.items() if used), "")


def _check_rows_of_their_own(config: LogConfig, history: History) -> None:
    """Refuse what means nothing where every row is a user of its own."""
    declared = [
        key
        for key, used in (
            ("user", config.user is not None),
            ("impressions.user", bool(config.impressions.user)),
            ("impressions.guests", bool(config.impressions.guests)),
            ("impressions.lists", config.impressions.lists is not None),
            ("behaviors.files", bool(config.behaviors.files)),
            ("users.files", bool(config.users.files)),
            ("users.more", bool(config.users.more)),
            ("history.files", bool(history.files)),
        )
        if used
    ]
    if declared:
        raise SchemaError(
            f"Log {config.name!r}: with history.per_row every row is a user of its own, so {declared[0]} "
            "means nothing; leave one of them out. A column with users may be a field of [users]."
        )
    if history.times and config.impressions.order:
        raise SchemaError(
            f"Log {config.name!r}: history.times = {history.times!r} cannot be compared with rows that have "
            "no time; leave it out, so that the order of each list counts."
        )


def _check_groups(config: LogConfig) -> None:
    """Refuse groups of a log that has users, or that are no categories of rows."""
    kinds = [field.name for field in config.users.fields if field.kind == "categorical" and field.values == 1]
    if config.groups and not config.owns_rows:
        raise SchemaError(
            f"Log {config.name!r}: groups = {config.groups!r} stands for the users of a log with "
            "history.per_row, and this log has none; leave it out."
        )
    if config.groups and config.groups not in kinds:
        complaint = unknown("field of [users]", config.groups, kinds)
        raise SchemaError(f"Log {config.name!r}: groups: {complaint}")


def _check_zone(config: LogConfig) -> None:
    try:
        zoneinfo.ZoneInfo(config.time_zone or "UTC")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise SchemaError(
            f"Log {config.name!r}: time_zone = {config.time_zone!r} names no zone; write it like "
            "'Europe/Berlin' or 'UTC'."
        ) from error


def _labels(config: LogConfig) -> tuple[Label, ...]:
    """Return the declared labels, checked against ``negatives``."""
    if config.negatives < 0:
        raise SchemaError(f"Log {config.name!r}: negatives = {config.negatives} is below 0; set 0 or more.")
    if not config.negatives:
        for label in config.labels:
            if bool(label.column) == bool(label.condition):
                raise SchemaError(
                    f"Log {config.name!r}: label {label.name!r} needs a column of 0 and 1 or a condition, "
                    f"and has {'both' if label.column else 'neither'}."
                )
        return config.labels or _no_label(config.name)
    if len(config.labels) > 1 or any(label.column for label in config.labels):
        raise SchemaError(
            f"Log {config.name!r}: with sampled negatives there is one label without a column; "
            "give a condition instead if only some rows are positive."
        )
    if config.labels and (known := config.labels[0].known):
        raise SchemaError(
            f"Log {config.name!r}: label {config.labels[0].name!r} has known = {known!r}, and with sampled "
            "negatives only positives are read; write it as where = ... under [impressions]."
        )
    return config.labels or (Label(name="positive"),)


def _no_label(name: str) -> tuple[Label, ...]:
    raise SchemaError(
        f"Log {name!r} declares no label. Name a column of 0 and 1 (column = ...), a comparison "
        "(condition = 'rating >= 4'), or sample negatives if every row is a positive (negatives = 4)."
    )
