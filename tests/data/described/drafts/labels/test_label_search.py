"""Which columns of an undescribed log become its labels, and what becomes of those that could be."""

import datetime as dt
import json
import random
import tomllib

import pyarrow as pa
import pytest

from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.features.values import read_labels
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from clickscale.features import label_of
from tests.data.described.drafts.test_guess import START, write_csv
from tests.data.sources import drained

ROWS = 4000
CLICKS = [float(random.Random(n).random() < 0.25) for n in range(ROWS)]


def log(columns):
    """Rows of users, items and times, with columns made of the number of the row and of its outcome."""
    draw = random.Random(0)
    for n, clicked in enumerate(CLICKS):
        row = {"shown_at": START + 60 * n, "user_id": draw.randrange(300), "item_id": draw.randrange(100)}
        yield row | {name: make(n, clicked) for name, make in columns.items()} | {"device": draw.randrange(3)}


def drafted(folder, columns):
    text = guess([write_csv(folder / "log.csv", log(columns))], folder)
    (folder / "log.toml").write_text(text)
    return text, tomllib.loads(text)


def outcomes(folder):
    """Labels of the impressions as preparing reads them: 1, 0, None for unknown, "bad" for unusable."""
    source = load_log(folder / "log.toml")
    (label,) = source.schema.labels
    values = [row[label_of(label.name)] for row in drained(source)["impressions"]]
    labels, problems = read_labels(pa.array(values))
    read = zip(labels.tolist(), problems.tolist(), strict=True)
    return ["bad" if problem else None if value < 0 else value for value, problem in read]


def coin(n, clicked):
    return n % 2


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (
            {"clicks": lambda n, c: int(c) * (1 + (n % 9 == 0))},
            {"name": "clicks", "condition": "clicks >= 1"},
        ),
        (
            {"clicked": lambda n, c: "ja" if c else "nein"},
            {"name": "clicked", "condition": "clicked == 'ja'"},
        ),
        (
            {"geklickt": lambda n, c: "Ja" if c else "Nein"},
            {"name": "geklickt", "condition": "geklickt == 'Ja'"},
        ),
        ({"click": lambda n, c: "да" if c else "нет"}, {"name": "click", "condition": "click == 'да'"}),
        (
            {"clicked": lambda n, c: "CLICK" if c else "NO_CLICK"},
            {"name": "clicked", "condition": "clicked == 'CLICK'"},
        ),
        (
            {"label": lambda n, c: "positive" if c else "negative"},
            {"name": "label", "condition": "label == 'positive'"},
        ),
        ({"clicked": lambda n, c: "1" if c else ""}, {"name": "clicked", "condition": "clicked != ''"}),
        (
            {"click_time": lambda n, c: START + 60 * n + 9 if c else ""},
            {"name": "click", "condition": "click_time != ''", "delay": 9},
        ),
        (
            {"click_time": lambda n, c: START + 60 * n + 9 if c else 0},
            {"name": "click", "condition": "click_time > 0", "delay": 9},
        ),
        (
            {"premium": coin, "mobile": coin, "outcome": lambda n, c: "clicked" if c else "ignored"},
            {"name": "outcome", "condition": "outcome == 'clicked'"},
        ),
        (
            {"event": lambda n, c: "click" if c else "impression"},
            {"name": "click", "condition": "event == 'click'"},
        ),
        (
            {"converted": lambda n, c: START + 60 * n + 9 if c else ""},
            {"name": "converted", "condition": "converted != ''", "delay": 9},
        ),
        (
            {"conversions": lambda n, c: 0 if n % 400 else 1 + (n % 1200 == 0)},
            {"name": "conversions", "condition": "conversions >= 1"},
        ),
        (
            {"mobile": coin, "liked": lambda n, c: "oui" if c else "non"},
            {"name": "liked", "condition": "liked == 'oui'"},
        ),
        ({"noclick": lambda n, c: 1 - int(c)}, {"name": "click", "condition": "noclick == 0"}),
        (
            {"not_clicked": lambda n, c: "nein" if c else "ja"},
            {"name": "clicked", "condition": "not_clicked == 'nein'"},
        ),
        (
            {"mobile": coin, "dismissed": lambda n, c: 1 - int(c)},
            {"name": "not_dismissed", "condition": "dismissed == 0"},
        ),
    ],
)
def test_a_column_with_the_outcome_is_the_label(tmp_path, columns, label):
    _, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [label]
    assert "negatives" not in tree
    assert next(reversed(columns)) not in {field["name"] for field in tree["impressions"]["fields"]}
    assert tree["impressions"]["time"] == "shown_at"
    rare = [float(n % 400 == 0) for n in range(ROWS)]
    assert outcomes(tmp_path) == (rare if "conversions" in columns else CLICKS)


def test_a_count_beside_impressions_is_the_label_however_rare_two_clicks_are(tmp_path):
    columns = {
        "impression": lambda n, c: 1 + (n % 7 == 0) + (n % 9 == 0),
        "click": lambda n, c: 2 if n == 5 else int(c),
    }
    text, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [{"name": "click", "condition": "click >= 1"}]
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["device"]
    assert "# left out: impression (how often it was shown, counted with the outcome)" in text


@pytest.mark.parametrize("stray", [2, 9, 838])
def test_a_stray_number_leaves_the_label_and_makes_its_row_unusable(tmp_path, stray):
    text, tree = drafted(tmp_path, {"clicked": lambda n, c: stray if n == 7 else int(c)})
    assert tree["labels"] == [{"name": "clicked", "column": "clicked"}]
    assert "1 of 4,000 sampled rows with another value, which cannot be used" in text
    assert outcomes(tmp_path) == [*CLICKS[:7], "bad", *CLICKS[8:]]


@pytest.mark.parametrize("name", ["liked", "Purchased Item", "contact_requested"])
def test_a_stray_word_leaves_the_label_whatever_outcome_it_is_called_after(tmp_path, name):
    said = {n: "maybe" for n in (7, 8, 9)}
    _, tree = drafted(tmp_path, {name: lambda n, c: said.get(n, "yes" if c else "no")})
    assert [label["column"] for label in tree["labels"]] == [name]
    assert outcomes(tmp_path) == [*CLICKS[:7], "bad", "bad", "bad", *CLICKS[10:]]


def test_an_outcome_of_minus_one_is_unknown(tmp_path):
    _, tree = drafted(tmp_path, {"label": lambda n, c: -1 if n % 3 == 0 else int(c)})
    assert tree["labels"] == [{"name": "label", "column": "label"}]
    assert tree["impressions"]["nulls"][-1] == "-1"
    assert outcomes(tmp_path) == [None if n % 3 == 0 else clicked for n, clicked in enumerate(CLICKS)]


def test_where_minus_one_stands_elsewhere_too_one_counts_as_positive(tmp_path):
    columns = {"slot": lambda n, c: n % 5 - 1, "label": lambda n, c: -1 if n % 3 == 0 else int(c)}
    text, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [{"name": "label", "condition": "label == 1"}]
    assert "if -1 means unknown" in text
    assert "nulls" not in tree["impressions"]


@pytest.mark.parametrize("name", ["rating", "score"])
@pytest.mark.parametrize("other", ["slot", "place"])
def test_a_rating_of_minus_one_is_none_that_was_given(tmp_path, name, other):
    columns = {
        other: lambda n, c: n % 5 - (other == "slot"),  # with -1 elsewhere, or without
        name: lambda n, c: -1 if n % 3 == 0 else 8 + n % 3 if c else 1 + n % 7,
    }
    text, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [{"name": "like", "condition": f"{name} >= 8", "known": f"{name} != -1"}]
    assert "ratings go up to 10; -1 means not rated" in text
    assert outcomes(tmp_path) == [None if n % 3 == 0 else clicked for n, clicked in enumerate(CLICKS)]
    data = prepare(load_log(tmp_path / "log.toml"), tmp_path / "data")
    assert data.counts["impressions"] == ROWS


@pytest.mark.parametrize("low", [-2, -1])
def test_ratings_on_both_sides_of_zero_are_all_given(tmp_path, low):
    steps = 1 if low == -1 else 7
    _, tree = drafted(tmp_path, {"rating": lambda n, c: steps if c else n % (1 + steps) + low})
    assert all("known" not in label for label in tree.get("labels", ()))


@pytest.mark.parametrize("first", ["Opened At", "opened_at", "Open Time"])
def test_of_the_moments_of_an_open_and_a_click_the_click_is_the_label(tmp_path, first):
    def moment(n, seconds):
        return dt.datetime.fromtimestamp(START + 60 * n + seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")

    columns = {
        first: lambda n, c: moment(n, 40) if c or n % 3 == 0 else "",
        "Clicked At": lambda n, c: moment(n, 90) if c else "",
    }
    text, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [{"name": "clicked", "condition": "Clicked At != ''", "delay": 90}]
    fields = [
        field.get("column", field["name"])
        for table in ("impressions", "items", "users")
        for field in tree.get(table, {}).get("fields", ())
    ]
    assert fields == ["device"]
    assert f"# left out: {first} (" in text


def test_labels_of_objects_have_no_other_text_for_unknown(tmp_path):
    rows = [row | {"label": -1 if n % 3 == 0 else int(CLICKS[n])} for n, row in enumerate(log({}))]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert tomllib.loads(guess([path], tmp_path))["labels"] == [{"name": "label", "condition": "label == 1"}]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("clicked", lambda n, c: ("a", "b", "c")[n % 3]),
        ("clicks", lambda n, c: 40 + n % 50),  # sums over many impressions
        ("label", lambda n, c: n % 4),
        ("clicked", lambda n, c: 1 + int(c)),
        ("target", lambda n, c: n / 7),
        ("target", lambda n, c: n % 3 + 1),
    ],
)
def test_a_column_that_is_called_after_an_outcome_is_never_a_feature(tmp_path, name, make):
    text, tree = drafted(tmp_path, {name: make})
    assert tree["negatives"] == 4
    assert f"# WARNING: {name} may be the outcome: by its name an outcome, with values such as" in text
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["device"]
    assert f"# left out: {name} (" in text


def test_the_only_flag_is_no_label_beside_a_column_that_is_called_after_an_outcome(tmp_path):
    text, tree = drafted(tmp_path, {"mobile": coin, "clicks": lambda n, c: 40 + n % 50})
    assert tree["negatives"] == 4
    assert "# WARNING: clicks may be the outcome" in text


def test_a_person_may_keep_it(tmp_path):
    path = write_csv(tmp_path / "log.csv", log({"clicks": lambda n, c: 40 + n % 50}))
    fields = tomllib.loads(guess([path], tmp_path, keep=["clicks"]))["impressions"]["fields"]
    assert [field["name"] for field in fields] == ["clicks", "device"]


def test_a_stream_of_events_that_nothing_joins_is_no_label_and_the_warning_says_what_to_do(tmp_path):
    rows = []
    for n, row in enumerate(log({})):
        row = {"impression_id": f"i{n}", "user_id": row["user_id"], "item_id": row["item_id"]}
        rows.append(row | {"event_type": "impression"})
        if CLICKS[n]:
            rows.append(row | {"event_type": "click"})
    for hidden, found in (([], True), (["impression_id"], False)):  # without an id, without a time
        kept = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
        text = guess([write_csv(tmp_path / "events.csv", kept)], tmp_path)
        assert ("labels" in tomllib.loads(text)) == found
        assert ("# WARNING: event_type may be the outcome: it has rows of their own" in text) != found
    assert "join them, or put each kind into a file of its own" in text


def test_kinds_of_items_and_of_prices_are_no_outcomes(tmp_path):
    columns = {"billing": lambda n, c: "click" if n % 2 else "display"}
    _, tree = drafted(tmp_path, columns)
    assert tree["negatives"] == 4
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["billing", "device"]


def test_ratings_keep_their_label_beside_words(tmp_path):
    columns = {"rating": lambda n, c: 1 + n % 5, "purchase_protection": lambda n, c: "ja" if c else "nein"}
    _, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [{"name": "like", "condition": "rating >= 4"}]


def test_a_log_without_ids_may_have_a_conversion_in_any_place(tmp_path):
    draw = random.Random(0)
    rows = [
        {f"f{k}": round(draw.random(), 3) for k in range(3)}
        | {"treatment": n % 2, "conversion": int(c), "visit": 1}
        for n, c in enumerate(CLICKS)
    ]
    tree = tomllib.loads(guess([write_csv(tmp_path / "uplift.csv", rows)], tmp_path))
    assert tree["labels"] == [{"name": "conversion", "column": "conversion"}]
    assert "user" not in tree


def test_a_label_without_positives_in_the_sample_is_named(tmp_path):
    text, tree = drafted(tmp_path, {"mobile": coin, "clicked": lambda n, c: 0})
    assert tree["negatives"] == 4
    assert "# WARNING: clicked may be the outcome: by its name an outcome, with no other value than 0" in text


@pytest.mark.parametrize(
    "totals", [{"clicks": lambda n: n % 3}, {"converted": lambda n: "ja" if n % 2 else "nein"}]
)
def test_totals_in_a_table_of_items_make_no_events_of_it(tmp_path, totals):
    clicks = write_csv(tmp_path / "clicks.csv", log({"clicked": lambda n, c: int(c)}))
    rows = [
        {"item_id": n} | {name: make(n) for name, make in totals.items()} | {"shelf": n % 5}
        for n in range(100)
    ]
    tree = tomllib.loads(guess([write_csv(tmp_path / "items.csv", rows), clicks], tmp_path))
    assert tree["labels"] == [{"name": "clicked", "column": "clicked"}]
    assert (tree["impressions"]["files"], tree["items"]["files"]) == ("clicks.csv", "items.csv")
    with pytest.raises(InputError, match="No table has columns for user, item and time"):
        guess([tmp_path / "items.csv"], tmp_path)


def test_the_moment_of_a_click_is_not_the_time_of_its_row(tmp_path):
    rows = [{"click_time": START + 60 * n + 9 if CLICKS[n] else "", **row} for n, row in enumerate(log({}))]
    rows = [
        {("served" if name == "shown_at" else name): value for name, value in row.items()} for row in rows
    ]
    tree = tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path))
    assert (tree["impressions"]["time"], tree["labels"][0]["condition"]) == ("served", "click_time != ''")


def test_codes_of_an_unknown_outcome_are_no_counts(tmp_path):
    text, tree = drafted(tmp_path, {"clicked": lambda n, c: 9 if n % 800 == 0 else int(c)})
    assert tree["labels"] == [{"name": "clicked", "column": "clicked"}]
    assert outcomes(tmp_path) == ["bad" if n % 800 == 0 else clicked for n, clicked in enumerate(CLICKS)]
    assert "5 of 4,000 sampled rows with another value" in text


def test_values_with_line_ends_and_quotes_stay_in_their_comment(tmp_path):
    rows = [row | {"clicked": ("a\nlabels = 1", "b'", "c")[n % 3]} for n, row in enumerate(log({}))]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    text = guess([path], tmp_path)
    assert "such as a\\nlabels = 1, b', c." in text
    assert tomllib.loads(text)["negatives"] == 4


# --- weak words, and labels that somebody names


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (
            {"contact_requested": lambda n, c: int(c), "mobile": coin},
            {"name": "contact_requested", "column": "contact_requested"},
        ),
        (
            {"Buchung": lambda n, c: "ja" if c else "nein"},
            {"name": "Buchung", "condition": "Buchung == 'ja'"},
        ),
        (
            {"opened_at": lambda n, c: START + 60 * n + 9 if c else ""},
            {"name": "opened", "condition": "opened_at != ''", "delay": 9},
        ),
    ],
)
def test_a_word_that_may_be_an_outcome_is_one_if_nothing_better_is_there(tmp_path, columns, label):
    _, tree = drafted(tmp_path, columns)
    assert tree["labels"] == [label]
    assert outcomes(tmp_path) == [int(clicked) for clicked in CLICKS]
    _, tree = drafted(tmp_path, columns | {"clicked": lambda n, c: int(not c)})
    assert tree["labels"][0]["name"] == "clicked"


def test_a_word_of_an_attribute_is_no_outcome(tmp_path):
    rows = [row | {"has_played": row["user_id"] % 2} for row in log({"mobile": coin})]
    tree = tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path))
    assert "labels" not in tree


@pytest.mark.parametrize(
    ("make", "condition"),
    [
        (lambda n, c: int(c), None),
        (lambda n, c: "ja" if c else "nein", "fate == 'ja'"),
        (lambda n, c: int(c) * (1 + n % 3), "fate >= 1"),
        (lambda n, c: "x" if c else "", "fate != ''"),
    ],
)
def test_a_column_that_is_named_is_the_label(tmp_path, make, condition):
    columns = {"fate": make, "clicked": coin}
    path = write_csv(tmp_path / "log.csv", log(columns))
    text = guess([path], tmp_path, labels=["fate"])
    (tmp_path / "log.toml").write_text(text)
    [label] = tomllib.loads(text)["labels"]
    assert label.get("condition") == condition
    assert outcomes(tmp_path) == [int(clicked) for clicked in CLICKS]


def test_a_label_without_outcomes_and_one_that_is_not_there_are_refused(tmp_path):
    path = write_csv(tmp_path / "log.csv", log({"kind": lambda n, c: "abc"[n % 3]}))
    with pytest.raises(InputError, match="'kind' has values such as a, b, c, of which none means yes"):
        guess([path], tmp_path, labels=["kind"])
    with pytest.raises(InputError, match=r"column for the label.*'knid'.*'kind'"):
        guess([path], tmp_path, labels=["knid"])


@pytest.mark.parametrize("moment", ["installed_at", "install_time", "install_ts"])
def test_an_outcome_counts_from_its_moment_on(tmp_path, moment):
    hours = [3600 * (1 + n % 48) for n in range(ROWS)]
    columns = {
        "install": lambda n, c: int(c),
        moment: lambda n, c: START + 60 * n + hours[n] if c else "",
    }
    _, tree = drafted(tmp_path, columns)
    [label] = tree["labels"]
    assert label["name"] == "install"
    assert 47 * 3600 <= label["delay"] <= 48 * 3600
    assert load_log(tmp_path / "log.toml").schema.labels[0].delay == label["delay"]


def test_a_flag_and_its_moment_are_one_label(tmp_path):
    columns = {
        "redeemed": lambda n, c: int(c),
        "redeemed_at": lambda n, c: START + 60 * n + 300 if c else "",
    }
    _, tree = drafted(tmp_path, columns)
    assert [(label["name"], label["delay"]) for label in tree["labels"]] == [("redeemed", 300)]


@pytest.mark.parametrize("name", ["is_active", "__v", "viewable", "isBot"])
def test_a_lone_flag_of_what_something_is_makes_no_label(tmp_path, name):
    text, tree = drafted(tmp_path, {name: coin})
    assert "labels" not in tree
    said = "# left out: __v" if name == "__v" else f'# Columns with two values, such as 0 and 1: "{name}".'
    assert said in text  # a counter of a tool is no column of the log at all


@pytest.mark.parametrize("moment", ["click_ts_us", "clicked_at_us"])
def test_a_moment_of_a_click_says_more_than_what_was_in_view(tmp_path, moment):
    columns = {
        "viewable": lambda n, c: int(c or n % 3 == 0),
        moment: lambda n, c: (START + 60 * n + 9) * 10**6 if c else "",
        "billed": lambda n, c: 0.01 * (1 + n % 50) if c else 0,
    }
    text, tree = drafted(tmp_path, columns)
    name = "clicked" if moment.startswith("clicked") else "click"
    assert tree["labels"] == [{"name": name, "condition": f"{moment} != ''", "delay": 9}]
    assert "# left out: billed (it nearly determines the label" in text
    assert outcomes(tmp_path) == CLICKS


def test_types_of_values_of_mongodb_are_no_part_of_a_name(tmp_path):
    rows = []
    for row in log({"clickedAt": lambda n, c: START + 60 * n + 9 if c else None, "__v": lambda n, c: n % 2}):
        moment = row.pop("clickedAt")
        text = moment and dt.datetime.fromtimestamp(moment, dt.UTC).isoformat()
        rows.append(row | {"did": {"clickedAt": {"$date": text}} if text else None})
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = guess([path], tmp_path)
    assert tomllib.loads(text)["labels"] == [
        {"name": "did_clicked", "condition": "did.clickedAt.$date != ''", "delay": 9}
    ]


@pytest.mark.parametrize(
    ("column", "yes", "no", "name"),
    [
        ("Beworben", "ja", "nein", "Beworben"),
        ("clicou", "S", "N", "clicou"),
        ("utilisé", "oui", "non", "utilise"),
        ("activé", "oui", "non", "active"),
        ("playback.started", "true", "false", "playback_started"),
    ],
)
def test_outcomes_have_names_in_several_languages(tmp_path, column, yes, no, name):
    _, tree = drafted(tmp_path, {column: lambda n, c: yes if c else no, "mobile": coin})
    [label] = tree["labels"]
    assert label["name"] == name
    assert outcomes(tmp_path) == CLICKS


def test_the_table_with_the_named_label_is_that_of_the_impressions(tmp_path):
    """Another one has a user, an item and a time, and this one no column that is known for an item."""
    old = [{"shown_at": START - n, "user_id": n % 70, "item_id": n % 90, "price": n % 7} for n in range(3000)]
    shown = [
        {name: value for name, value in row.items() if name != "item_id"} | {"place": n % 4}
        for n, row in enumerate(log({"chosen": lambda n, c: "oui" if c else "non"}))
    ]
    paths = [write_csv(tmp_path / "old.csv", old), write_csv(tmp_path / "shown.csv", shown)]
    tree = tomllib.loads(guess(paths, tmp_path, labels=["chosen"]))
    assert tree["impressions"]["files"] == "shown.csv"
    assert tree["labels"] == [{"name": "chosen", "condition": "chosen == 'oui'"}]


@pytest.mark.parametrize("are_days", [False, True])
def test_a_moment_of_any_name_just_where_the_label_is_positive_tells_its_delay(tmp_path, are_days):
    def moment(n, clicked):
        at = dt.datetime.fromtimestamp(START + 60 * n + 300, dt.UTC)
        return (at.date() if are_days else at).isoformat() if clicked else ""

    _, tree = drafted(tmp_path, {"beworben": lambda n, c: "ja" if c else "nein", "Bewerbungsdatum": moment})
    [label] = tree["labels"]
    if are_days:  # the outcome of a day is known when the day is over
        assert 0.95 * 86_400 < label["delay"] <= 86_400
    else:
        assert label["delay"] == 300
    assert "Bewerbungsdatum" not in str(tree["impressions"]["fields"])
