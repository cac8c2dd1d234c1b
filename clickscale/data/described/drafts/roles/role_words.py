"""Words for users, items, their kinds and quantities, as names of columns have them, in several languages."""

import re
from collections.abc import Iterator
from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    """List the words of a text."""
    return tuple(text.split())


def _ids(nouns: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of ids of things, such as ``id_cliente``, ``Kundennummer`` and ``code_produit``."""
    for before in ("id", "cod", "code", "codigo", "codice", "num", "numero", "nr", "ref"):
        yield from (before + noun for noun in nouns)
    for after in ("id", "nr", "no", "nummer", "code", "codigo", "key", "uuid"):
        yield from (noun + after for noun in nouns)


# Nouns without accents, as `plain_name` writes them: in English, since other languages put the word for an
# id in front, then in Spanish, Portuguese, French, Italian, German, Dutch, Polish, Czech, Turkish,
# Swedish and Danish.
_PEOPLE = words(
    "user customer client member visitor cliente usuario suscriptor visitante lector oyente jugador "
    "comprador pasajero candidato utilizador assinante leitor ouvinte jogador passageiro utilisateur abonne "
    "visiteur lecteur auditeur joueur acheteur passager candidat destinataire utente abbonato visitatore "
    "lettore ascoltatore giocatore acquirente passeggero destinatario kunde kunden nutzer benutzer abonnent "
    "abonnenten besucher leser hoerer spieler kaeufer bewerber empfaenger gebruiker gebruikers klant "
    "klanten abonnee bezoeker lezer luisteraar speler koper uzytkownik uzytkownika klient klienta odbiorcy "
    "uzivatel uzivatele zakaznik kullanici musteri uye ziyaretci anvandare kund bruger kunde"
)
_THINGS = words(
    "item product article movie video song book offer listing job coupon recipe producto articulo anuncio "
    "noticia pelicula cancion libro oferta inmueble empleo cupon receta juego produto artigo filme livro "
    "musica imovel vaga cupom receita jogo produit annonce livre offre chanson bien emploi recette jeu "
    "prodotto articolo annuncio notizia brano offerta immobile lavoro ricetta gioco produkt artikel anzeige "
    "anzeigen beitrag beitrags buch angebot angebots inserat inserats immobilie immobilien stelle stellen "
    "gutschein rezept spiel advertentie nieuws boek nummer aanbieding woning vacature recept spel "
    "ogloszenie ogloszenia produktu artykul artykulu oferty inzerat clanek urun ilan annons"
)
_VAGUE = {"bien", "nummer", "lavoro", "emploi", "job", "song", "book"}  # by themselves, as names of ids

# Names as they are compared: lower case, letters and digits only. The order is the order of preference.
_USERS = (
    *words(
        "user userid uid useridx reviewerid customerid customer customerno memberid member visitorid "
        "visitor clientid client accountid account viewerid readerid buyerid playerid custid personid "
        "personidx msno recipient recipientid subscriberid reader viewer player listener seekerid seeker "
        "passengerid passenger driverid driver leadid householdid travelerid travellerid shopperid studentid "
        "learnerid patientid guestid profile profileid msisdn username"
    ),
    *_ids(_PEOPLE),
    *_PEOPLE,
    *words(
        "emailhash hashedemail emailsha emailmd5 cookie cookieid distinctid anonymousid deviceid "
        "devicetoken ifa idfa gaid aaid anonid anon sessionid session"
    ),
)
_ITEMS = (
    *words(
        "item itemid iid productid product asin parentasin movieid movie filmid videoid video newsid news "
        "articleid article adid ad adgroupid creativeid bannerid sku goodsid goods docid documentid "
        "document contentid songid song trackid track bookid book isbn listingid offerid shopid "
        "restaurantid appid jobid gameid game poiid venueid businessid hotelid propertyid propid animeid "
        "artistid artist recipeid courseid placeid titleid listing episode episodeid coupon couponid recipe "
        "recipeno property offer exposeid creative banner template templateid campaign campaignid"
    ),
    *_ids(_THINGS),
    *(noun for noun in _THINGS if noun not in _VAGUE),
    *words("postid storyid clipid podcastid programid"),
)
# Names of ids that may also be those of a few kinds, such as a player of videos or the format of a banner.
DOUBTFUL = frozenset(
    words(
        "recipient reader viewer player listener seeker passenger driver profile listing episode coupon "
        "recipe property offer creative banner template campaign"
    )
) | (
    frozenset((*_PEOPLE, *_THINGS))
    - frozenset(words("user customer client member visitor item product article movie video song book kunde"))
)
_PERSON = re.compile(
    r"user|customer|member|client|visitor|reader|viewer|buyer|player|subscriber|nutzer|(?<!se)kunde|usuari|"
    r"utilisateur|utilizador|utente|utenti|suscriptor|assinante|abbonat|abonne(?!m)|abonnent|besucher|bezoeker|"
    r"gebruiker|klant|lecteur|leitor|lettor[ei]|bewerber|candidat[oe]s?(_|\b)|passagei?r|visiteur|visitante"
)
_THING = re.compile(
    r"item|product|movie|film|video|article|news|song|track|book|goods|restaurant|asin|sku|"
    r"artikel|produkt|produit|produto|prodott|werbemittel|anzeige|articul|artigo|articol|anuncio|annonce|annunci|"
    r"inserat|advertentie|noticia|notizi[ae]|pelicula|livro|cancion|oferta|offerta|offerte|inmueble|imove[li]|"
    r"immobil|cupon|cupom|coupon|gutschein|vacature|aanbieding"
)

# A class alone, or one of items: the class of energy, of a fare or of a weight is a property like others.
_KINDS = re.compile(
    r"kategor|rubri[ckq]|rubriek|editoria(?!l)|seccion|secao|sezione|(^|_)genere|(^|_)genero|gattung|(^|_)branche(_|$)|"
    r"taxonom|industry|sector$|(^|_)(secteur|settore|setor|sektor|vertical|ressort|sparte|rayon|reparto|abteilung|"
    r"afdeling|tipo|tipologia|soort|tema|thema|theme|sujet|assunto|argomento|materia|berufsfeld|ramo|rubro|"
    r"waren_?gruppe|produkt_?gruppe|produkt_?art)(_|$)|"
    r"categ|cate_|genre|topic|tag(?!e)|department|section|type|(^|(^|_)(item|product|article|goods|asset|object|"
    r"content|merchandise|ad|sub|main|parent|top|job|course|vehicle)_?)class(es|ification)?(_?(name|id))?$"
)

# Names of ids in other scripts: of Chinese, Japanese, Korean and Russian.
_NUMBER = r"[\s_]*(id|no|号|番号|コード|编号|編號|代码|번호|코드|아이디|номер|ид)?$"
_FOREIGN_PERSON = re.compile(
    r"^(用户|用戶|会员|會員|会員|ユーザー?|顧客|客户|회원|사용자|고객|유저|(id|ид)?[\s_]*(пользовател[ья]|клиент|клиента))"
    + _NUMBER
)
_FOREIGN_THING = re.compile(
    r"^(商品|物品|产品|產品|アイテム|記事|文章|广告|廣告|広告|상품|아이템|(id|ид)?[\s_]*(товара?|объявлени[ея]|стать[ия]))"
    + _NUMBER
)


class _Words(NamedTuple):
    """Names of ids in order of preference, words inside of others, and names in other scripts."""

    names: tuple[str, ...]
    inside: re.Pattern[str]
    foreign: re.Pattern[str] = re.compile(r"(?!)")


WORDS = {
    "user": _Words(_USERS, _PERSON, _FOREIGN_PERSON),
    "item": _Words(_ITEMS, _THING, _FOREIGN_THING),
    "kind": _Words((), _KINDS),
}

# Inside of names of measured quantities, as `OutcomeName.snake` writes them.
QUANTITIES = re.compile(
    r"price|(?<!ac)(?<!dis)count(?!r|y)|discount$|cnt|num(?!ber)|number_of|amount|amt|duration|length|(^|_)len_|"
    r"len(_|$)|^age(?!n)|_age$|avg|(^|_)mean(_|$)|(?<!check)sums?(_|$)|total|(?<!holi)(?<!week)days|score|"
    r"(?<!po)(?<!pa)rates?(_|$)|ratio(?!n)|size|distance|width|height|quantity|qty|(?<!f)rank|ms$|"
    r"secs?(_|$)|seconds(_|$)|views|clicks|followers|fans|likes|percent|(^|_)pct(_|$)|salary|income|population|density|"
    r"capacity|employees|revenue|budget|time$|(^|(?<!offset)_)(minutes|hours|weeks|months|years)(_|$)|"
    r"(^|_)(weight|costs?|fees?|cents|micros|rent|stock|inventory|sq_?ft|sq_?m|m2|qm|km)(_|$)|birth_?year|"
    r"year_of_birth|(^|_)yob(_|$)|(^|_)time_(since|until|to|delay|between)(_|$)|seconds_since|runtime|"
    r"(^|_)(elapsed|delay|lag)$|(^|_)n_[a-z]+s$|booking_window|lead_time|"
    r"(^|_)(past|previous|prior)_(orders|purchases|visits|sessions|bookings|stays|trips)(_|$)|"
    # in other languages
    r"preis(?!klass|niv)|(^|_)(prix|precio|preco|prezzo|prijs)(_|$)|(^|_)(alter|edad|idade|leeftijd|eta)(_|$)|"
    r"geburts_?jahr|geboorte_?jaar|fod(t_|sels?_?|else_?)aa?r|annee_(de_)?naissance|ano_(de_)?(nacimiento|nascimento)|anno_(di_)?nascita|"
    r"(^|_)(anzahl|anz|menge|antall?|nombre_de|cantidad|quantidade|quantita|quantite|aantal)(_|$)|dauer(_|$)|"
    r"(^|_)(duree|duracion|duracao|durata|duur)(_|$)|entfernung|(^|_)(distancia|distanza|afstand|gewicht|poids)(_|$)|"
    r"(^|_)(betrag|montant|importe)(_|$)|gehalt(_|$)|(^|_)(salaire|salario|stipendio|loyer|kaltmiete|warmmiete)(_|$)"
)
# What such a name ends with if it tells a kind of them: a size_code is no size, an operation_mode no number.
CODES = re.compile(
    r"(^|_)(id|ids|code|type|class|category|kind|status|source|mode|method|strategy|plan|key)$"
)
YEARS = re.compile(r"(^|_)(year|yr|jahr|baujahr|annee|anno|jaar)(_|$)|(^|_)ano$")
HASHED = re.compile(r"(md5|sha\d*|hash(ed)?)$")  # a cookie_md5 names what a cookie does
