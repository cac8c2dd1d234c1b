"""Files of a log with random damage: read whole, quarantined row by row, or refused with a sentence."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ClickscaleError
from tests.data.described.logs import TABLE, clicks, save

KINDS = ("csv", "tsv", "jsonl", "parquet")
PIECES = (b'"', b",", b"\t", b"\n", b"\r", b"\x00", b"\xff", b"{", b"}", b"\\", b"nan", b"-", b"1e999", b"'")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Apply one to five changes: a byte, a piece put in, a stretch taken out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 5)):
        at = draw.randrange(len(changed) + 1)
        end = min(at + draw.randint(1, 400), len(changed))
        kind = draw.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind == 1:
            changed[at:at] = draw.choice(PIECES)
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end]
        elif kind == 4 and draw.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def outcomes(folder: Path, count: int, seed: int) -> Counter[str]:
    """Guess and prepare mutated files; returns how many ended in which way."""
    draw, found = random.Random(seed), Counter[str]()
    originals = {}
    for kind in KINDS:
        rows = clicks(200)
        path = save(folder, rows, f"clicks.{'csv' if kind == 'tsv' else kind}")
        data = path.read_bytes()
        originals[kind] = data.replace(b",", b"\t") if kind == "tsv" else data
        path.unlink()
    for number in range(count):
        kind = draw.choice(KINDS)
        path = folder / f"clicks.{kind}"
        path.write_bytes(mutated(originals[kind], draw))
        try:
            drafted = guess([path], folder)
        except ClickscaleError:
            drafted = TABLE.replace("FILES", path.name)
        (folder / "schema.toml").write_text(drafted, "utf-8")
        out = folder / f"out-{number}"
        try:
            manifest = prepare(load_log(folder / "schema.toml"), out)
        except ClickscaleError:
            found["refused"] += 1
            assert not out.exists()
        else:
            report = manifest.report["impressions"]
            assert report.rows == report.kept + sum(report.quarantined.values())
            found["prepared"] += 1
            shutil.rmtree(out)
        path.unlink()
    return found


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    assert outcomes(tmp_path, 12, seed=0)["prepared"] > 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 2000, seed=1)
    assert found["prepared"] > 200
    assert found["refused"] > 20
