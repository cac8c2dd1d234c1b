"""Rows without a user: users of their own, without a history, unknown to models."""

from pathlib import Path

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import SchemaError
from clickscale.evaluation.evaluate import predict
from clickscale.features import UNKNOWN
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from tests.data.described.logs import START, TABLE, Row, clicks, drafted, save
from tests.trained import LENGTH, tiny_artifact

STATISTICS = """
[[statistics]]
name = "user_count"
by = ["user"]
of = "count"
[[statistics]]
name = "item_count"
by = ["item"]
of = "count"
"""
LISTS = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "items" }
labels = [{ name = "click", column = "click" }]
[impressions]
files = "clicks.csv"
time = "time"
guests = [""]
[impressions.lists]
suffix = "click"
[behaviors]
where = "click == 1"
"""


def visits(nobody: str | None = "", count: int = 600) -> list[Row]:
    """Clicks of which two in three name no user."""
    return [row | ({"user_id": nobody} if n % 3 else {}) for n, row in enumerate(clicks(count))]


def described(folder: Path, name: str = "clicks.csv", guests: str = '[""]') -> Dataset:
    text = TABLE.replace("FILES", name) + f"guests = {guests}\n[behaviors]\n" + STATISTICS
    (folder / "log.toml").write_text(text, encoding="utf-8")
    prepare(load_log(folder / "log.toml"), folder / "out")
    return open_dataset(folder / "out")


def of_guests(dataset: Dataset) -> np.ndarray:
    """(impressions,) whether they are of guests."""
    return np.asarray(dataset.impressions["row"]) % 3 > 0


@pytest.mark.parametrize(
    ("name", "nobody"), [("clicks.csv", ""), ("clicks.jsonl", None), ("clicks.csv", "none")]
)
def test_each_row_without_a_user_is_a_user_of_its_own(name: str, nobody: str | None, tmp_path: Path) -> None:
    save(tmp_path, visits(nobody), name)
    dataset = described(tmp_path, name, guests='["none"]' if nobody else '[""]')
    report = dataset.manifest.report["impressions"]
    assert (report.rows, report.kept, report.quarantined) == (600, 600, {})
    guests = of_guests(dataset)
    users = np.asarray(dataset.impressions["user"])
    assert guests.sum() == 400
    assert len(set(users[guests].tolist())) == 400
    assert len(set(users[~guests].tolist())) == 40
    assert "400 rows of the impressions name no user; each is a user of its own." in dataset.manifest.notes
    features = np.asarray(dataset.users["field.user"])[users]
    assert (features[guests] == UNKNOWN).all()
    assert (features[~guests] != UNKNOWN).mean() > 0.9


def test_guests_have_no_history_and_count_for_items_alone(tmp_path: Path) -> None:
    save(tmp_path, visits())
    dataset = described(tmp_path)
    guests, shown = of_guests(dataset), dataset.impressions
    assert not np.asarray(shown["visible"])[guests].any()
    assert np.asarray(shown["visible"])[~guests].max() > 3
    raw = {}
    for name in ("user_count", "item_count"):
        scale = dataset.encoder.scales[name]
        raw[name] = np.expm1(np.asarray(shown[f"field.{name}"], float) * scale.std + scale.mean).round(3)
    assert not raw["user_count"][guests].any()
    rows = np.asarray(shown["row"])
    np.testing.assert_array_equal(raw["item_count"], rows // 25)  # item n % 25 comes every 25 rows


def test_a_guest_is_scored_as_evaluated_whatever_id_is_sent(tmp_path: Path) -> None:
    save(tmp_path, visits())
    dataset = described(tmp_path)
    scorer = Scorer(tiny_artifact(tmp_path, dataset, "din", ("clicked",)))
    offline = predict(scorer.model, dataset, "test", length=LENGTH, grouping="request", labels=("clicked",))
    requests = requests_from_dataset(dataset, offline.row)
    for number, request in enumerate(requests):
        if str(request["user"]).startswith("("):
            request["user"] = f"session {number}"
    online = np.concatenate([response.logits for response in scorer.score_many(requests)])
    np.testing.assert_allclose(online, offline.logits, atol=1e-5, rtol=2e-6)


def test_the_candidates_of_a_request_have_one_guest(tmp_path: Path) -> None:
    rows = [
        {"user_id": "" if n % 2 else f"u{n % 8}", "time": START + 60 * n, "items": f"i{n % 9}-1 i{n % 7}-0"}
        for n in range(200)
    ]
    save(tmp_path, rows)
    (tmp_path / "log.toml").write_text(LISTS, encoding="utf-8")
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    users, counts = np.unique(np.asarray(dataset.impressions["user"]), return_counts=True)
    assert (counts == 2).sum() == 100
    assert len(users) == 100 + 4


@pytest.mark.parametrize("nobody", ["", "guest", "0"])
def test_a_draft_finds_guests(nobody: str, tmp_path: Path) -> None:
    rows = [
        row | ({"user_id": nobody} if n % 3 else {"user_id": 1 + n % 40}) for n, row in enumerate(clicks())
    ]
    save(tmp_path, rows)
    text = drafted(tmp_path, "clicks.csv")
    assert f'guests = ["{nobody}"]' in text
    assert 'dtype = "int"' not in text
    assert "WARNING" not in text


def test_ids_of_zeros_alone_are_guests(tmp_path: Path) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    rows = [row | ({"user_id": nobody} if n % 9 == 0 else {}) for n, row in enumerate(clicks())]
    save(tmp_path, rows)
    assert f'guests = ["{nobody}"]' in drafted(tmp_path, "clicks.csv")


def test_a_few_rows_without_a_user_are_faults(tmp_path: Path) -> None:
    save(tmp_path, [row | ({} if n % 300 else {"user_id": ""}) for n, row in enumerate(clicks())])
    assert "guests" not in drafted(tmp_path, "clicks.csv")


def test_guests_need_texts_as_ids(tmp_path: Path) -> None:
    text = TABLE.replace('"user_id" }', '"user_id", dtype = "int" }').replace("FILES", "clicks.csv")
    save(tmp_path, visits())
    (tmp_path / "log.toml").write_text(text + 'guests = [""]\n')
    with pytest.raises(SchemaError, match=r"guests get texts as ids.* without dtype"):
        load_log(tmp_path / "log.toml")


def test_rows_that_are_alike_stay_where_nobody_names_the_item(tmp_path: Path) -> None:
    rows = [{"user_id": f"u{n % 9}", "time": START + 60 * (n // 30), "clicked": n % 2} for n in range(600)]
    save(tmp_path, rows)
    text = TABLE.replace("FILES", "clicks.csv").replace('item = { name = "item", column = "item_id" }\n', "")
    (tmp_path / "log.toml").write_text(text, encoding="utf-8")
    report = prepare(load_log(tmp_path / "log.toml"), tmp_path / "out").report["impressions"]
    assert (report.kept, report.quarantined) == (600, {})
    with_items = text.replace(
        "[impressions]", 'item = { name = "item", column = "user_id" }\n[impressions]', 1
    )
    (tmp_path / "log.toml").write_text(with_items, encoding="utf-8")
    again = prepare(load_log(tmp_path / "log.toml"), tmp_path / "again").report["impressions"]
    assert again.quarantined["duplicate"] > 200
