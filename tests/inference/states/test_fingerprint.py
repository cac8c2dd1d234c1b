from dataclasses import replace

import numpy as np
import torch

from clickscale.batch import UserSide
from clickscale.inference.states.fingerprint import Trail, behavior_bytes, fingerprint, profile_bytes
from tests.models.toy import toy_batch

KEY = bytes(32)


def trail(*rows: bytes, key: bytes = KEY) -> Trail:
    return Trail(key, b"".join(rows), 2)


def test_no_boundary_between_parts_can_move() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")
    assert fingerprint(b"ab") != fingerprint(b"ab", b"")
    assert fingerprint(b"a:b", b"c") != fingerprint(b"a", b"b:c")
    assert fingerprint(b"ab", b"c") == fingerprint(b"ab", b"c")
    assert len(fingerprint()) == 32


def test_a_chain_stands_for_the_rows_their_order_their_number_and_the_key() -> None:
    one = trail(b"aa", b"bb", b"cc")
    assert len(one) == 3
    assert one.chain(0, 3) == trail(b"xx", b"aa", b"bb", b"cc").chain(1, 4)
    others = [
        trail(b"aa", b"cc", b"bb").chain(0, 3),
        trail(b"aa", b"bb", b"cd").chain(0, 3),
        trail(b"aa", b"bb", b"cc", b"cc").chain(0, 4),
        one.chain(0, 2),
        one.chain(1, 3),
        trail(b"aa", b"bb", b"cc", key=b"x" * 32).chain(0, 3),
    ]
    assert len({one.chain(0, 3), *others}) == 7


def test_an_anchor_stands_for_one_row() -> None:
    one = trail(b"aa", b"bb", b"aa")
    assert one.anchor(0) == one.anchor(2) != one.anchor(1)
    assert one.anchor(0) != trail(b"aa", key=b"x" * 32).anchor(0)
    assert one.anchor(0) != one.chain(0, 1)[:16], "the two uses of the hash are apart"


def test_every_field_that_a_model_reads_is_in_the_bytes() -> None:
    user = toy_batch(rows=2, full=True).user
    before, profiles = behavior_bytes(user), profile_bytes(user)
    assert before.shape == (2, 12, 8 + 8 + 4 + 8)
    for name in ("items", "actions", "action_numbers", "times"):
        changed = getattr(user, name).clone()
        changed[1, 3] += 1
        after = behavior_bytes(replace(user, **{name: changed}))
        where = np.argwhere((after != before).any(axis=-1)).tolist()
        assert where == [[1, 3]], name
    for name in ("profile", "profile_numbers"):
        changed = torch.nan_to_num(getattr(user, name).clone(), 0.0)
        changed[0] += 1
        after = profile_bytes(replace(user, **{name: changed}))
        assert after[0] != profiles[0], name


def test_a_missing_number_has_one_form() -> None:
    user = toy_batch(rows=1, full=True).user
    odd = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    same = [
        behavior_bytes(replace(user, action_numbers=torch.full_like(user.action_numbers, value)))
        for value in (float("nan"), float(odd))
    ]
    assert np.array_equal(same[0], same[1])


def test_fields_that_a_log_does_not_have_take_no_bytes() -> None:
    bare = UserSide(
        profile=torch.ones((1, 1), dtype=torch.int64),
        profile_numbers=torch.zeros((1, 0)),
        items=torch.ones((1, 2), dtype=torch.int64),
        actions=torch.zeros((1, 2, 0), dtype=torch.int64),
        action_numbers=torch.zeros((1, 2, 0)),
        times=torch.ones((1, 2), dtype=torch.int64),
    )
    assert behavior_bytes(bare).shape == (1, 2, 16)
    assert len(profile_bytes(bare)[0]) == 8
