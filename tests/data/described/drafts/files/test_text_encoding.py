"""Encodings of text files, told by their bytes."""

import random
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest

from clickscale.data.described.drafts.files.text_encoding import detect_encoding
from clickscale.data.described.drafts.guess import guess
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import read

TEXTS = {
    "latin-1": [
        "Müller;Größe 5;für Käufer",
        "Straße;schön;Äpfel",
        "déjà vu;été;garçon",
        "“quoted”;don’t;it’s €5",
    ],
    "cp1250": ["Łódź;Gdańsk;żółta łódka", "Dom i ogród;Zwierzęta;Zdrowie", "ząb;ćma;ściana;źródło"],
    "cp1251": ["Москва;купить телефон;да", "Санкт-Петербург;новая книга;нет", "Казань;для дома;да"],
    "cp1254": ["kadın ayakkabısı;İstanbul;kırmızı", "çocuk giyim;Şişli;satın alındı", "ışık;Ağrı;hayır"],
    "cp932": ["会員ID,商品コード,表示日時", "東京都,スマホ,食品のセット", "北海道,タブレット,新しい家電"],
    "euc-jp": ["会員ID,商品コード,表示日時", "東京都,スマホ,食品のセット", "北海道,タブレット,新しい家電"],
    "gb18030": ["用户编号,商品名称,点击时间", "北京市,手机,新款女装连衣裙", "上海市,电脑,食品零食大礼包"],
    "big5": ["會員編號,商品名稱,點擊時間", "台北市,手機,新款女裝連衣裙", "高雄市,電腦,食品零食大禮包"],
    "cp949": ["회원번호,상품코드,클릭시간", "서울특별시,휴대폰,새로운 가전", "부산광역시,컴퓨터,식품 세트"],
    "utf-8": ["Łódź;Müller;会員", "Москва;été;상품", "İstanbul;schön;电脑"],
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_each_encoding_is_told_by_texts_of_its_language(encoding: str) -> None:
    draw = random.Random(1)
    lines = ["1;2;3", *(draw.choice(TEXTS[encoding]) for _ in range(200))]
    written = "\n".join(lines).encode("cp1252" if encoding == "latin-1" else encoding)
    assert detect_encoding(written) == encoding


@pytest.mark.parametrize(
    "line",
    [
        "don’t;1",
        "it’s 5 – 6;2",
        "“a” b;3",
        "café;4",
        "5 m²;x³",
        "£5;¥7",
        "£ per kg",
        "cœur;sœur",
        "ÆØÅ æøå;5",
        "þú ert ágæt;það",
        "Õunad, mäed, öö, jõgi ja küla",
        "corações são três ações",
        "città perché più lunedì però",
        "fût août hôtel goût;À bientôt",
    ],
)
def test_western_text_with_few_letters_of_its_own_stays_western(line: str) -> None:
    assert detect_encoding("\n".join([line] * 50).encode("cp1252")) == "latin-1"


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("Příliš žluťoučký kůň;Škoda", "cp1250"),
        ("Šibenik, Đakovo, Čakovec;košulja žuta", "cp1250"),
        ("árvíztűrő tükörfúrógép;hűség", "cp1250"),
        ("こんにちは 東京;カメラ", "cp932"),  # as Korean all would be rare syllables
        ("カメラ", "cp932"),
    ],
)
def test_one_line_of_a_language_tells_its_encoding(line: str, encoding: str) -> None:
    assert detect_encoding(line.encode(encoding)) == encoding


@pytest.mark.parametrize("encoding", ["cp932", "gb18030", "cp1251"])
def test_letters_are_read_across_the_pieces_of_a_file(tmp_path: Path, encoding: str, monkeypatch) -> None:
    monkeypatch.setattr("clickscale.data.tables.chunks._BLOCK", 7)
    path = tmp_path / "log.csv"
    rows = [f"{number},{text.split(',')[0].split(';')[0]}" for number, text in enumerate(TEXTS[encoding] * 5)]
    path.write_bytes("\n".join(["id,name", *rows, ""]).encode(encoding))
    chunks = list(read(path, text=TextFormat(separator=",", encoding=encoding)))  # type: ignore[arg-type]
    names = pa.chunked_array([chunk["name"] for chunk in chunks]).to_pylist()
    assert names == [row.split(",")[1] for row in rows]


def test_a_row_with_bytes_that_are_no_letters_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("id,name\n1,東京\n".encode("cp932") + b"2,\x81 x\n3,ab\n")
    (chunk,) = read(path, text=TextFormat(separator=",", encoding="cp932"))
    assert chunk.problem.to_pylist() == [None, "invalid_utf8", None]


def test_a_draft_of_japanese_tables_names_columns_and_encoding(tmp_path: Path) -> None:
    draw = random.Random(2)
    rows = [
        f"{visit % 60},a{draw.randrange(40)},2024-05-{1 + visit // 20:02d} {visit % 20:02d}:00:0{place},"
        f"{place},{'スマホ' if draw.random() < 0.5 else 'パソコン'},{int(draw.random() < 0.3)}"
        for visit in range(400)
        for place in range(4)
    ]
    log = "\n".join(["会員ID,商品コード,表示日時,掲載位置,端末,クリック", *rows, ""])
    (tmp_path / "log.csv").write_bytes(log.encode("cp932"))
    items = "\n".join(["商品コード,カテゴリ", *(f"a{n},食品{n % 5}" for n in range(40)), ""])
    (tmp_path / "items.csv").write_bytes(items.encode("cp932"))
    users = "\n".join(["会員ID,都道府県", *(f"{n},東京都{n % 4}" for n in range(60)), ""])
    (tmp_path / "users.csv").write_bytes(users.encode("cp932"))
    tree = tomllib.loads(guess([tmp_path / f"{name}.csv" for name in ("log", "items", "users")], tmp_path))
    assert tree["impressions"]["encoding"] == "cp932"
    assert (tree["user"]["column"], tree["item"]["column"]) == ("会員ID", "商品コード")
    assert tree["labels"][0]["column"] == "クリック"
    assert tree["impressions"]["time"] == "表示日時"
