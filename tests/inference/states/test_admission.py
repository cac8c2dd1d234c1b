from clickscale.inference.states.admission import RecentCounts
from clickscale.inference.states.fingerprint import fingerprint


def key(number: int) -> bytes:
    return fingerprint(number.to_bytes(4, "little"))


def test_counts_are_the_number_of_requests() -> None:
    counts = RecentCounts(1_000)
    for _ in range(3):
        counts.add(key(1))
    counts.add(key(2))
    assert [counts.count(key(n)) for n in (1, 2, 3)] == [3, 1, 0]


def test_a_key_that_came_once_is_forgotten_and_a_frequent_one_fades() -> None:
    counts = RecentCounts(10)
    for _ in range(4):
        counts.add(key(1))
    counts.add(key(2))
    for _ in range(5):
        counts.add(key(3))
    assert [counts.count(key(n)) for n in (1, 2, 3)] == [2, 0, 2]  # halved after the tenth


def test_a_count_never_overflows() -> None:
    counts = RecentCounts(10_000)
    for _ in range(300):
        counts.add(key(1))
    assert counts.count(key(1)) == 255


def test_among_many_new_keys_few_look_familiar() -> None:
    counts = RecentCounts(4_096)
    for number in range(4_000):
        counts.add(key(number))
    assert all(counts.count(key(number)) >= 1 for number in range(4_000)), "never too low"
    assert sum(counts.count(key(number)) > 0 for number in range(10_000, 12_000)) < 100  # 2.4 % expected
