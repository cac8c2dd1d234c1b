"""Dense parameters of every competitor, by the formulas of their papers.

The made-up log has a profile of 5 fields, items of 4, one field of events and a context of 2.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from clickscale.costs.flops import _count_parameters, reference_features, reference_items
from clickscale.layers.bias import TIME_BUCKETS
from clickscale.models import build_model, model_names

FEATURES = reference_features(items=50)
LENGTH, SMALL = 20, 8  # behaviors; d, width of a field
ITEM, TOKEN, PROFILE, CONTEXT = 4 * SMALL, 5 * SMALL, 5 * SMALL, 2 * SMALL
SIDES = PROFILE + CONTEXT
FIELDS = 5 + 4 + 2 + 5  # of profile, item, context and the pooled behavior


def linear(width: int, out: int) -> int:
    """A layer with bias."""
    return width * out + out


def tower(width: int) -> int:
    """Layers of 256, 128 and 1, a gain and a Dice slope for each hidden unit."""
    return sum(linear(a, b) for a, b in pairwise((width, 256, 128, 1))) + 2 * (256 + 128)


def activation(width: int) -> int:
    """DIN's network of 36 units over four vectors; Dice has a slope, a center and a rate."""
    return linear(4 * width, 36) + 3 * 36 + linear(36, 1)


def gru(width: int, out: int) -> int:
    """Three gates, each with two biases as torch has them."""
    return 3 * (width * out + out * out + 2 * out)


def week(width: int) -> int:
    """Hour and weekday."""
    return (24 + 7) * SMALL + SMALL * width


def bias(heads: int) -> int:
    """Tables of time and of distance in one block."""
    return heads * (TIME_BUCKETS + LENGTH + 1)


def dien() -> int:
    wide = TOKEN
    evolved = ITEM * wide + 2 * linear(wide, 3 * wide)
    return gru(wide, wide) + evolved + tower(wide + ITEM + SIDES)


def search(projections: int) -> int:
    """Two interests: attention of two heads of 16 over what was found."""
    wide, gap = 2 * 16, TIME_BUCKETS * SMALL
    attention = TOKEN * wide + 2 * (TOKEN + SMALL) * wide
    return activation(TOKEN) + projections + gap + attention + tower(TOKEN + wide + ITEM + SIDES)


def twin() -> int:
    heads, wide, crossed = 4, 64, 2  # 4 heads of 16; the event's field and the time are crossed
    relevance = 2 * ITEM * wide + crossed * heads * (SMALL + 1)
    value = (TOKEN + SMALL) * wide
    own = activation(TOKEN) + relevance + value + TIME_BUCKETS * SMALL
    return own + tower(TOKEN + wide + ITEM + SIDES)


def bst() -> int:
    wide = TOKEN + SMALL  # a field for the time
    block = 4 * linear(wide, wide) + linear(wide, 4 * wide) + linear(4 * wide, wide) + 4 * wide
    return 2 * block + TIME_BUCKETS * SMALL + tower(wide + SIDES)


def hstu() -> int:
    block = 5 * TOKEN**2 + 5 * TOKEN + 4 * TOKEN + bias(2)
    return 2 * block + week(TOKEN) + tower(TOKEN + SIDES)


def mtgr() -> int:
    wide = 64
    tokens = linear(SMALL, wide) + linear(TOKEN, wide) + linear(TOKEN + CONTEXT, wide)
    tokens += 2 * linear(wide, wide)  # the second layers of the MLPs of behaviors and candidates
    # A norm before and a norm after attention for each kind of row; at the end only candidates are left.
    norms = 2 * wide * (3 + 3 + 3 + 1)
    blocks = 2 * (5 * wide**2 + 5 * wide + bias(2))
    return tokens + blocks + norms + week(TOKEN) + tower(wide + SIDES)


def autoint() -> int:
    out = 2 * 32
    layers = 4 * SMALL * out + 2 * 4 * out * out  # of three; the residual is always a map
    return activation(TOKEN) + layers + FIELDS * out + tower(FIELDS * SMALL)


def dcnv2(mixture: bool) -> int:
    n, rank, experts = FIELDS * SMALL, 32, 4
    # A gate and a bias of each expert in every layer.
    layer = experts * (2 * n * rank + rank**2 + n + n) if mixture else n**2 + n
    return activation(TOKEN) + 3 * layer + n + tower(n)


def wukong() -> int:
    made, k, n = 8, 16, FIELDS
    layer = n * k + 2 * n * k + linear(n * k, 256) + linear(256, made * SMALL) + made * n + 2 * SMALL
    return activation(TOKEN) + 2 * layer + tower(2 * made * SMALL)


def rankmixer(experts: int) -> int:
    tokens, wide = 8, 64
    one = linear(wide, 2 * wide) + linear(2 * wide, wide)
    routers = 2 * linear(wide, experts) if experts else 0
    block = tokens * (one * max(experts, 1) + routers) + 4 * wide
    return activation(TOKEN) + tokens * linear(FIELDS * SMALL // tokens, wide) + 2 * block + tower(wide)


def hiformer() -> int:
    wide, tokens = 32, FIELDS + 1  # the task's token behind the fields
    own = 2 * wide**2 + linear(wide, 4 * wide) + linear(4 * wide, wide)  # Q, O and the feed-forward network
    layer = 2 * tokens * wide**2 + own + 4 * wide  # only the task's token is computed in the last layer
    return activation(TOKEN) + FIELDS * linear(SMALL, wide) + wide + layer + tower(wide)


def onetrans() -> int:
    wide, own = 48, 6
    rest = 2 * linear(wide, wide) + linear(wide, 2 * wide) + linear(2 * wide, wide) + wide
    shared = 2 * (linear(wide, 2 * wide) + wide) + rest  # behaviors end at the last layer's keys and values
    each = 4 * linear(wide, wide) + linear(wide, 2 * wide) + linear(2 * wide, wide)
    tokens = linear(TOKEN, wide) + linear(PROFILE, 2 * wide) + linear(TOKEN + CONTEXT, 4 * wide)
    return tokens + shared + 2 * (own * each + 2 * wide) + wide + week(TOKEN) + tower(own * wide)


def longer() -> int:
    wide, merge = 64, 4
    groups = -(-LENGTH // merge)
    block = 3 * wide**2 + linear(wide, wide) + linear(wide, 4 * wide) + linear(4 * wide, wide) + 2 * wide
    entered = linear(merge * (TOKEN + SMALL), wide) + groups * wide + TIME_BUCKETS * SMALL
    ends = linear(PROFILE, wide) + wide + linear(ITEM + CONTEXT, wide)
    return entered + ends + 2 * block + wide + tower(wide + SIDES)


FORMULAS: dict[str, Callable[[], int]] = {
    "mlp": lambda: tower(TOKEN + ITEM + SIDES),
    "din": lambda: activation(TOKEN) + tower(TOKEN + ITEM + SIDES),
    "dien": dien,
    # Two fields of three orders, 8 + 4 outputs each; the small networks are rows of tables.
    "can": lambda: activation(TOKEN) + tower(TOKEN + ITEM + 2 * 3 * (8 + 4) + SIDES),
    "sim": lambda: search(2 * ITEM * 16),
    "eta": lambda: search(0),
    "twin": twin,
    "bst": bst,
    "hstu": hstu,
    "mtgr": mtgr,
    "autoint": autoint,
    "dcnv2": lambda: dcnv2(False),
    "dcnv2 cross=mixture": lambda: dcnv2(True),
    "wukong": wukong,
    "rankmixer": lambda: rankmixer(0),
    "rankmixer experts=3": lambda: rankmixer(3),
    "hiformer": hiformer,
    "onetrans": onetrans,
    "longer": longer,
    # One more number of each field, its weight in the sum of the machine.
    "deepfm": lambda: activation(5 * (SMALL + 1)) + tower(FIELDS * SMALL),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_dense_parameters_are_those_of_the_formula(name: str) -> None:
    model, *options = name.split()
    made = build_model(model, FEATURES, reference_items(FEATURES), length=LENGTH, overrides=options)
    assert _count_parameters(made)[0] == FORMULAS[name]()


def test_every_competitor_has_a_formula() -> None:
    """The models of the two papers have theirs in tests of their own."""
    named = {name.split()[0] for name in FORMULAS}
    assert set(model_names()) - named == {"suan", "lightsuan", "suan_literal", "est", "est_full"}
