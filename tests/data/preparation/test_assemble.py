import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.preparation.assemble import _buckets, _spans

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 10))
def test_buckets_are_consecutive_and_one_owner_too_large_at_most(sizes: list[int], memory_rows: int) -> None:
    bucket = _buckets(np.array(sizes), memory_rows)
    spans = list(_spans(bucket))
    assert spans[0][0] == 0
    assert spans[-1][1] == len(sizes)
    assert [first for first, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert bucket.tolist() == [place for place, (first, end) in enumerate(spans) for _ in range(first, end)]
    for first, end in spans:
        assert sum(sizes[first : end - 1]) < memory_rows * 128
