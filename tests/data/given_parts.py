"""A small log that names the parts of its rows."""

from pathlib import Path

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare


def without_valid(folder: Path) -> Dataset:
    """A data set whose log names the parts train and test, whose valid part is thus the end of train."""
    rows = [
        f"{n % 4},i{n % 5 if n % 3 else 0},{1000 + n},{n % 2},{'test' if n % 3 else 'train'}"
        for n in range(90)
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,time,clicked,fold", *rows]) + "\n")
    (folder / "log.toml").write_text(
        'name = "x"\nuser = { name = "user" }\nitem = { name = "item" }\n'
        'labels = [{ name = "click", column = "clicked" }]\ntime_bounds = [0, 9999]\n'
        '[impressions]\nfiles = "log.csv"\ntime = "time"\n'
        '[split]\nkind = "column"\ncolumn = "fold"\nvalid = 0.2\n'
        '[[statistics]]\nname = "item_rate"\nby = ["item"]\n'
    )
    prepare(load_log(folder / "log.toml"), folder / "data")
    return open_dataset(folder / "data")
