"""Columns that were probably written with or after the outcome, by their name and by what they tell.

Such a column is no feature: it is not known when a candidate is scored, and a model that learns from it looks
far better than it is. `clickscale.data.described.drafts.guess` leaves these columns out, with the reason,
unless a person keeps them.
"""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_values import numbers_or_none
from clickscale.data.described.drafts.roles.moments import lies_before
from clickscale.data.described.drafts.samples import Column
from clickscale.data.features.evidence import evidence, number_groups

_STEPS = 20  # positives (of texts for each of them) that must all have the value of a step before the label
_ANSWERS = 8  # different texts of what somebody did, at most
_RARE = 0.5  # share of rows that went such a step, at most
_SAME = 0.999  # share of rows that have a moment where a column of two values says so
# Parts of names in lower case, words joined by "_".
_ACTS = (
    r"click|open|view|watch|purchas|buy|bought|order|convert|conver|like|sav|shar|skip|finish|complet|install"
)
_TEXTS = re.compile(
    r"review_?(text|title|body|summary|content|date|time)|^summary$|^(text|comment|verbatim|opinion)s?$|comment_?text"
)
# What follows "delivery" where it was known before: where to, for how much, and how.
_PLANNED = (
    r"(zone|area|address|region|city|district|country|zip|radius|distance|fees?|costs?|price|option|method|mode|"
    r"type|slot|window|speed|promise|estimate|eta)"
)
# What was offered, such as free_cancellation and a cancellation_policy, was known before.
_CANCELED = (
    r"(?<!free_)cancel(?!l?able|l?ation_(polic|term|fee|type|deadline|option|window|allowed|possible))"
)
_LATER = re.compile(
    rf"helpful|^(useful|funny|cool)$|(^|_)(up|down)?votes?($|_)|refund(?!able)|returned|deliver(?!y_{_PLANNED})|{_CANCELED}|fulfil|"
    rf"(^|_)repl(y|ies)($|_)|response|"
    rf"feedback|reaction|outcome|(^|_)result$|satisf|verified_?purchase|"
    rf"(^|_)(?!opening)({_ACTS})\w*_(at|time|ts|date|timestamp|ms)$|(^|_)(read|started|replied|dismissed|hidden)_"
    rf"(at|on|ts|date|timestamp)$|^date_(read|started|({_ACTS})\w*ed)$|^(closed|resolved|ended|end)_(at|time|ts)$"
)
_WITH = re.compile(
    rf"dwell|time_?spent|time_on|(read|view|exit|stay|session)_?(time|secs|seconds|ms|duration)|"
    rf"_({_ACTS})\w*ed$|^({_ACTS})(ed|n)?_(flag|ind|yn)$|^(did|has|was)_({_ACTS})|"
    rf"transaction|checkout|payment|(^|_)gmv($|_)|basket_?value|order_?(id|value|total)|conversion"
)
# What follows may be a fact of an item, and is what came of an impression if it differs between impressions.
_DONE = (
    r"opened|clicked|viewed|watched|played|listened|read|skipped|dismissed|hidden|reported|muted|bounced|engaged|"
    r"replied|attributed|(un)?subscribed|expanded|collapsed|hovered|converted|installed|blocked|completed|"
    r"finished|downloaded|bookmarked|reviewed|tapped|swiped|bought|purchased|booked|scrolled|answered|responded|"
    r"activated|forwarded|shared|saved|closed(?=_)"
)
_USE = r"(play(?!er|list)|listen|watch|view(?!er|port)|engage|hover|active|visib|expos|attention|focus)[a-z]*"
_UNIT = r"(time|secs?|seconds|ms|msecs?|millis|minutes|duration|pct|percent|ratio)"
_AMOUNT = r"(amount|usd|eur|gbp|value|total)"
_OF_USE = (
    r"(lecture|visite|session|consultation|visionnage|lectura|visita|sesion|permanencia|visualizacion|leitura|sessao|"
    r"visualizacao|lettura|sessione|permanenza|visione|visualizzazione|ecoute|escucha|escuta|ascolto)"
)
_SPENT = (
    r"(verweil|lese|seh|abspiel|hor|betrachtungs|sitzungs)_?(dauer|zeit)|(scroll|lese)_?tiefe|"
    rf"(^|_)(temps|duree|tiempo|duracion|tempo|duracao|durata)_(de_|di_|da_|della_|la_)*({_OF_USE}|passe)(_|$)|"
    r"(^|_)(profondeur|profundidade?|profondita)_(de_|di_)?(scroll|defilement|desplazamiento|rolagem|scorrimento|"
    r"lecture|lectura|leitura|lettura)|(lees|kijk|luister|verblijfs?|sessie|bezoek)_?(tijd|duur)|scroll_?diepte"
)
_CAME = re.compile(
    rf"duration|elapsed|"
    # done or not: hidden, is_read, converted_24h, installed_app
    rf"^((is|was|has|did|ad|item|user|email)_)?({_DONE}|valid_(read|click|view|play|open)|viewable|bounced?|won)"
    rf"(_(flag|ind|yn|app|ad|item|page|post|email|\d+_?(s|m|min|h|d)))?$|"
    # how long: active_time, ms_played, time_in_view, time_to_click, session_length, and in other languages
    rf"(^|_){_USE}_?{_UNIT}$|(^|_){_UNIT}_(in_view|{_USE})$|(^|_){_UNIT}_to_(first_)?({_ACTS})|session_len(gth)?(_|$)|"
    rf"(^|_)(decision|decide|thinking|hesitation)_?{_UNIT}$|"
    rf"{_SPENT}|"
    # where, and what else: click_x, clicks_in_session, exit_page, next_item_id
    r"click_(x|y|pos|position|coords?|rank|index|element|url)$|"
    r"(click|view|play|purchase|order|conversion|open|like|action|page)s_in_(this_)?(session|visit)$|"
    r"(video|play|view|watch)_quartile$|(^|_)exit_(page|url|link|screen|path)$|session_(stop|end)|"
    r"reason_(end|stop|exit|skip|close)|(end|stop|exit|skip|close)_reason|"
    r"^next_(item|page|url|video|track|song|article|news|ad|product|action|event|click|screen)(_|$)|"
    # for how much: win_price, payprice, amount_paid, payout
    r"(^|_)(win|won|winning|clear|clearing|pay|paying|paid|charged|settled)_?(price|bid|cost|cpm)(_(micros|cents|usd|eur|gbp))?$|"
    rf"(^|_)(price|amount|cost)_(paid|charged)$|(^|_)(commission|payout|profit|earning)s?(_{_AMOUNT})?$|^bid_won$"
)
# What stood there after it: cart_value_after, post_click_views. A price after a discount is another thing.
_THEREAFTER = re.compile(
    rf"(^|_)(cart|basket|balance|sessions?|visits?|spen[dt]|revenue|sales|gmv|points|funnel|({_ACTS})\w*)(_\w+)?_after$|"
    rf"(^|_)(after|post)_({_ACTS}|impression|exposure|visit)\w*(_|$)"
)
_BEFORE = re.compile(
    r"(^|_)(last|prev|previous|past|prior|hist\w*|recent|since|before|predicted|expected|estimated|avg|mean)(_|$)"
)
_EARLIER = re.compile(r"^(prev|previous|prior)_")  # what an earlier impression came to
# How hosts and sellers do in general, if it is one value for each.
_STANDING = re.compile(r"response_(rate|time)|feedback_(score|rating|rate|percent\w*)")
_TOTALS = re.compile(
    r"(^|_)(ctr|cvr)($|_)|(click|play|like|show|view|buy|purchase|order|share|vote|rating|review|impression|"
    r"exposure|sale)s?_?(cnt|count|num|rate|ratio|total|avg|mean)s?$|^(n|num|nb|total|sum|avg|mean|average)_"
    r"(click|play|like|view|purchase|order|share|vote|rating|review|impression|sale|spen[dt]|revenue)|helpful|"
    r"(^|_)life_?time_(value|spen[dt]|revenue|sales|(click|view|play|visit|session|order|purchase|booking)s?)(_|$)|"
    r"(^|_)(ltv|clv|cltv)($|_)|(^|_)(spen[dt]|revenue)_(total|to_date|all_time)$"
)
# Bare counts of what all users did, such as views, stats.clicks, Bewerbungen gesamt and nb_vues.
_ACTS_OF_ALL = (
    r"(clicks|views|page_?views|impressions|plays|likes|shares|saves|comments|orders|purchases|sales|bookings|downloads|"
    r"installs|applications|reviews|ratings|votes|favou?rites|"
    r"klicks|aufrufe|ansichten|bestellungen|verkaufe|kaufe|bewerbungen|bewertungen|buchungen|kommentare|"
    r"vues|clics|commentaires|ventes|achats|commandes|reservations|candidatures|avis|"
    r"visualizaciones|vistas|comentarios|ventas|compras|pedidos|resenas|valoraciones|reservas|candidaturas|"
    r"visualizacoes|cliques|vendas|avaliacoes|curtidas|"
    r"visualizzazioni|commenti|vendite|acquisti|ordini|recensioni|prenotazioni|"
    r"weergaven|kliks|klikken|reacties|verkopen|aankopen|bestellingen|beoordelingen|boekingen|sollicitaties)"
)
_ALL_TOLD = (
    r"(stats?|statistics|metrics|count|counts|n|num|nb|nombre|numero|anzahl|aantal|total|totale?s?|totali|totaal|"
    r"gesamt|insgesamt|qtd|quantidade|cantidad|quantita|de|der|di|d|cnt|to_date|all_time|life_?time|bisher)"
)
_COUNTS_OF_ALL = re.compile(rf"^({_ALL_TOLD}_)*{_ACTS_OF_ALL}(_{_ALL_TOLD})*$")
# How long until the export.
_COUNTS_ON = re.compile(
    r"(^|_)((days|hours|weeks|months)_(on_(the_)?market|listed|since_(last|latest)(_\w+)?)|time_on_(the_)?market)$|"
    r"^recency(_days)?$|"
    r"^(tage|jours|dias|giorni|dagen)_(online|en_ligne|en_linea|no_ar|seit_letzte\w*|depuis_derniere?\w*)(_\w+)?$"
)
_FORECAST = re.compile(r"(^|_)(predicted|expected|estimated|forecast)(_|$)")
# What became of a user or an item by the time of the export.
_BECAME = re.compile(r"(^|_)(churn(ed)?|attrition|attrited)(_(flag|flg|ind|yn|bool))?$")
# A moment that an export overwrites: who has a late one was still there later.
_MOVES = re.compile(
    r"(^|_)(last|latest|updated?|modified|changed|edited|deleted|removed|churned|deactivated|unsubscribed|"
    r"letzte[rsn]?|zuletzt|aktualisiert|geandert|gekundigt|derniere?|maj|mise?_a_jour|modifiee?|ultim[oa]|"
    r"actualizad[oa]|atualizad[oa]|modificad[oa]|modificat[oa]|aggiornat[oa]|laatste?|bijgewerkt|gewijzigd)(_|$)"
)
# Of what was bought, how many and for how much: who did not buy has none of these.
_PURCHASED = re.compile(
    r"(^|_)(quantity|quantities|qty|amount|amt|units|price|prices|paid|pay|cost|discount|total|subtotal|tax|tip|"
    r"fees?|sales|spend|spent)(_(total|value|sum|paid|pct|percent|usd|eur|gbp))?$"
)


# The same thing before and after, which a price before and after a discount is not.
_AFTER = re.compile(
    r"^(?P<what>(?!.*(price|cost|fare|discount|tax|rate|preis|prix|precio|preco|prezzo|prijs))\w+?)_"
    r"(after|afterwards|nachher|danach|apres|despues|depois|dopo)$"
)
_BEFOREHAND = ("before", "pre", "vorher", "zuvor", "avant", "antes", "prima", "vooraf")


def _said(column: Column) -> OutcomeName:
    """Return what the name of a column says, accents and the types of MongoDB's exports apart."""
    return OutcomeName(re.sub(r"(\.\$(number[A-Z][a-z0-9]+|date|oid))+$", "", column.plain))


def written_after(column: Column, beside: Iterable[Column] = (), varies: bool = True) -> str:
    """Return why a column of events was written after the outcome, by its name; empty if it was not.

    Args:
        beside: columns of the same table, of which one may hold what stood there before.
        varies: the column differs between the impressions of one item and of one user.
    """
    name = _said(column)
    if name.matches(_TEXTS):
        return "by its name a text about the outcome, written after it"
    if after := _AFTER.match(name.snake):
        what = after["what"]
        before = {
            what,
            *(f"{what}_{word}" for word in _BEFOREHAND),
            *(f"{word}_{what}" for word in _BEFOREHAND),
        }
        if other := next((other for other in beside if _said(other).snake in before), None):
            return f"by its name what became of {other.name} with the outcome"
    is_known = name.matches(_EARLIER) or (not varies and name.matches(_STANDING))
    is_later = (name.matches(_LATER) and not is_known) or name.matches(_THEREAFTER)
    return "by its name written after the outcome" if is_later else ""


def written_with(column: Column, varies: bool) -> str:
    """Return why a column of events was written with the outcome, by its name; empty if it was not.

    Args:
        varies: the column differs between the impressions of one item and of one user.
    """
    name = _said(column)
    with_it = name.matches(_WITH) or (varies and name.matches(_CAME) and not name.matches(_BEFORE))
    return "by its name written with the outcome" if with_it else ""


def written_with_purchases(column: Column) -> str:
    """Return why only what was bought has a value of a column, by its name; empty if all may have one."""
    bought = column.floats is not None and _said(column).matches(_PURCHASED)
    return "by its name an amount of what was bought" if bought else ""


def totals_outcomes(column: Column) -> str:
    """Return why an attribute of items or users may sum outcomes of the log itself; empty if not."""
    name = _said(column)
    if name.matches(_BECAME):
        return "by its name what became of it by the time of the export, maybe after the impressions"
    if name.matches(_COUNTS_ON):
        return "by its name counted up to the export, maybe beyond the impressions"
    counts = column.floats is not None and name.matches(_COUNTS_OF_ALL)
    if (counts or name.matches(_TOTALS)) and not name.matches(_FORECAST):
        return "by its name a total of outcomes, maybe of those that the log is about"
    return ""


def moves_on(column: Column, time: Column | None, rows: npt.NDArray[np.int64]) -> str:
    """Return why a moment of an item or a user is one of the export of the table; empty if it is not.

    Args:
        time: of the impressions.
        rows: (N,) row of the column for each impression, -1 for none.
    """
    is_moment = bool(column.unit) or column.is_date
    if time is None or not is_moment or not _said(column).matches(_MOVES):
        return ""
    if lies_before(column, time, rows):
        return ""
    return "by its name it moves on, and here it lies after impressions"


def tells_whether(column: Column, moments: Iterable[Column]) -> str:
    """Return which moment a column of two values says rows to have, such as ``unsubscribed``; empty if none.

    Args:
        moments: of the export of the table, as `moves_on` finds them.
    """
    if column.distinct != 2 or pa.types.is_nested(column.values.type):
        return ""
    is_first = pc.equal(column.values, column.known[0]).fill_null(False)
    for moment in moments:
        if not 0 < moment.values.null_count < len(moment.values):
            continue
        same = np.mean(np.asarray(pc.equal(is_first, moment.values.is_valid())))
        if max(same, 1 - same) >= _SAME:
            return f"it says whether there is a value in {moment.name}, which moves on"
    return ""


def precedes(column: Column, label: npt.NDArray[np.float64]) -> bool:
    """True if all positives have a rare value: that of an earlier step, as click is before like.

    It is a value of a flag, or one of a few texts, such as those of a swipe, most of which no positive has.
    """
    text = column.floats is None and pa.types.is_string(column.values.type)
    if not (column.is_flag or (text and column.distinct <= _ANSWERS)):
        return False
    positive = label == 1
    of_positives = column.values.filter(pa.array(positive))
    step = np.asarray(pc.is_in(column.values, value_set=of_positives.drop_null()), np.bool_)
    enough = int(positive.sum()) >= _STEPS * (1 if column.is_flag else column.distinct)
    return enough and not of_positives.null_count and step.mean() < _RARE


def tells_outcome(column: Column, label: npt.NDArray[np.float64]) -> str:
    """Return how well a column tells the label in the sample, if nearly perfectly; else an empty text."""
    known = np.isfinite(label)
    numbers = numbers_or_none(column)
    if numbers is not None:
        forms = list(number_groups(numbers))
    elif pa.types.is_nested(column.values.type):
        forms = []
    else:
        indices = column.values.dictionary_encode().indices.fill_null(-1)
        forms = [indices.to_numpy(zero_copy_only=False).astype(np.int64)[:, None] + 1]
    missing = column.values.is_null().to_numpy(zero_copy_only=False)
    forms.append(missing.astype(np.int64)[:, None])
    for groups in forms:
        if how := evidence(groups[known], label[known] > 0):
            return f"it tells the label {how}, so it may be feedback"
    return ""
