"""The tables of the papers as variants of the models, each a real option."""

import msgspec
import pytest

from clickscale.benchmarking.ablation_config import AblationConfig
from clickscale.benchmarking.paper_tables import TABLES, PaperTable, Variant
from clickscale.models import model_config

EVERY = [(paper, table) for paper, tables in TABLES.items() for table in tables]


def model_of(variant: Variant) -> bytes:
    """All options of the model of a variant."""
    run = AblationConfig(paper="est", data="log", ids="log").run(variant, "size-2")
    return msgspec.json.encode(model_config(run.model, run.grade, run.model_options)) + run.model.encode()


@pytest.mark.parametrize(("paper", "table"), EVERY, ids=lambda value: getattr(value, "number", value))
def test_every_variant_is_made_of_options_and_no_two_are_equal(paper: str, table: PaperTable) -> None:
    made = [(model_of(variant), variant.needs_ids) for variant in table.variants]
    assert len(set(made)) == len(table.variants)


def test_a_key_stands_for_one_model_in_all_tables_of_a_paper() -> None:
    for tables in TABLES.values():
        variants = [variant for table in tables for variant in table.variants]
        facts = {(v.key, v.model, v.options, v.needs_ids) for v in variants}
        assert len(facts) == len({variant.key for variant in variants})


def test_the_lines_are_those_of_the_papers() -> None:
    letters = {table.number: [v.key for v in table.others] for table in TABLES["suan"]}
    assert letters == {"3": list("ABCDE"), "5": list("FG")}
    assert [table.number for table in TABLES["est"]] == ["1", "2", "4"]
    assert [variant.key for variant in TABLES["est"][0].others] == ["NN", "NB", "BN", "BB"]


def test_all_models_of_est_take_the_same_batches() -> None:
    variants = [variant for table in TABLES["est"] for variant in table.variants]
    assert {variant.options[0] for variant in variants} == {"grouping=request"}
