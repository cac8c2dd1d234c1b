"""Words for outcomes in names and in values."""

import pytest

from clickscale.data.described.drafts.labels.outcome_words import (
    OutcomeName,
    accepted_of,
    act_of,
    kinds_of_stream,
    positive_of,
)


@pytest.mark.parametrize(
    "name", ["click", "clicks", "isClick", "is_purchased", "Clicked on Ad", "geklickt", "клик", "conversion"]
)
def test_names_that_say_nothing_but_an_outcome_are_known(name):
    said = OutcomeName(name)
    assert (said.is_plain, said.has_word, said.is_inverted) == (True, True, False)


@pytest.mark.parametrize(
    "name",
    [
        "Kliknięcie",
        "kliknął",
        "tıklandı",
        "Tıklama",
        "KLICK_KZ",
        "click_flg",
        "クリック有無",
        "是否点击",
        "클릭여부",
        "點擊",
    ],
)
def test_outcomes_in_further_languages_are_known(name):
    assert OutcomeName(name).is_plain


@pytest.mark.parametrize("name", ["点击时间", "クリック日時", "klientela", "tiklet"])
def test_names_that_only_begin_alike_are_none(name):
    assert not OutcomeName(name).is_plain


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (["pass", "like", "superlike"], ("pass", False, [])),
        (["ACCEPTED", "DECLINED", "TIMEOUT"], ("ACCEPTED", True, [])),
        (["Accepted", "rejected", "in progress"], ("Accepted", True, ["in progress"])),
        (["like", "superlike", "pass", "dislike"], None),
        (["accepted", "shipped"], None),
        (["like", "liked"], None),
    ],
)
def test_answers_to_offers_are_told_from_refusals(values, answer):
    assert accepted_of(values) == answer


@pytest.mark.parametrize("name", ["click_id", "purchase_amount", "clicked_campaign", "device", "clickbait"])
def test_names_that_say_more_are_no_plain_outcomes(name):
    assert not OutcomeName(name).is_plain


@pytest.mark.parametrize(
    "name", ["noclick", "non_click", "not_clicked", "dismissed", "is_skipped", "bounced"]
)
def test_names_of_what_is_not_wanted_have_no_word_for_an_outcome(name):
    assert (OutcomeName(name).is_inverted, OutcomeName(name).has_word) == (True, False)


@pytest.mark.parametrize(
    "name",
    [
        *("click_time", "clicked_at", "conversion_timestamp", "ClickTime", "purchase_date"),
        *("clique_le", "cliqué_le", "angeklickt_am", "fecha_clic", "date_de_clic", "Klickzeit", "clicado_em"),
    ],
)
def test_names_of_moments_of_outcomes_are_known(name):
    assert OutcomeName(name).is_moment
    assert not OutcomeName("impression_time").is_moment


@pytest.mark.parametrize(
    ("values", "yes"),
    [
        (["nein", "ja"], "ja"),
        (["oui", "non"], "oui"),
        (["no", "sí"], "sí"),
        (["нет", "да"], "да"),
        (["NO_CLICK", "CLICK"], "CLICK"),
        (["not clicked", "clicked"], "clicked"),
        (["ignored", "clicked"], "clicked"),
        (["negative", "positive"], "positive"),
        (["a", "b"], None),
        (["ja", "oui"], None),
        (["1"], "1"),
        (["x"], "x"),
        (["0"], None),
        ([], None),
        (["no", "yes", "maybe"], None),
    ],
)
def test_the_value_that_means_yes_is_found(values, yes):
    assert positive_of(values) == yes


@pytest.mark.parametrize(
    ("values", "act", "shown"),
    [
        (["impression", "click"], "click", True),
        (["skipped", "purchase"], "purchase", False),
        (["impression", "click", "purchase"], None, True),
        (["view", "click"], None, False),
        (["ja", "nein"], None, False),
    ],
)
def test_acts_are_told_from_views(values, act, shown):
    assert act_of(values) == (act, shown)


CLICKED = "Product Clicked"


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (["page_view", "view_item", "view_item_list", "select_item"], ("view_item_list", ["select_item"])),
        (
            ["view_promotion", "add_to_cart", "select_promotion"],
            ("view_promotion", ["select_promotion", "add_to_cart"]),
        ),
        (["Product Viewed", "Product List Viewed", "Product Clicked"], ("Product List Viewed", [CLICKED])),
        (
            ["Product Added", "Product Clicked", "Product Viewed"],
            ("Product Viewed", [CLICKED, "Product Added"]),
        ),
        (["view_item_list", "remove_from_cart"], None),
    ],
)
def test_events_of_web_analytics_are_known(values, kinds):
    assert kinds_of_stream(values) == kinds


@pytest.mark.parametrize(
    ("name", "label"),
    [("result.installed", True), ("event_properties.clicked", True), ("click.meta.id", False)],
)
def test_the_last_step_of_a_path_may_be_an_outcome(name, label):
    assert OutcomeName(name).is_plain is label


@pytest.mark.parametrize(
    ("values", "yes"),
    [
        (["N", "S"], "S"),
        (["O", "N"], "O"),
        (["N", "J"], "J"),
        (["falso", "vero"], "vero"),
        (["faux", "vrai"], "vrai"),
        (["nej", "ja"], "ja"),
        (["nee", "ja"], "ja"),
        (["S", "W"], None),
    ],
)
def test_letters_and_words_of_other_languages_mean_yes(values, yes):
    assert positive_of(values) == yes


@pytest.mark.parametrize("name", ["clicou", "cliqué", "Clicó", "aangeklikt", "klickat"])
def test_clicks_have_names_in_other_languages_with_accents_or_without(name):
    assert OutcomeName(name).is_plain


@pytest.mark.parametrize(
    "name", ["Beworben", "playback.started", "activé", "utilisé", "geöffnet", "eingelöst", "abriu", "gekocht"]
)
def test_other_acts_have_names_that_are_outcomes_if_nothing_better_is_there(name):
    assert (OutcomeName(name).has_weak_word, OutcomeName(name).tells_fact) == (True, False)


@pytest.mark.parametrize(
    "name",
    [
        "is_active",
        "is_bot",
        "isNew",
        "verified",
        "deleted",
        "premium",
        "enabled",
        "in_stock",
        "viewable",
        "__v",
    ]
    + ["__v.$numberInt", "ctx.is_mobile", "is_verified_user", "ativo"],
)
def test_what_something_is_came_of_no_impression(name):
    assert OutcomeName(name).tells_fact


@pytest.mark.parametrize(
    "name", ["is_click", "opened", "activé", "y", "f_12", "success", "contact_requested"]
)
def test_other_names_tell_no_fact(name):
    assert not OutcomeName(name).tells_fact


@pytest.mark.parametrize("name", ["click_ts_us", "clicked_at_ms", "interaction.clickedAt.$date"])
def test_moments_of_outcomes_may_end_in_their_unit_or_type(name):
    assert OutcomeName(name).is_moment
