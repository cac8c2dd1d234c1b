"""What the verbs about data say of a log: facts, warnings, leaks and their exit codes."""

import json
from pathlib import Path

import pytest

from clickscale.cli import main
from tests.data.described.drafts.test_guess import shop, write_csv

SCHEMA = """
name = "shop"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[impressions]
files = "shop.csv"
time = "timestamp"
fields = [{ name = "position" }, { name = "opened" }]
[behaviors]
where = "clicked == 1"
"""


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a column that holds the outcome, and the data set made of it."""
    folder = tmp_path_factory.mktemp("leaky")
    write_csv(folder / "shop.csv", [row | {"opened": row["clicked"]} for row in shop(1500)])
    (folder / "schema.toml").write_text(SCHEMA)
    assert main(["prepare", str(folder / "schema.toml"), "--out", str(folder / "prepared")]) == 0
    return folder


def test_preparing_ends_with_the_facts_of_each_part_and_the_next_commands(leaky, capsys):
    out = str(leaky / "again")
    assert main(["prepare", str(leaky / "schema.toml"), "--out", out, "--test", "0.01"]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in printed.out.splitlines() if line.strip()}
    assert [rows[part][1] for part in ("train", "valid", "test")] == ["1,335", "150", "15"]
    assert "rate of click" in printed.out
    assert "warning: test has only " in printed.err
    assert f"next: clickscale leak-check {out}" in printed.err
    assert f"then: clickscale train suan --data {out} --out runs/suan --length 20" in printed.err


def test_preparing_gives_the_same_facts_as_json(leaky, capsys):
    out = leaky / "json"
    assert main(["prepare", str(leaky / "schema.toml"), "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary == json.loads((out / "summary.json").read_text())
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == summary


def test_inspect_shows_facts_and_warnings(leaky, capsys):
    out = str(leaky / "few")
    assert main(["prepare", str(leaky / "schema.toml"), "--out", out, "--test", "0.01"]) == 0
    capsys.readouterr()
    assert main(["inspect", out]) == 0
    text = capsys.readouterr().out
    assert "log-loss of constant" in text
    assert "test has only " in text


def test_a_column_that_holds_the_outcome_fails_the_leak_check_unless_it_is_accepted(leaky, capsys):
    prepared = str(leaky / "prepared")
    assert main(["leak-check", prepared]) == 1
    assert "error: telling_feature: " in capsys.readouterr().out
    assert main(["leak-check", prepared, "--accept", "opened"]) == 0
    assert "warning: telling_feature: " in capsys.readouterr().out
    assert main(["leak-check", prepared, "--accept", "position", "--json"]) == 1
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["opened"]


def test_the_draft_leaves_that_column_out_unless_it_is_kept(leaky, capsys):
    table = str(leaky / "shop.csv")
    assert main(["schema", "guess", table]) == 0
    assert "# left out: opened (" in capsys.readouterr().out
    assert main(["schema", "guess", table, "--keep", "opened"]) == 0
    assert '{ name = "opened" }' in capsys.readouterr().out
    assert main(["schema", "guess", table, "--keep", "opend"]) == 2
    assert "did you mean 'opened'" in capsys.readouterr().err


def test_what_a_draft_doubts_is_said_and_a_label_can_be_named(leaky, capsys):
    out = str(leaky / "guessed.toml")
    table = leaky / "fates.csv"
    lines = (leaky / "shop.csv").read_text().replace("clicked", "fate").splitlines()
    fate, opened = lines[0].split(",").index("fate"), lines[0].split(",").index("opened")
    cells = [line.split(",") for line in lines]
    rows = [[*row, "ab"[n % 2], "cd"[n % 2]] for n, row in enumerate(cells)]
    for row in rows[1:]:
        row[fate], row[opened] = row[fate].replace("1", "2"), "x"
    table.write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert main(["schema", "guess", str(table), "--out", out]) == 0
    told = capsys.readouterr().err
    assert "warning: no column says which rows are positive; if one does, guess again with --label" in told
    assert main(["schema", "guess", str(table), "--out", out, "--overwrite", "--label", "fate"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert "fate >= 1" in (leaky / "guessed.toml").read_text()


def test_the_way_of_drawing_negatives_is_said_and_can_be_set(leaky, capsys):
    positives = SCHEMA.replace('labels = [{ name = "click", column = "clicked" }]', "negatives = 3")
    (leaky / "positives.toml").write_text(positives)
    source, out = str(leaky / "positives.toml"), str(leaky / "positives")
    assert main(["prepare", source, "--out", out, "--set", "negatives_by=popularity"]) == 0
    assert "3 negatives per positive were drawn by popularity" in capsys.readouterr().err
    assert main(["inspect", out]) == 0
    assert "3 negatives per positive were drawn by popularity" in capsys.readouterr().out
    assert main(["prepare", source, "--out", out, "--set", "negatives_within=shelf"]) == 2
    assert "negatives_within takes a categorical field of items" in capsys.readouterr().err
