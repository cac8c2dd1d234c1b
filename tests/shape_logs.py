"""Small logs in the shapes of well-known public ones, for the documents and for tests.

Each user likes the items of one taste more than others, so that a model has something to learn. From the root
of the repository, ``python -m tests.shape_logs logs`` writes them below ``logs``.
"""

import datetime as dt
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

START = 1_704_067_200  # 2024-01-01
_DAY = 86_400
_USERS, _ITEMS = 60, 50


def write_mind_like(folder: Path) -> None:
    """Requests as text: clicked news of before, and shown news with the outcome behind a hyphen."""
    draw, lines = random.Random(1), []
    for number, (user, time) in enumerate(_moments(draw, 500)):
        past = " ".join(f"N{(user * 7 + step) % _ITEMS}" for step in range(user % 6))
        shown = " ".join(f"N{item}-{int(_likes(draw, user, item))}" for item in draw.sample(range(_ITEMS), 6))
        moment = dt.datetime.fromtimestamp(time, dt.UTC)
        clock = f"{moment.month}/{moment.day}/{moment.year} {moment:%I:%M:%S %p}"
        lines.append(f"{number}\tU{user}\t{clock}\t{past}\t{shown}\n")
    (folder / "behaviors.tsv").write_text("".join(lines))
    news = (f"N{item}\t{_kind(item)}\tsub{item % 9}\tA title with words {item}\n" for item in range(_ITEMS))
    (folder / "news.tsv").write_text("".join(news))


def write_ebnerd_like(folder: Path) -> None:
    """Requests as lists of shown and of clicked ids; the lists of one history for each user."""
    draw, rows, places = random.Random(2), [], list(range(_ITEMS))
    for number, (user, time) in enumerate(_moments(draw, 500)):
        shown = draw.sample(places, 6)
        rows.append(
            {
                "impression_id": 10_000 + number,
                "article_id": draw.choice([None, 100 + draw.choice(places)]),
                "impression_time": dt.datetime.fromtimestamp(time, dt.UTC).replace(tzinfo=None),
                "read_time": 5.0 + draw.random(),
                "device_type": draw.randrange(1, 4),
                "article_ids_inview": [100 + item for item in shown],
                "article_ids_clicked": [100 + item for item in shown if _likes(draw, user, item)],
                "user_id": user,
                "is_subscriber": user % 3 == 0,
                "session_id": 5000 + number // 2,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "behaviors.parquet")
    histories = [
        {
            "user_id": user,
            "article_id_fixed": [100 + (user * 5 + step) % _ITEMS for step in range(1 + user % 7)],
            "impression_time_fixed": [
                dt.datetime.fromtimestamp(START - 3 * _DAY + 3600 * step, dt.UTC).replace(tzinfo=None)
                for step in range(1 + user % 7)
            ],
            "read_time_fixed": [round(10 + draw.random(), 2) for _ in range(1 + user % 7)],
        }
        for user in range(_USERS)
    ]
    pq.write_table(pa.Table.from_pylist(histories), folder / "history.parquet")
    articles = [{"article_id": 100 + item, "category": _kind(item)} for item in range(_ITEMS)]
    pq.write_table(pa.Table.from_pylist(articles), folder / "articles.parquet")


def write_criteo_like(folder: Path) -> None:
    """No header, no user, no item, no time: a label, two counts and two hashed categories."""
    draw, lines = random.Random(3), []
    for _ in range(900):
        site, device = draw.randrange(40), draw.randrange(4)
        count = "" if draw.random() < 0.2 else int(draw.expovariate(0.1))
        label = int(draw.random() < 0.1 + 0.15 * device)
        lines.append(
            f"{label}\t{count}\t{int(draw.expovariate(0.02))}\t{site * 7919:08x}\t{device * 104729:08x}\n"
        )
    (folder / "train.txt").write_text("".join(lines))


def write_bandit_like(folder: Path) -> None:
    """A user of several columns, the position, and the propensity of the policy that chose the item."""
    draw = random.Random(4)
    lines = [
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user-item_affinity_0\n"
    ]
    for number, (user, time) in enumerate(sorted(_moments(draw, 900), key=lambda moment: moment[1])):
        item = draw.randrange(_ITEMS)
        click = int(_likes(draw, user, item))
        clock = dt.datetime.fromtimestamp(time, dt.UTC).isoformat(sep=" ")
        features = f"{user % 8 * 7919:08x},{user // 8 * 104729:08x}"
        lines.append(
            f"{number},{clock},{item},{draw.randrange(1, 4)},{click},{0.01 + draw.random() / 10:.4f},"
            f"{features},{draw.random():.3f}\n"
        )
    (folder / "all.csv").write_text("".join(lines))
    context = [
        ",item_id,item_feature_0,item_feature_1\n",
        *(f"{i},{i},{i / 8},{_kind(i)}\n" for i in range(_ITEMS)),
    ]
    (folder / "item_context.csv").write_text("".join(context))


def write_review_log(folder: Path) -> None:
    """Ratings with texts."""
    draw, lines = random.Random(5), []
    for user, time in _moments(draw, 900):
        item = draw.randrange(_ITEMS)
        rating = 5.0 if _likes(draw, user, item) else float(draw.randrange(1, 4))
        text = f"I have used this for {draw.randrange(1000)} days and want to say {draw.random()} of it."
        row = {"reviewerID": f"A{user}", "asin": f"B{item:04}", "overall": rating, "reviewText": text}
        lines.append(json.dumps(row | {"unixReviewTime": time}) + "\n")
    (folder / "reviews.json").write_text("".join(lines))


def write_parts(folder: Path) -> None:
    """One file for each part."""
    draw = random.Random(6)
    moments = sorted(_moments(draw, 900), key=lambda moment: moment[1])
    for name, rows in (("train", moments[:700]), ("valid", moments[700:800]), ("test", moments[800:])):
        lines = ["user_id,item_id,time,clicked\n"]
        for user, time in rows:
            item = draw.randrange(_ITEMS)
            lines.append(f"u{user},i{item},{time},{int(_likes(draw, user, item))}\n")
        (folder / f"{name}.csv").write_text("".join(lines))


def write_sequences(folder: Path) -> None:
    """Lines that begin with a user and go on with the items that the user took, in order, without times."""
    draw, lines = random.Random(7), []
    for user in range(120):
        items = [item for item in draw.sample(range(_ITEMS), _ITEMS) if _likes(draw, user, item)]
        lines.append(" ".join(map(str, [user, *items])) + "\n")
    (folder / "sequences.txt").write_text("".join(lines))


def write_fuxictr_like(folder: Path) -> None:
    """Files of each part beside a configuration; histories are texts in every row without a time."""
    draw = random.Random(8)
    moments = sorted(_moments(draw, 900), key=lambda moment: moment[1])
    taken: dict[int, list[int]] = {user: [] for user in range(_USERS)}
    for name, rows in (("train", moments[:700]), ("valid", moments[700:800]), ("test", moments[800:])):
        lines = ["clk,userid,adgroup_id,cate_id,price,ad_his,cate_his\n"]
        for user, _ in rows:
            item = draw.randrange(_ITEMS)
            click, past = int(_likes(draw, user, item)), taken[user][-8:]
            ads, kinds = "^".join(f"a{one}" for one in past), "^".join(_kind(one) for one in past)
            lines.append(f"{click},u{user},a{item},{_kind(item)},{item * 1.5},{ads},{kinds}\n")
            taken[user] += [item] * click
        (folder / f"{name}.csv").write_text("".join(lines))
    (folder / "dataset_config.yaml").write_text(FUXICTR_CONFIG)


FUXICTR_CONFIG = """\
ads_x1:
    data_root: ../data/
    data_format: csv
    train_data: ../data/ads_x1/train.csv
    valid_data: ../data/ads_x1/valid.csv
    test_data: ../data/ads_x1/test.csv
    min_categr_count: 1
    feature_cols:
        - {name: [userid, adgroup_id, cate_id], active: True, dtype: str, type: categorical}
        - {name: price, active: True, dtype: float, type: numeric}
        - {name: ad_his, active: True, dtype: str, type: sequence, splitter: ^, max_len: 50,
           share_embedding: adgroup_id}
        - {name: cate_his, active: True, dtype: str, type: sequence, splitter: ^, max_len: 50,
           share_embedding: cate_id}
    label_col: {name: clk, dtype: float}
"""


def write_torcheasyrec_like(folder: Path) -> None:
    """Parquet samples with lists of earlier items, kinds and times in every row, beside a configuration."""
    draw = random.Random(9)
    moments = sorted(_moments(draw, 900), key=lambda moment: moment[1])
    taken: dict[int, list[tuple[int, int]]] = {user: [] for user in range(_USERS)}
    for name, rows in (("train", moments[:750]), ("eval", moments[750:])):
        samples = []
        for user, time in rows:
            item, past = draw.randrange(_ITEMS), taken[user][-8:][::-1]
            click = int(_likes(draw, user, item))
            sample = {"user_id": user, "item_id": 100 + item, "cate_id": _kind(item), "price": item * 1.5}
            sample |= {"click_50_seq__item_id": [100 + one for one, _ in past]}
            sample |= {"click_50_seq__cate_id": [_kind(one) for one, _ in past]}
            sample |= {"click_50_seq__ts": [when for _, when in past], "request_time": time, "clk": click}
            samples.append(sample)
            taken[user] += [(item, time)] * click
        (folder / name).mkdir()
        pq.write_table(pa.Table.from_pylist(samples), folder / name / "part-0.parquet")
    (folder / "din.config").write_text(TORCHEASYREC_CONFIG)


TORCHEASYREC_CONFIG = """\
train_input_path: "data/train/*.parquet"
eval_input_path: "data/eval/*.parquet"
data_config {
    batch_size: 8192
    dataset_type: ParquetDataset
    label_fields: "clk"
}
feature_configs { id_feature { feature_name: "user_id" expression: "user:user_id" num_buckets: 100 } }
feature_configs { id_feature { feature_name: "item_id" expression: "item:item_id" num_buckets: 1000 } }
feature_configs { id_feature { feature_name: "cate_id" expression: "item:cate_id" hash_bucket_size: 100 } }
feature_configs { raw_feature { feature_name: "price" expression: "item:price" boundaries: [10, 20, 50.5] } }
feature_configs { combo_feature { feature_name: "user_x_cate" expression: ["user:user_id", "item:cate_id"] } }
feature_configs {
    sequence_feature {  # one group of lists over the same behaviors
        sequence_name: "click_50_seq"
        sequence_length: 50
        sequence_delim: "|"
        features { id_feature { feature_name: "item_id" expression: "item:item_id" } }
        features { id_feature { feature_name: "cate_id" expression: "item:cate_id" } }
        features { raw_feature { feature_name: "ts" expression: "user:ts" } }
    }
}
"""


def write_database(folder: Path) -> None:
    """Tables of a shop that name each other by ids; gold sellers are clicked more, and stores at the sea."""
    draw, views, shown = random.Random(12), [], []
    clicks, orders, lines = [], [], []
    moments = sorted(_moments(draw, 500), key=lambda entry: entry[1])
    for view, (user, time) in enumerate(moments, 1):
        views.append(
            {"id": view, "user_id": user, "viewed_at": _clock(time), "device": ["ios", "web"][view % 2]}
        )
        for item in draw.sample(range(_ITEMS), 4):
            store = draw.randrange(8)
            shown.append(
                {"id": len(shown) + 1, "page_view_id": view, "product_id": 500 + item, "store_id": store}
            )
            if draw.random() < 0.1 + 0.4 * (item % 10 % 3 == 0) + 0.3 * (store % 2):
                click = {"id": len(clicks) + 1, "impression_id": len(shown), "clicked_at": _clock(time + 9)}
                clicks.append(click)
                if draw.random() < 0.4:
                    orders.append({"id": len(orders) + 1, "user_id": user, "ordered_at": _clock(time + 300)})
                    lines.append({"id": len(lines) + 1, "order_id": len(orders), "product_id": 500 + item})
    tables = {
        "users": [
            {"id": user, "city_id": user % 7, "plan": ["free", "plus"][user % 2]} for user in range(_USERS)
        ],
        "cities": [{"id": n, "name": f"City {n}", "region": ["north", "south"][n % 2]} for n in range(7)],
        "products": [{"id": 500 + n, "seller_id": n % 10, "price": 5 + 7 * n % 90} for n in range(_ITEMS)],
        "sellers": [
            {
                "id": n,
                "name": f"Seller {n}",
                "level": ["gold", "silver", "basic"][n % 3],
                "city_id": n * 3 % 7,
            }
            for n in range(10)
        ],
        "product_categories": [
            {"product_id": 500 + n, "category_id": kind} for n in range(_ITEMS) for kind in (n % 6, 6 + n % 5)
        ],
        "categories": [
            {"id": n, "name": f"Kind {n}", "department": ["wear", "home"][n % 2]} for n in range(11)
        ],
        "stores": [{"id": n, "name": f"Store {n}", "place": ["hill", "sea"][n % 2]} for n in range(8)],
    }
    tables |= {
        "page_views": views,
        "impressions": shown,
        "clicks": clicks,
        "orders": orders,
        "order_items": lines,
    }
    for name, rows in tables.items():
        table = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(table) + "\n")


def write_app_log(folder: Path) -> None:
    """Objects in objects: user, app, event and what came of it."""
    draw, lines = random.Random(10), []
    for user, time in sorted(_moments(draw, 900), key=lambda moment: moment[1]):
        app = draw.randrange(_ITEMS)
        taken = _likes(draw, user, app)
        moment = dt.datetime.fromtimestamp(time, dt.UTC)
        row = {
            "event": {"ts": moment.isoformat(), "type": "view", "context": {"position": draw.randrange(4)}},
            "user": {"id": f"u{user}", "device": {"lang": ("en", "de", "pt")[user % 3]}},
            "app": {"id": f"com.app.n{app}", "meta": {"category": _kind(app), "tags": [_kind(app), "all"]}},
            "result": {"installed": taken, "install_ms": draw.randrange(900) if taken else None},
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "log.ndjson").write_text("".join(lines))


def write_export_log(folder: Path) -> None:
    """Events of an analytics tool as CSV, with the properties of each as an object in JSON."""
    draw, lines = random.Random(11), ["event,time,distinct_id,properties\n"]
    for user, time in sorted(_moments(draw, 900), key=lambda moment: moment[1]):
        item = draw.randrange(_ITEMS)
        properties = {
            "product_id": f"p{item}",
            "category": _kind(item),
            "page": draw.choice(["home", "sale"]),
        }
        lines.append(_export_row("Product Viewed", time, user, properties))
        if _likes(draw, user, item):
            lines.append(_export_row("Product Clicked", time + 20, user, properties))
    (folder / "events.csv").write_text("".join(lines))


def _export_row(event: str, time: int, user: int, properties: dict[str, str]) -> str:
    text = json.dumps(properties).replace('"', '""')
    return f'{event},{time},u{user},"{text}"\n'


def write_slates(folder: Path) -> None:
    """Requests with the list of what was shown, and the places of what was clicked, from 0."""
    draw, lines = random.Random(12), []
    for number, (user, time) in enumerate(_moments(draw, 500)):
        shown = draw.sample(range(_ITEMS), 6)
        places = [place for place, item in enumerate(shown) if _likes(draw, user, item)]
        row = {"request_id": f"r{number}", "account": f"a{user}", "server_time": 1000 * time}
        row |= {"slate": [f"i{item}" for item in shown], "clicked_positions": places}
        lines.append(json.dumps(row) + "\n")
    (folder / "slates.jsonl").write_text("".join(lines))
    _write_catalog(folder)


def write_wide_slates(folder: Path) -> None:
    """Requests with a column for each slot, of which the last ones may be empty, and for its click."""
    draw = random.Random(13)
    slots = range(1, 5)
    lines = [
        ",".join(["user_id", "time", *(f"item_{n}" for n in slots), *(f"click_{n}" for n in slots)]) + "\n"
    ]
    for user, time in _moments(draw, 500):
        shown = draw.sample(range(_ITEMS), draw.choice([3, 4, 4]))
        clicks = [str(int(_likes(draw, user, item))) for item in shown]
        filled = [f"i{item}" for item in shown]
        cells = [*filled, *[""] * (4 - len(shown)), *clicks, *[""] * (4 - len(shown))]
        lines.append(",".join([f"u{user}", str(time), *cells]) + "\n")
    (folder / "slates.csv").write_text("".join(lines))
    _write_catalog(folder)


def _write_catalog(folder: Path) -> None:
    rows = (f"i{item},{_kind(item)}\n" for item in range(_ITEMS))
    (folder / "catalog.csv").write_text("".join(["id,category\n", *rows]))


def write_ga4_like(folder: Path) -> None:
    """Events of a web shop: lists of the items that were shown or selected, and parameters of the event."""
    draw, lines = random.Random(14), []
    for user, time in sorted(_moments(draw, 500), key=lambda moment: moment[1]):
        shown = draw.sample(range(_ITEMS), 3)
        taken = [item for item in shown if _likes(draw, user, item)]
        place = draw.choice(["home", "search"])
        lines.append(_ga4_row("view_item_list", time, user, shown, place))
        lines += [_ga4_row("select_item", time + 15, user, [item], place) for item in taken]
        if taken and draw.random() < 0.3:
            lines.append(_ga4_row("purchase", time + 300, user, taken[:1], place))
    (folder / "events.jsonl").write_text("".join(lines))


def _ga4_row(event: str, time: int, user: int, items: list[int], place: str) -> str:
    row = {
        "event_name": event,
        "event_timestamp": 1_000_000 * time,
        "user_pseudo_id": f"100{user}.17",
        "device": {"category": "mobile" if user % 2 else "desktop"},
        "event_params": [
            {"key": "item_list_name", "value": {"string_value": place, "int_value": None}},
            {"key": "ga_session_id", "value": {"string_value": None, "int_value": time // 1800}},
        ],
        "items": [{"item_id": f"SKU{item}", "item_category": _kind(item)} for item in items],
    }
    return json.dumps(row) + "\n"


SHAPE_LOGS: dict[str, Callable[[Path], None]] = {
    "mind": write_mind_like,
    "ebnerd": write_ebnerd_like,
    "criteo": write_criteo_like,
    "bandit": write_bandit_like,
    "reviews": write_review_log,
    "parts": write_parts,
    "sequences": write_sequences,
    "fuxictr": write_fuxictr_like,
    "torcheasyrec": write_torcheasyrec_like,
    "database": write_database,
    "apps": write_app_log,
    "export": write_export_log,
    "slates": write_slates,
    "wide": write_wide_slates,
    "ga4": write_ga4_like,
}


def write_shape_logs(folder: Path) -> None:
    """Write every log into a folder of its own."""
    for name, write in SHAPE_LOGS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write(folder / name)


def _moments(draw: random.Random, count: int) -> Iterator[tuple[int, int]]:
    """Yield users and times of a week."""
    for _ in range(count):
        yield draw.randrange(_USERS), START + draw.randrange(7 * _DAY)


def _clock(time: int) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _likes(draw: random.Random, user: int, item: int) -> bool:
    """Draw whether a user takes an item."""
    return draw.random() < (0.6 if item % 5 == user % 5 else 0.15)


def _kind(item: int) -> str:
    return f"kind{item % 5}"


if __name__ == "__main__":
    write_shape_logs(Path(sys.argv[1]))
