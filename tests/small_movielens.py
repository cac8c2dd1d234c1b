"""A small log in the official layout of MovieLens-100k."""

from pathlib import Path

from clickscale.demo.example_log import START


def write_small_movielens(folder: Path) -> None:
    """Write 1,200 ratings, some of them in the same second, of 30 users and 40 films."""
    folder.mkdir(parents=True)
    ratings = [(u % 30 + 1, u * 7 % 40 + 1, 1 + u * u // 7 % 5, START + u // 8 * 3600) for u in range(1200)]
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
    users = [f"{u}|{18 + u}|{'MF'[u % 2]}|student|{10000 + u}\n" for u in range(1, 31)]
    (folder / "u.user").write_text("".join(users))
    flags = ["|".join("1" if genre in (i % 19, i % 7) else "0" for genre in range(19)) for i in range(1, 41)]
    items = [f"{i}|Film {i} (1990)|01-Jan-1990||http://film|{flags[i - 1]}\n" for i in range(1, 41)]
    (folder / "u.item").write_text("".join(items), encoding="latin-1")
