"""Logs that were prepared for other libraries: their folders are drafted and prepared as they are."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.cli import DONE, WRONG, main
from clickscale.data.checks.leaks import leak_check
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.preparation.summary import read_summary
from clickscale.errors import ConfigError, InputError
from tests.shape_logs import FUXICTR_CONFIG, TORCHEASYREC_CONFIG, write_fuxictr_like, write_torcheasyrec_like

ENCODED = {  # as the library writes it, with indices instead of values
    "dataset_id": "ads_x1",
    "labels": ["clk"],
    "features": [
        *({name: {"source": "", "type": "categorical"}} for name in ("userid", "adgroup_id", "cate_id")),
        {"price": {"source": "", "type": "numeric"}},
        {"ad_his": {"source": "", "type": "sequence", "share_embedding": "adgroup_id", "max_len": 50}},
        {"cate_his": {"source": "", "type": "sequence", "share_embedding": "cate_id", "max_len": 50}},
    ],
}


def prepared(folder, name="log"):
    """Draft, data set and manifest of a folder below ``folder``."""
    text = guess([folder / name], folder)
    (folder / "schema.toml").write_text(text)
    manifest = prepare(load_log(folder / "schema.toml"), folder / "out", overwrite=True)
    return text, open_dataset(folder / "out"), manifest


def history_of(dataset: Dataset, row: int) -> list[str]:
    """Items that an impression sees, the oldest first."""
    shown, items = dataset.impressions, dataset.encoder.item_rows.values
    first = int(dataset.users["offsets"][shown["user"][row]])
    seen = range(first, first + int(shown["visible"][row]))
    return [items[int(dataset.behaviors["item"][one]) - 2].as_py() for one in seen]


def rows_of_log(dataset: Dataset) -> np.ndarray:
    """Impressions in the order of the log."""
    return np.argsort(dataset.impressions["row"], kind="stable")


@pytest.fixture
def fuxictr(tmp_path):
    (tmp_path / "log").mkdir()
    write_fuxictr_like(tmp_path / "log")
    return tmp_path


@pytest.fixture
def torcheasyrec(tmp_path):
    (tmp_path / "log").mkdir()
    write_torcheasyrec_like(tmp_path / "log")
    return tmp_path


# --- FuxiCTR


def test_rows_without_times_keep_the_history_that_stands_in_them(fuxictr):
    text, dataset, manifest = prepared(fuxictr)
    assert "WARNING" not in text
    assert manifest.counts["impressions"] == 900
    assert [len(dataset.part(part)) for part in ("train", "valid", "test")] == [700, 100, 100]
    assert not manifest.report["behaviors"].quarantined
    lines = (fuxictr / "log/train.csv").read_text().splitlines()[1:]
    for row in (0, 350, 699):
        expected = [item for item in lines[row].split(",")[5].split("^") if item]
        assert history_of(dataset, int(rows_of_log(dataset)[row])) == expected
    assert leak_check(fuxictr / "out").ok


def test_what_a_sequence_shares_it_shares_here(fuxictr):
    _, dataset, _ = prepared(fuxictr)
    (past,) = dataset.schema.behavior
    assert (past.name, past.shares) == ("cate_his", "cate_id")
    assert dataset.schema.groups == "userid"
    assert [field.name for field in dataset.schema.items] == ["cate_id", "price"]


def test_results_of_rows_of_their_own_are_grouped_by_their_users(fuxictr):
    from clickscale.evaluation.evaluate import with_facts

    _, dataset, _ = prepared(fuxictr)
    rows = dataset.part("test")
    found = with_facts(dataset, rows, np.zeros((len(rows), 1), np.float32), ("clk",), "test", "impression")
    lines = [line.split(",") for line in (fuxictr / "log/test.csv").read_text().splitlines()[1:]]
    users = [lines[int(row) - 800][1] for row in dataset.impressions["row"][rows]]
    assert len(set(found.user.tolist())) == len(set(users)) < len(rows)
    assert len(set(zip(found.user.tolist(), users, strict=True))) == len(set(users))


def test_rows_of_their_own_are_not_divided_by_users(fuxictr):
    text = guess([fuxictr / "log"], fuxictr)
    kind = 'kind = "user_last"\nvalid = 1\ntest = 1'
    one = text.replace('kind = "files"  # the parts are files', kind)
    one = re.sub(r"files = \{ train = (.*?),.*", r"files = \1", one)
    (fuxictr / "schema.toml").write_text(one)
    with pytest.raises(ConfigError, match="cuts each user's impressions, and the log has no users"):
        prepare(load_log(fuxictr / "schema.toml"), fuxictr / "out")
    _, dataset, _ = prepared(fuxictr)
    assert not [line for line in read_summary(dataset.path).warnings if "--split user_time" in line]


def test_with_a_time_the_lists_become_timelines(fuxictr):
    for part, start in (("train", 0), ("valid", 700), ("test", 800)):
        path = fuxictr / f"log/{part}.csv"
        head, *lines = path.read_text().splitlines()
        timed = [f"{line},{1_700_000_000 + 60 * (start + n)}" for n, line in enumerate(lines)]
        path.write_text("\n".join([f"{head},time_stamp", *timed]) + "\n")
    text, _, manifest = prepared(fuxictr)
    assert "per_row" not in text
    assert 'time = "time_stamp"' in text
    assert manifest.counts["users"] <= 60
    repeated = manifest.report["behaviors"].quarantined["repeated"]
    assert repeated > manifest.report["behaviors"].kept  # each event stands in many rows


def test_a_history_without_items_makes_what_it_holds_the_item(fuxictr):
    config = FUXICTR_CONFIG.replace("adgroup_id}", "cate_id}").replace(
        "name: ad_his, active: True", "name: ad_his, active: False"
    )
    (fuxictr / "log/dataset_config.yaml").write_text(config)
    text, dataset, _ = prepared(fuxictr)
    assert 'item = { name = "item", column = "cate_id" }  # the histories hold it' in text
    assert "# left out: ad_his (the configuration has it as not active)" in text
    assert "adgroup_id" in [field.name for field in dataset.schema.context]
    assert set(history_of(dataset, int(rows_of_log(dataset)[699]))) <= {f"kind{n}" for n in range(5)}


def test_lists_that_are_filled_up_lose_their_padding(fuxictr):
    folder = fuxictr / "log"
    for part in ("train", "valid", "test"):
        head, *lines = (folder / f"{part}.csv").read_text().splitlines()
        rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
        for row in rows:
            for name in ("ad_his", "cate_his"):
                past = [int(one.strip("akind")) + 1 for one in row[name].split("^") if one]
                row[name] = [0] * (8 - len(past)) + past
            row |= {"adgroup_id": int(row["adgroup_id"][1:]) + 1, "cate_id": int(row["cate_id"][4:]) + 1}
            row |= {"clk": float(row["clk"]), "price": float(row["price"])}
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")
        (folder / f"{part}.csv").unlink()
    config = FUXICTR_CONFIG.replace("csv", "parquet").replace(" splitter: ^,", "")
    (folder / "dataset_config.yaml").write_text(config)
    text, dataset, manifest = prepared(fuxictr)
    (folder / "dataset_config.yaml").unlink()
    (folder / "feature_map.json").write_text(json.dumps(ENCODED))
    assert (
        prepared(fuxictr)[0].split("\n", 1)[1] == text.split("\n", 1)[1]
    )  # but for the name of the configuration
    assert 'padding = "0"' in text
    assert "entry_separator" not in text
    assert dataset.impressions["visible"][rows_of_log(dataset)[0]] == 0
    assert manifest.report["behaviors"].kept == dataset.impressions["visible"].sum()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("name: price", "name: prize", r"feature 'prize' .*Unknown column 'prize'; did you mean 'price'\?"),
        ("{name: clk", "{name: click", r"the label of .*Unknown column 'click'"),
        (
            "splitter: ^, max_len: 50,\n           share_embedding: adgroup_id",
            "max_len: 50",
            "'ad_his' is a sequence, .* no separator",
        ),
        (
            "train_data: ../data/ads_x1/train.csv",
            "train_data: ../data/ads_x1/training.csv",
            "train_data names '../data/ads_x1/training.csv', of which nothing is in",
        ),
    ],
)
def test_a_configuration_that_the_tables_do_not_keep_is_refused(fuxictr, old, new, complaint):
    assert old in FUXICTR_CONFIG
    (fuxictr / "log/dataset_config.yaml").write_text(FUXICTR_CONFIG.replace(old, new))
    with pytest.raises(InputError, match=complaint):
        guess([fuxictr / "log"], fuxictr)


def test_a_feature_that_the_library_computes_is_left_out_and_rare_items_are_unknown_as_declared(fuxictr):
    made = "name: weekday, dtype: str, type: categorical, preprocess: convert_weekday"
    config = FUXICTR_CONFIG.replace("feature_cols:", f"feature_cols:\n        - {{{made}}}")
    rare = config.replace("min_categr_count: 1", "min_categr_count: 3")
    (fuxictr / "log/dataset_config.yaml").write_text(rare)
    text, dataset, _ = prepared(fuxictr)
    assert "# left out: weekday (the library computes it by convert_weekday)" in text
    assert 'column = "adgroup_id", min_count = 3 }' in text
    assert dataset.schema.item.min_count == 3


def test_features_are_chosen_in_the_configuration(fuxictr):
    with pytest.raises(ConfigError, match="declares its columns itself; name device there"):
        guess([fuxictr / "log"], fuxictr, keep=["device"])


def test_the_command_line_drafts_a_folder_and_chooses_a_data_set(fuxictr, capsys):
    out = fuxictr / "draft.toml"
    words = ["schema", "guess", str(fuxictr / "log"), "--out", str(out), "--dataset"]
    assert main([*words, "ads_x2"]) == WRONG
    assert "Unknown data set 'ads_x2'; did you mean 'ads_x1'?" in capsys.readouterr().err
    assert main([*words, "ads_x1"]) == DONE
    assert load_log(out).schema.groups == "userid"


def test_a_data_set_is_chosen_only_where_some_are_declared(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,time,click\n" + "a,b,1700000000,1\n" * 30)
    with pytest.raises(ConfigError, match="Data set 'x': no configuration among the tables declares any"):
        guess([tmp_path / "log.csv"], tmp_path, dataset="x")


# --- TorchEasyRec


def test_lists_with_times_become_timelines_once(torcheasyrec):
    text, dataset, manifest = prepared(torcheasyrec)
    report = manifest.report["behaviors"]
    assert report.quarantined == {"repeated": report.rows - report.kept}
    clicks = sum(
        pq.read_table(torcheasyrec / f"log/{part}/part-0.parquet")["clk"].to_pylist().count(1)
        for part in ("train", "eval")
    )
    assert report.kept == clicks
    assert "# left out: user_x_cate (the library computes it from other columns)" in text
    assert [field.name for field in dataset.schema.behavior] == ["click_50_seq__cate_id"]
    assert dataset.schema.user.dtype == dataset.schema.item.dtype == "int"
    assert leak_check(torcheasyrec / "out").ok


def test_without_users_each_sample_keeps_its_lists_whose_newest_entry_may_come_first(torcheasyrec):
    folder = torcheasyrec / "log"
    for part in ("train", "eval"):
        table = pq.read_table(folder / part / "part-0.parquet")
        pq.write_table(table.drop_columns(["user_id", "request_time"]), folder / part / "part-0.parquet")
    config = "\n".join(line for line in TORCHEASYREC_CONFIG.splitlines() if '"user_id"' not in line)
    (folder / "din.config").write_text(config)
    text = guess([folder], torcheasyrec)
    assert "per_row = true" in text
    assert "times =" not in text  # rows without a time cannot be compared with them
    (torcheasyrec / "schema.toml").write_text(text.replace("# newest_first", "newest_first"))
    prepare(load_log(torcheasyrec / "schema.toml"), torcheasyrec / "out")
    dataset = open_dataset(torcheasyrec / "out")
    listed = pq.read_table(folder / "train/part-0.parquet")["click_50_seq__item_id"].to_pylist()
    assert history_of(dataset, int(rows_of_log(dataset)[700])) == listed[700][::-1]


def test_a_pipeline_in_another_encoding_is_refused(torcheasyrec):
    path = torcheasyrec / "log/din.config"
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="is no text in UTF-8"):
        guess([torcheasyrec / "log"], torcheasyrec)


def test_a_folder_with_a_table_for_each_part_needs_no_configuration(torcheasyrec):
    (torcheasyrec / "log/din.config").unlink()
    text, _, manifest = prepared(torcheasyrec)
    assert 'files = { train = "log/train", valid = "log/eval" }' in text
    assert 'items = "click_50_seq__item_id"' in text
    assert manifest.counts["impressions"] == 900


@pytest.mark.parametrize(
    ("old", "new", "error", "complaint"),
    [
        (
            "raw_feature { feature_name",
            "row_feature { feature_name",
            ConfigError,
            "Unknown feature type 'row_feature'; did you mean 'raw_feature'",
        ),
        ("item:price", "item:prize", InputError, ""),
        ('label_fields: "clk"', "", ConfigError, "data_config has no label_fields"),
        (
            "sequence_length: 50",
            "sequence_length: long",
            ConfigError,
            "sequence_length is 'long'; write a whole",
        ),
        ('train_input_path: "data/train/*.parquet"', "", ConfigError, "has no train_input_path"),
        (
            'sequence_name: "click_50_seq"',
            'sequence_name: "click_60_seq"',
            InputError,
            "did you mean 'click_50_seq__item_id'",
        ),
    ],
)
def test_a_pipeline_that_the_tables_do_not_keep_is_refused(torcheasyrec, old, new, error, complaint):
    assert old in TORCHEASYREC_CONFIG
    config = TORCHEASYREC_CONFIG.replace(old, new)
    if not complaint:  # of a feature either its name or its input may be the column
        config = config.replace('feature_name: "price"', 'feature_name: "cost"')
        complaint = "feature 'cost' .*Unknown column 'cost'"
    (torcheasyrec / "log/din.config").write_text(config)
    with pytest.raises(error, match=complaint):
        guess([torcheasyrec / "log"], torcheasyrec)
