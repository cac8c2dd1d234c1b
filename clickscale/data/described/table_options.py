"""Options of each table of a described log: where it lies, how it is written, and what its columns mean."""

from clickscale.config import Config
from clickscale.data.described.rows import Columns, Lists, Order
from clickscale.data.tables.casts import Unit
from clickscale.data.tables.delimited import Encoding, TextFormat
from clickscale.data.tables.raw_tables import Format
from clickscale.errors import SchemaError
from clickscale.schema import Field


class Files(Config, frozen=True):
    """Location and layout of a table.

    Attributes:
        files: one or several paths or patterns (``*``, ``**``), relative to the TOML file. Empty for users,
            items and behaviors: their columns are in the impressions table.
        format: by the ending of the file name, if ``auto``.
        separator: of text tables; comma or tab if empty.
        names: the columns of text tables without a header line.
        skip: lines of text tables before the header, such as the name of a report.
        nulls: texts that mean a missing value.
        unnest: column of lists of objects, each of which is a row with the other values of its line; empty: a
            line is a row.
    """

    files: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] = ()
    format: Format = "auto"
    separator: str = ""
    names: tuple[str, ...] = ()
    quote: str = '"'
    encoding: Encoding = "utf-8"
    skip: int = 0
    nulls: tuple[str, ...] = TextFormat().nulls
    unnest: str = ""

    def __post_init__(self) -> None:
        """Refuse a number of lines that cannot be."""
        if self.skip < 0:
            raise SchemaError(f"skip = {self.skip}: the lines before a table are 0 or more.")

    def patterns(self) -> list[tuple[str, str]]:
        """List the paths and patterns, each with its part if files are given by part."""
        if not isinstance(self.files, dict):
            return [("", pattern) for pattern in _several(self.files)]
        return [(part, pattern) for part, files in self.files.items() for pattern in _several(files)]

    def text(self) -> TextFormat:
        """Return the layout of text files of this table."""
        return TextFormat(
            separator=self.separator,
            names=self.names,
            quote=self.quote,
            encoding=self.encoding,
            skip=self.skip,
            nulls=self.nulls,
        )


def _several(files: str | tuple[str, ...]) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files


class Impressions(Files, frozen=True):
    """The table of impressions: one row per labelled candidate, or one per request or user with ``lists``.

    Attributes:
        files: as for every table; or files by part, under the keys ``train``, ``valid`` and ``test``.
        user, item, time: names of its columns; those of the id fields and ``time`` if empty. Several columns
            make one composite id, or a moment of a date and a time of day.
        time_unit: ``auto`` detects it from the size of the first values.
        ordered: the rows of a user are in their true order, so the earlier ones of a moment are known to the
            later ones; each row gets a time at least a second after the user's row before.
        order: for a log without times: ``rows`` if later rows are later, ``lists`` if each row holds all
            items of one user, the oldest first; the lists of all users then end at the same moment.
        lists: how the lists of a row become impressions.
        guests: values of the user column that stand for nobody, an empty one for a missing id. Each such row
            is a user of its own, without a history; otherwise rows without a user are quarantined.
        where: only the rows that fulfill this condition are impressions, such as ``event == 'impression'``;
            the others are left out.
        fields: context fields.
    """

    user: Columns = ""
    item: Columns = ""
    time: Columns = "time"
    time_unit: Unit = "auto"
    ordered: bool = False
    order: Order = ""
    lists: Lists | None = None
    where: str = ""
    guests: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()


class Behaviors(Files, frozen=True):
    """The table of behaviors; without files, the impressions are the behaviors.

    Attributes:
        where: keep only the rows that fulfill this condition, such as ``clicked == 1``.
        known_at: column with the moment from which a behavior may be shown; where it is empty, its time.
        known_after: seconds after its time from which a behavior may be shown, if there is no such column.
            For behaviors made of impressions it is at least the ``delay`` of every label whose outcome they
            show, in ``fields`` or by ``where``.
        fields: behavior fields.
    """

    user: Columns = ""
    item: Columns = ""
    time: Columns = ""
    time_unit: Unit = "auto"
    where: str = ""
    known_at: str = ""
    known_after: int = 0
    fields: tuple[Field, ...] = ()


class History(Files, frozen=True):
    """Lists of earlier behaviors, beside those of `Behaviors`: a table, or columns of the impressions.

    A list stands in order, the oldest behavior first; each behavior counts once (`histories`).

    Attributes:
        files: the table, with one row per user; without files, the lists stand in the rows of impressions.
        user: column of a table of its own.
        items: column of lists of item ids.
        times: column of lists with the time of each; without it, the order of a list counts.
        time: of a table of its own without ``times``: column with the time of the last behavior of each
            list. Without it, lists are placed before the first impression of their user.
        known_after: seconds after its time from which a behavior with a time of its own may be shown.
        entry_separator: what divides the entries of texts, as in `Lists`.
        padding: an entry that fills lists up to one length and is no behavior, such as ``0``.
        newest_first: lists begin with the newest behavior.
        per_row: each row of the impressions keeps its own list, for logs whose rows cannot be put in order of
            time. Then every row counts as a user of its own, and the log declares none.
        fields: behavior fields in lists with one value for each behavior; fields of `Behaviors` with the
            same name are the same feature.
    """

    items: str = ""
    user: Columns = ""
    times: str = ""
    time: str = ""
    time_unit: Unit = "auto"
    known_after: int = 0
    entry_separator: str = ""
    padding: str = ""
    newest_first: bool = False
    per_row: bool = False
    fields: tuple[Field, ...] = ()


class Outcome(Files, frozen=True):
    """A table of outcomes, such as clicks: the impressions that it names have one.

    Attributes:
        name: of the column of the impressions that it makes, 1 for those of its keys and 0 for all others; a
            label or a field reads it like any column.
        key: columns of this table that together name an impression; a row with a list, such as the items of
            an order, names one by each entry.
        shown_key: the same of the impressions, if their names differ.
        within: seconds after an impression up to which an outcome of its key counts; 0 for any time.
        time, time_unit: of an outcome; with ``within``.
        where: only the rows that fulfill this condition are outcomes, such as ``event == 'click'``.
    """

    name: str = ""
    key: tuple[str, ...] = ()
    shown_key: tuple[str, ...] = ()
    within: int = 0
    time: Columns = ""
    time_unit: Unit = "auto"
    where: str = ""


class JoinedTable(Files, frozen=True):
    """A table that rows of others name by an id: requests of impressions, sellers of items, stores, cities.

    Where a table of the log lacks a column that the description reads, and its rows name those of this one,
    they get the column from here.

    Attributes:
        key: columns of this table that together name one of its rows; of several rows with one key the first
            counts.
        several: each column is a list of the values of all rows with a key, such as the badges of a seller;
            with ``valid_from``, of all rows that hold at the time.
        shown_key: the same of the tables that name it, if their names differ. A list there names several
            rows, and gets lists.
        entry_separator: what divides such a list if it is a text, such as ``|``.
        prefix: begins the names that its columns have there, such as ``seller_``. Those that begin with it
            already are called there as they are here.
        valid_from, valid_to: columns with the moments from and up to which a row holds, such as a price, the
            latter without it. Of the rows of a key the one counts that holds at the time of the impression;
            only tables with the column of this time can name them. A row without an end lasts until the next
            one begins, and one without a begin holds from the start.
        time_unit: of these moments.
    """

    key: tuple[str, ...] = ()
    shown_key: tuple[str, ...] = ()
    entry_separator: str = ""
    several: bool = False
    prefix: str = ""
    valid_from: str = ""
    valid_to: str = ""
    time_unit: Unit = "auto"


class More(Files, frozen=True):
    """Another table with attributes of users or of items.

    Attributes:
        key: columns of the id, if their names are not those of the id field.
        fields: those of several ``values`` collect them from all rows of an id; others take its first row.
    """

    key: Columns = ""
    fields: tuple[Field, ...] = ()


class _Attributes(Files, frozen=True):
    """Tables of attributes.

    Attributes:
        fields: of the first table; without files, columns of the impressions.
        more: further tables.
    """

    fields: tuple[Field, ...] = ()
    more: tuple[More, ...] = ()

    def every(self) -> tuple[Field, ...]:
        """List the fields of all tables."""
        return (*self.fields, *(field for table in self.more for field in table.fields))


class Users(_Attributes, frozen=True):
    """The tables of profiles; without files, profiles come from a user's first impression."""

    user: Columns = ""


class Items(_Attributes, frozen=True):
    """The tables of item attributes; without files, attributes come from an item's first impression."""

    item: Columns = ""


class Content(Config, frozen=True):
    """Frozen vectors of items: ``.npy`` files, the matrix (rows, width) and the item id of each row."""

    vectors: str
    ids: str
    name: str = "content"
