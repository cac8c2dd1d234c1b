import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from clickscale.report import block_plots

CHANGES = [("AUC", [("<N, N>", -0.01, -0.02, 0.0), ("<N, B>", -0.05, math.nan, math.nan)])]
RANKS = [("<N, N>", 0.2, [0.5, 0.25]), ("<N, B>", 0.1, [0.125, math.nan])]


def words(svg: str) -> str:
    tree = ElementTree.fromstring(svg)
    assert tree.tag.endswith("svg")
    return " ".join(tree.itertext())


def test_maps_have_a_panel_per_layer_and_name_the_kinds_that_are_there() -> None:
    maps = np.full((4, 5, 5), 0.2, np.float32)
    text = words(block_plots.attention_maps("a run", maps, [("N", 2), ("B_u", 3), ("B_c", 0)]))
    for word in ("a run", "layer 1", "layer 4", "share of a query"):
        assert word in text
    assert text.count("B_u") == 8
    assert "B_c" not in text


def test_maps_of_nothing_but_zeros_can_be_drawn() -> None:
    assert "layer 1" in words(block_plots.attention_maps("x", np.zeros((1, 3, 3), np.float32), [("N", 3)]))


def test_blocks_show_every_change_and_every_rank_once_per_panel() -> None:
    text = words(block_plots.blocks("a run", CHANGES, RANKS))
    for word in ("a run", "AUC without the block", "Effective rank", "least possible", "layer 1", "layer 2"):
        assert text.count(word) == 1
    assert text.count("<N, B>") == 2


@pytest.mark.wide
def test_the_same_numbers_give_the_same_bytes() -> None:
    maps = np.eye(3, dtype=np.float32)[None]
    for draw in (
        lambda: block_plots.blocks("x", CHANGES, RANKS),
        lambda: block_plots.attention_maps("x", maps, [("N", 1), ("B_u", 2)]),
    ):
        assert draw() == draw()
