"""The logs on which defaults are judged, as plain tables that `clickscale schema guess` describes.

    python benchmarks/logs.py SOURCE OUT [--logs quarter,rare]

SOURCE holds the public logs in the layouts in which they are published: ``ml-1m``, ``ml-100k`` (MovieLens),
``kuairand-pure-part``, ``mind-small-sample``, ``amazon2014-musical-5core``, ``seq-beauty``. Each log below is
written to OUT/raw/NAME and prepared in OUT/NAME; one that is there is kept. Drafts are not edited; a log that
holds only positives gets four sampled negatives for each of them.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]
Form = Literal["plain", "zip", "clock", "brackets"]

STEERING = ("quarter", "slice10k", "rare", "musical", "kuairand")  # these shaped the rules
CHECKING = ("ml-100k", "ml-1m", "mind", "positives", "beauty", "slice40k")  # these only check them
SLICES = {  # of users of MovieLens-1M that the slices above lack: first impression and number; steered L2
    **{f"users40k-{k}": (40_000 * k, 40_000) for k in range(6)},
    **{f"users10k-{k}": (240_000 + 10_000 * k, 10_000) for k in range(6)},
    **{f"users80k-{k}": (300_000 + 80_000 * k, 80_000) for k in range(2)},
    **{f"users160k-{k}": (460_000 + 160_000 * k, 160_000) for k in range(3)},
}
# The quarter with the zip codes of its users, with dates and times of day apart, with genres in brackets.
FORMS: tuple[Form, ...] = ("zip", "clock", "brackets")
FILES = {  # drafted as they are published
    "ml-100k-files": ("ml-100k", ("u.data", "u.item", "u.user")),
    "ml-1m-files": ("ml-1m", ("ratings.dat", "movies.dat", "users.dat")),
    "kuairand-files": ("kuairand-pure-part", ("interactions.parquet", "items.parquet", "users.parquet")),
}
NEGATIVES = 4  # drawn for each positive of a log that has only positives
ADAPTERS = {
    "ml-100k": ("movielens-100k", "ml-100k", ()),
    "ml-1m": ("movielens-1m", "ml-1m", ("ordered=true",)),
    "mind": ("mind", "mind-small-sample", ()),
}


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def ratings(source: Path) -> Ints:
    """Rows (user, item, rating, time) of MovieLens-1M, in the order of its file."""
    lines = (source / "ml-1m" / "ratings.dat").read_bytes().split()
    return np.array([line.split(b"::") for line in lines], dtype=np.int64)


def films(source: Path, raw: Path, form: Form = "plain") -> None:
    """Write the item and user tables of MovieLens-1M."""
    movies = (source / "ml-1m" / "movies.dat").read_text("latin-1").splitlines()
    items = [line.split("::")[::2] for line in movies]
    if form == "brackets":
        items = [[item, str(genres.split("|"))] for item, genres in items]
    write(raw / "items.csv", ["item_id", "genres"], items)
    users = (source / "ml-1m" / "users.dat").read_text("latin-1").splitlines()
    header = ["user_id", "gender", "age", "occupation", "zip"]
    columns = 5 if form == "zip" else 4
    write(raw / "users.csv", header[:columns], [line.split("::")[:columns] for line in users])


def rated(source: Path, raw: Path, rows: Ints, form: Form = "plain") -> None:
    """Write ratings as impressions: a rating of at least 4 is a click."""
    films(source, raw, form)
    times = ["date", "time"] if form == "clock" else ["time"]
    header = ["user_id", "item_id", *times, "clicked"]
    write(raw / "clicks.csv", header, [(u, i, *moment(t, form), int(r >= 4)) for u, i, r, t in rows.tolist()])


def moment(time: int, form: Form) -> list[str]:
    """A time in one column, or its date and its time of day."""
    if form != "clock":
        return [str(time)]
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}".split()


def whole_users(rows: Ints, seed: int, count: int) -> Ints:
    """The first ``count`` ratings of users in random order."""
    users = np.unique(rows[:, 0])
    rank = np.empty(users.max() + 1, np.int64)
    rank[users] = np.random.default_rng(seed).permutation(len(users))
    return rows[np.argsort(rank[rows[:, 0]], kind="stable")][:count]


def quarter(source: Path, raw: Path, form: Form = "plain") -> None:
    """Write a quarter of the users of MovieLens-1M."""
    rows = ratings(source)
    rated(source, raw, rows[rows[:, 0] % 4 == 0], form)


def slice10k(source: Path, raw: Path) -> None:
    """Write 10,000 impressions of some users of MovieLens-1M."""
    rated(source, raw, whole_users(ratings(source), 0, 10_000))


def slice40k(source: Path, raw: Path) -> None:
    """Write 40,000 impressions of other users of MovieLens-1M."""
    rated(source, raw, whole_users(ratings(source), 1, 40_000))


def more_users(source: Path, raw: Path, first: int, count: int) -> None:
    """Write impressions of users of MovieLens-1M that neither slice10k nor slice40k has."""
    rows = ratings(source)
    taken = np.concatenate([whole_users(rows, 0, 10_000)[:, 0], whole_users(rows, 1, 40_000)[:, 0]])
    others = rows[~np.isin(rows[:, 0], taken)]
    rated(source, raw, whole_users(others, 100, len(others))[first : first + count])


def rare(source: Path, raw: Path) -> None:
    """Write 40,000 impressions of MovieLens-1M of which 0.5% are clicks."""
    rows, random = ratings(source), np.random.default_rng(2)
    rows = rows[rows[:, 0] % 8 == 1]
    clicks, others = (np.flatnonzero(kind) for kind in (rows[:, 2] >= 4, rows[:, 2] < 4))
    chosen = np.concatenate([random.choice(clicks, 200, replace=False), random.choice(others, 39_800)])
    rated(source, raw, rows[np.sort(np.unique(chosen))])


def positives(source: Path, raw: Path) -> None:
    """Write the ratings of at least 4 of another quarter of MovieLens-1M, without outcomes."""
    films(source, raw)
    rows = ratings(source)
    rows = rows[(rows[:, 2] >= 4) & (rows[:, 0] % 4 == 1)]
    write(raw / "clicks.csv", ["user_id", "item_id", "time"], rows[:, [0, 1, 3]].tolist())


def musical(source: Path, raw: Path) -> None:
    """Write reviews of musical instruments: what a user reviewed, without outcomes."""
    table = pq.read_table(source / "amazon2014-musical-5core" / "interactions.parquet")
    columns = [table[name].to_pylist() for name in ("user_id", "item_id", "timestamp")]
    write(raw / "clicks.csv", ["user_id", "item_id", "time"], zip(*columns, strict=True))


def beauty(source: Path, raw: Path) -> None:
    """Write lists of reviewed products in their order, a day apart, each user from a random day on."""
    random, rows = np.random.default_rng(3), []
    for line in pq.read_table(source / "seq-beauty" / "user_sequences.parquet").to_pylist():
        begun = 1_300_000_000 + int(random.integers(200)) * 86_400
        rows += [(line["user_id"], item, begun + day * 86_400) for day, item in enumerate(line["items"])]
    write(raw / "clicks.csv", ["user_id", "item_id", "time"], rows)
    items = pq.read_table(source / "seq-beauty" / "items.parquet").to_pylist()
    header = ["item_id", "attributes"]
    write(raw / "items.csv", header, [(i["item_id"], "|".join(map(str, i["attributes"]))) for i in items])


def kuairand(source: Path, raw: Path) -> None:
    """Write impressions of short videos with tables of videos and users."""
    folder = source / "kuairand-pure-part"
    names = {
        "clicks": (
            "interactions",
            {"time_ms": "time", "video_id": "item_id", "is_click": "clicked", "tab": "tab"},
        ),
        "items": (
            "items",
            {
                name: name
                for name in ("author_id", "video_type", "upload_type", "video_duration", "music_type", "tag")
            },
        ),
        "users": (
            "users",
            {name: name for name in ("user_active_degree", "is_video_author", "follow_user_num_range")},
        ),
    }
    keys = {
        "clicks": {"user_id": "user_id"},
        "items": {"video_id": "item_id"},
        "users": {"user_id": "user_id"},
    }
    for name, (file, columns) in names.items():
        table = pq.read_table(folder / f"{file}.parquet")
        chosen = keys[name] | columns
        values = [table[column].to_pylist() for column in chosen]
        write(raw / f"{name}.csv", list(chosen.values()), zip(*values, strict=True))


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    maker.__name__: maker
    for maker in (quarter, slice10k, slice40k, rare, positives, musical, beauty, kuairand)
}
MAKERS |= {name: partial(more_users, first=first, count=count) for name, (first, count) in SLICES.items()}


MAKERS |= {f"quarter-{form}": partial(quarter, form=form) for form in FORMS}


def clickscale(*arguments: str) -> None:
    """Run a verb of the command line."""
    subprocess.run([sys.executable, "-m", "clickscale", *arguments], check=True)


def prepare(name: str, source: Path, out: Path) -> Path:
    """Folder of a prepared log, made if it is not there."""
    data = out / name
    if (data / "manifest.json").is_file():
        return data
    if name in ADAPTERS:
        adapter, folder, options = ADAPTERS[name]
        sets = [text for option in options for text in ("--set", option)]
        clickscale("prepare", f"{adapter}:{source / folder}", "--out", str(data), *sets)
        return data
    raw = out / "raw" / name
    if name in FILES:
        folder, files = FILES[name]
        raw.mkdir(parents=True, exist_ok=True)
        tables = [str(source / folder / file) for file in files]
    else:
        MAKERS[name](source, raw)
        tables = [str(path) for path in sorted(raw.glob("*.csv"))]
    schema = raw / "schema.toml"
    schema.unlink(missing_ok=True)
    clickscale("schema", "guess", *tables, "--out", str(schema))
    if name in ("positives", "musical", "beauty") and "negatives =" not in (
        draft := schema.read_text("utf-8")
    ):
        schema.write_text(f"negatives = {NEGATIVES}\n{draft}", "utf-8")
    clickscale("prepare", str(schema), "--out", str(data))
    return data


def main() -> None:
    """Write and prepare the logs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--logs", default=",".join(STEERING + CHECKING))
    arguments = parser.parse_args()
    for name in arguments.logs.split(","):
        print(prepare(name, arguments.source, arguments.out), flush=True)


if __name__ == "__main__":
    main()
