"""Words for outcomes: in names of columns, and as the two values of a column, in several languages."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_ACT = (
    r"(click(s|ed)?(_?through)?|clk|klicks?|geklickt|clics?|clicad[oa]|cliccat[oa]|convert(ed)?|konvertiert|"
    r"clicou|clico|cliquee?s?|(aan)?geklikt|angeklickt|klickat|klickade|klikket|kliknal|kliknieto|"
    r"klik(niecie|niec|nuti)?|proklik|tikla(n|ndi|ma|di|nma)?|kattint(as|ott)?|"
    r"conversions?|purchas(es?|ed)|gekauft|bought|booked|installs|installed)"
)
_PLAIN = re.compile(
    rf"((is|has|was|did|ad)_)*{_ACT}(_(on|the|ad|banner|bool|flag|flg|ind|yn|kz|kennz(eichen)?))*"
)
# Facts of things, persons and visits, and what a database counts; none of them came of an impression.
_FACT = re.compile(
    r"((is|are|has|in|was)_)*"
    r"(active|inactive|enabled|disabled|deleted|archived|hidden|draft|published|private|public|verified|"
    r"premium|pro|plus|prime|vip|member|subscriber|registered|logged_?in|signed_?in|guest|anonymous|admin|staff|"
    r"employee|bot|robot|crawler|spider|fraud(ulent)?|spam|internal|test|debug|new|old|first|returning|in_?stock|"
    r"stock|out_?of_?stock|sold_?out|available|availability|viewable|viewability|visible|in_?view|featured|sponsored|"
    r"promoted|organic|personali[sz]ed|recommended|mobile|desktop|tablet|app|wifi|weekend|holiday|workday|adult|"
    r"dark_?mode|discounted|on_?sale|for_?rent|refurbished|free|opt(ed)?_?in|consent(ed)?|gdpr|control|"
    r"treatment|holdout|v|version|revision|rev|row_?version|lock_?version|schema_?version|aktiv|geloscht|activo|activa|ativo|ativa|"
    r"attivo|attiva|actif|nuevo|nueva|novo|nova|nouveau|nouvelle|neu|verfugbar|disponible|disponivel|disponibile)"
    r"(_(user|customer|member|visitor|client|item|product|listing|ad|account|device|traffic|session|visit|flag|ind|"
    r"yn|bool))*"
)
_FOREIGN = re.compile(
    r"(是否|已)?(клик(и|нул|нули)?|конверсия|cliqué|点击|點擊|クリック|클릭)(有無|フラグ|済み?|数|數|여부|수)?"
)
_ANYWHERE = re.compile(
    rf"(^|_){_ACT}(_|$)|(^|_)(responded|response)(_|$)|(^|_)(target|label|outcome|reward)$"
)
# Of two values that differ between the impressions of one user and of one item, if nothing better is there.
_WEAK = re.compile(
    r"(^|_)(contact(s|ed)?|contact_request(ed)?|requested|revealed|inquir(y|ies|ed)|enquir(y|ies|ed)|leads?|opened|"
    r"appl(y|ied)|application|ordered|reserv(ed|ation)|sign(ed)?_?up|download(ed)?|engaged?|watched|played|"
    r"listened|answered|accepted|attended|redeemed|used|replied|swiped_right|is_match|matched|won|conv|"
    r"started|warenkorb|panier|carrello|carrito|carrinho|winkelwagen|koszyk|bestell(t|ung)|gebucht|buchung|kauf|reagiert|geo(e)?ffnet|beworben|abonniert|angefragt|kontaktiert|"
    r"eingeloe?st|heruntergeladen|gemerkt|angesehen|(ab)?gespielt|angehoe?rt|gelesen|reserviert|"
    r"compr(a|o|ado|ada|ou)|reserva(do)?|abierto|abrio|reservo|solicito|inscrito|postulo|reproducido|descargado|"
    r"canjeado|usado|visto|abriu|aberto|reservou|assinou|contatou|inscreveu|baixou|assistiu|ouviu|usou|resgatou|leu|"
    r"achat|achetee?|commande|reservation|utilisee?|consultee?|ouverte?|telechargee?|partagee?|visionnee?|ecoutee?|"
    r"reservee?|inscrite?|postule|acquist(o|ato)|ordine|aperto|prenotato|scaricato|usato|contattato|letto|riprodotto|"
    r"guardato|gekocht|besteld|geboekt|geopend|gereserveerd|bekeken|gebruikt|gesolliciteerd|kupil|kupiono|zakup|"
    r"otworzyl|otwarto|kopt|bokad|oppnad|kobt|bestilt|abnet)"
    r"(_|$)"
)
_DONE_IN_FRENCH = re.compile(r"(^|_)activée?(_|$)")  # without its accent it is what a thing is
_INVERTED = re.compile(
    rf"((is|was|did|has)_)*((no|non|not|un)_?({_ACT})|dismiss(ed)?|skip(ped)?|ignored?|bounced?|rejected)"
)
_MOMENT = re.compile(
    r"(ad)?(click(ed)?|conver(sion|ted)|purchased?|install(ed)?)(at|time|ts|timestamp|date|datetime)"
    r"(s|sec|ms|millis|us|micros|ns|utc)?"
)
_MOMENT_ABROAD = re.compile(  # clique_le, angeklickt_am, fecha_clic, date_de_clic, Klickzeit
    rf"{_ACT}_(le|am|um|em|el|il|op)|{_ACT}_?(zeit(punkt)?|datum|tijd(stip)?)|"
    rf"(date|heure|fecha|hora|data|ora|datum|zeitpunkt)_(de_|du_|do_|da_|di_|del_)?{_ACT}"
)
_COUNT_OF_SHOWN = re.compile(
    r"((?!past|prev|prior|last|hist|recent|total|user)[a-z]+_)?(imps?|impr|impressions?|shows|exposures|displays)(_(count|cnt|num))?"
)
# Moments that are asked for and lie ahead. What came true, as a delivery does, is known only later.
_AHEAD = re.compile(
    r"(^|_)(depart(s|ure)?|arriv(e|es|al)|outbound|inbound|return|travel|trip|journey|flight|voyage|check_?(in|out)|"
    r"srch_c[io]|stay|pick_?up|drop_?off|rental|appointment|event|show|concert|course|class|tour|match|game|"
    r"expir(y|es|ation)|valid_(until|to|thru|through)|deadline|due|delivery_(slot|window)|"
    r"(requested|planned|promised|scheduled)_delivery)"
    r"(_(slot|start|starts|begin|begins|end|ends|from|to|until|date|day|time|at|on|datetime|ts|timestamp|window))*$|"
    r"(abflug|hinflug|ruckflug|rueckflug|anreise|abreise|hinreise|ruckreise|rueckreise|reise|ankunft|abfahrt|miet|"
    r"veranstaltungs?|event|kurs|ablauf|verfalls?)_?(datum|beginn|ende|start|tag|zeit|antritt|termin)?$|"
    r"gultig_?bis$|(^|_|liefer|wunsch)termin$|lieferfenster$|"
    r"(^|_)(date|jour|heure|fecha|dia|hora|data|ora)_(de_|du_|d_|di_|della_|da_|do_)?(depart|arrivee|retour|voyage|"
    r"sejour|expiration|echeance|evenement|salida|llegada|entrada|regreso|vuelta|ida|viaje|caducidad|vencimiento|"
    r"evento|partenza|arrivo|ritorno|viaggio|scadenza|partida|chegada|volta|viagem)$|"
    r"^(depart|arrivee|retour|salida|llegada|regreso|vuelta|partenza|arrivo|ritorno|partida|chegada)$"
)
_CAME_TRUE = re.compile(r"(^|_)(actual|real(ized|ised)?|effective|tatsachliche?s?|last|prev|previous)(_|$)")
_OF_EVENTS = re.compile(
    r"event|action|activity|interact|status|outcome|response|result|behav|feedback|^type$|^kind$"
)


PLAIN_LETTERS = str.maketrans("ıłŁøØđĐ", "ilLoOdD")  # those that have no accent to take off
_WRAPPER = re.compile(r"(\.\$(date|oid|number[A-Z]\w*))+$")  # types of values in JSON of MongoDB


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Values as they are compared: lower case, without spaces, "_" and "-".
_ACTS = _set(
    "click clicked clicks clk klick geklickt clic tap tapped taps convert converted conversion purchase "
    "purchased buy bought install installed клик"
)
_NOT_DONE = _set("ignored ignore skipped skip dismissed dismiss") | {
    before + act for before in ("no", "not", "non", "un", "didnot", "nicht", "kein") for act in _ACTS
}
_SHOWN = _set(
    "impression impressions imp impr impressed show shown display displayed exposure exposed served"
)
# What analytics tools call what was shown in a list, and clicked there; view_item is a page of its own.
_SHOWN_IN_LISTS = _set("viewitemlist viewpromotion productlistviewed promotionviewed promotionview")
_SELECTED = _set("selectitem selectpromotion itemselected productselected promotionclicked promotionclick")
_CLICKS = _set("click clicked clicks clk klick geklickt clic tap tapped taps клик") | _SELECTED
_FURTHER = _set(
    "cart carts addtocart addedtocart basket addtobasket checkout order orders ordered transaction "
    "transactions booking booked signup subscribe lead download like liked share shared save saved fav "
    "favorite favourite follow productadded orderplaced ordercompleted begincheckout addtowishlist"
)
_UNDONE = re.compile(r"(no|not|non|un|dis|remov|delet|cancel|abandon|clear|empty)")
_VIEWS = _set("view views viewed pageview exposed seen")  # they show an item, or are what came of showing it
_YES = _ACTS | _set(
    "1 true t yes y ja j oui o "
    "si sí sim s да da tak ano igen evet kyllä 是 "
    "vrai vero verdadero verdadeiro wahr v positive pos on opened success applied won"
)
_NO = (
    _NOT_DONE
    | _SHOWN
    | _set(
        "0 false f no n nein nee nej nei non não nao нет nu nie ne nem hayır hayir ei 否 "
        "faux falso falsch negative neg off none delivered sent fail "
        "failed lost"
    )
)
# What people, or drivers, answered to an offer.
_TAKEN = _set(
    "accepted accept accepts like liked superlike superliked swiperight right rightswipe interested "
    "taken click clicked"
)
_PASSED = _NOT_DONE | _set(
    "declined decline rejected reject refused refuse timeout timedout expired pass passed nope dislike "
    "disliked swipeleft left leftswipe notinterested noresponse noanswer missed unanswered"
)
_OPEN = _set("pending open waiting undecided inprogress processing underreview")


@dataclass(frozen=True)
class OutcomeName:
    """What the name of a column says of outcomes."""

    name: str

    @property
    def snake(self) -> str:
        """Words in lower case joined by "_", of ``isConverted`` and ``Clicked on Ad`` as well; no accents."""
        return _snake(self.name)

    def matches(self, words: re.Pattern[str]) -> bool:
        """True if words are in the name, or in the last step of a path by itself."""
        return any(map(words.search, self._forms))

    @property
    def _forms(self) -> tuple[str, ...]:
        """The words of the name, and those of the last step of a path such as ``result.installed``."""
        name = _WRAPPER.sub("", self.name)
        last = OutcomeName(name.rpartition(".")[2]).snake
        return (self.snake, last) if "." in name and last else (self.snake,)

    @property
    def is_plain(self) -> bool:
        """True if it says nothing but an outcome, as ``is_click`` does; ``click_id`` says more."""
        return any(map(_PLAIN.fullmatch, self._forms)) or bool(
            _FOREIGN.fullmatch(unicodedata.normalize("NFC", self.name.strip().lower()))
        )

    @property
    def has_word(self) -> bool:
        """True if it has a word for an outcome, as ``Clicked on Ad`` does and ``no_click`` does not."""
        return not self.is_inverted and (self.is_plain or self.matches(_ANYWHERE))

    @property
    def has_weak_word(self) -> bool:
        """True if it has a word that is sometimes one for an outcome, such as ``contact_requested``."""
        accented = _DONE_IN_FRENCH.search(unicodedata.normalize("NFC", self.name).lower()) is not None
        return not self.is_inverted and (accented or self.matches(_WEAK))

    @property
    def tells_fact(self) -> bool:
        """True for ``is_active``, ``is_bot`` and other names of what something is, whoever it is shown to."""
        return not self.has_weak_word and any(map(_FACT.fullmatch, self._forms))

    @property
    def is_label(self) -> bool:
        """True for ``label`` and other names of an outcome of any kind."""
        return self.snake in ("label", "labels", "target", "outcome")

    @property
    def is_inverted(self) -> bool:
        """True if it says what nobody wants, such as ``noclick`` or ``dismissed``."""
        return any(map(_INVERTED.fullmatch, self._forms))

    @property
    def is_moment(self) -> bool:
        """True for ``click_time`` and other moments of an outcome."""
        return any(
            _MOMENT.fullmatch(form.replace("_", "")) or _MOMENT_ABROAD.fullmatch(form) for form in self._forms
        )

    @property
    def is_ahead(self) -> bool:
        """True for a moment that is asked for and lies ahead, as ``check_in`` and ``Abflugdatum`` do."""
        return _AHEAD.search(self.snake) is not None and _CAME_TRUE.search(self.snake) is None

    @property
    def counts_shown(self) -> bool:
        """True for ``impressions`` and other counts of how often something was shown."""
        return any(map(_COUNT_OF_SHOWN.fullmatch, self._forms))

    @property
    def tells_events(self) -> bool:
        """True for ``event_type`` and other names of what happened."""
        return self.matches(_OF_EVENTS)


@lru_cache(10_000)
def _snake(name: str) -> str:
    letters = unicodedata.normalize("NFKD", _WRAPPER.sub("", name).replace("ß", "ss"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    plain = plain.translate(PLAIN_LETTERS)
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def positive_of(values: Sequence[object], is_outcome: bool = False) -> object | None:
    """Return the value that means yes where another one means no, or the only one if it means yes.

    Args:
        is_outcome: the values are those of an outcome, so beside yes any other word means no.
    """
    if len(values) == 1:
        return values[0] if _word(values[0]) in _YES | {"x"} else None
    if len(values) != 2:
        return None
    for yes, no in (values, reversed(values)):
        other = is_outcome and _word(no).isalpha() and _word(no) not in _YES
        if _word(yes) in _YES and (_word(no) in _NO or other):
            return yes
    return None


def accepted_of(values: Sequence[object]) -> tuple[object, bool, list[object]] | None:
    """Return the only value that says an offer was taken, and True; or the only one that says not, and False.

    None unless all values say one or the other, as ``like``, ``superlike`` and ``pass`` do, or that nothing
    is known yet; the values that say so come third.
    """
    still_open = [value for value in values if _word(value) in _OPEN]
    taken = [value for value in values if _word(value) in _TAKEN]
    passed = [value for value in values if _word(value) in _PASSED]
    if not taken or not passed or len(taken) + len(passed) + len(still_open) < len(values):
        return None
    if len(taken) == 1:
        return taken[0], True, still_open
    return (passed[0], False, still_open) if len(passed) == 1 else None


def act_of(values: Sequence[object]) -> tuple[object | None, bool]:
    """Return the value that names an act, such as ``click``, and true if the other one says it was shown.

    The act is None unless all other values say that it was shown, or that it was not done.
    """
    acts = [value for value in values if _word(value) in _ACTS]
    rest = {_word(value) for value in values} - _ACTS
    fits = len(acts) == 1 and len(values) == 2 and rest <= _NOT_DONE | _SHOWN
    return (acts[0] if fits else None), bool(acts) and bool(rest & _SHOWN)


def kinds_of_stream(values: Sequence[object]) -> tuple[object, list[object]] | None:
    """Return the value that says an item was shown, and those of acts that may follow, clicks first.

    None unless there are both, as ``impression`` and ``click``, or ``view`` and ``purchase``.
    """
    words = {value: _kind(value) for value in values}
    listed = [value for value in values if words[value] in _SHOWN_IN_LISTS]
    shown = listed or [value for value in values if words[value] in _SHOWN]
    shown = shown or [value for value in values if words[value] in _VIEWS]
    acts = [value for value in values if words[value] in _ACTS | _SELECTED | _FURTHER]
    acts.sort(key=lambda value: (words[value] not in _CLICKS, words[value] not in _ACTS))
    return (shown[0], acts) if shown and acts else None


def _kind(value: object) -> str:
    """Return the word that says what happened: of ``ad_click`` click, of ``add_to_cart`` all letters."""
    whole = _word(value)
    known = _NOT_DONE | _SHOWN | _SHOWN_IN_LISTS | _SELECTED | _ACTS | _FURTHER
    if whole in known or _UNDONE.match(str(value).strip().lower()):
        return whole
    return _word(re.split(r"[\s_.:-]+", str(value).strip())[-1])


def _word(value: object) -> str:
    return re.sub(r"[\s_-]+", "", str(value).lower()).removesuffix(".0")
