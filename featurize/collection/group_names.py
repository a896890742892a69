"""Names of artists, albums and groups: which two are the same, and which stand for no name at all."""

import functools
import unicodedata

# What taggers and people write if they know no artist or album, and for compilations, separated by semicolons.
# Only what is hardly the name of an artist: "Divers" and "Sampler" are not here.
_NOTHING = "-; ?; unknown; none; null; nil; nan; na; n/a; not available; undefined"
_NO_ARTIST = f"""
    {_NOTHING};
    unknown artist; unknown artists; artist unknown; no artist; artist; anonymous; traditional;
    various; various artist; various artists; various performers; multiple artists; va; v/a;
    verschiedene; verschiedene interpreten; verschiedene künstler; diverse; diverse interpreten; diverse künstler;
    unbekannt; unbekannter interpret; unbekannter künstler; kein interpret;
    artistes divers; artistes variés; divers artistes; multi-interprètes; artiste inconnu;
    varios artistas; varios intérpretes; artistas varios; artista desconocido; desconocido;
    vários artistas; vários intérpretes; artista desconhecido; desconhecido;
    artisti vari; autori vari; vari artisti; aavv; artista sconosciuto; sconosciuto;
    diverse artiesten; verschillende artiesten; onbekende artiest; onbekend;
    diverse artister; blandade artister; blandede artister; okänd artist; ukjent artist; ukendt kunstner;
    eri esittäjiä; tuntematon esittäjä; tuntematon artisti;
    różni wykonawcy; nieznany wykonawca; wykonawca nieznany; různí interpreti; neznámý interpret;
    különböző előadók; ismeretlen előadó; çeşitli sanatç\u0131lar; bilinmeyen sanatç\u0131;
    разные исполнители; различные исполнители; неизвестный исполнитель; різні виконавці; невідомий виконавець;
    διάφοροι καλλιτέχνες; άγνωστος καλλιτέχνης; אמנים שונים; فنانون متنوعون;
    群星; 合輯; 合辑; 未知艺术家; 未知藝術家; 未知歌手; 未知; 不明なアーティスト; 不明;
    ヴァリアス・アーティスト; ヴァリアスアーティスト; 여러 아티스트; 알 수 없는 아티스트
"""
_NO_ALBUM = f"""
    {_NOTHING};
    unknown album; no album; album; unbekanntes album; album inconnu; álbum desconocido; album sconosciuto;
    onbekend album; okänt album; ukjent album; ukendt album; nieznany album; неизвестный альбом;
    未知专辑; 未知專輯; 不明なアルバム; 알 수 없는 앨범
"""
_BRACKETS = str.maketrans("", "", "<>[](){}.\"'*")


@functools.cache
def _names(listed: str) -> frozenset[str]:
    return frozenset(comparable(name) for name in listed.split(";")) | {""}


def comparable(name: str) -> str:
    """Return a name in the form in which groups are compared: casefolded, NFC, and with single spaces."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(folded.split())


def names_nothing(name: str, tag: str) -> bool:
    """Return whether a name stands for no artist or several ones, or for no album, such as "Various Artists".

    Args:
        name: The name, as `comparable` returns it.
        tag: `album`; anything else means artists.
    """
    bare = " ".join(name.translate(_BRACKETS).split()).replace(" / ", "/")
    return bare in _names(_NO_ALBUM if tag == "album" else _NO_ARTIST)
