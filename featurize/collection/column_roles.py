"""What the columns of a table are for: path, label, group, split and fold, by usual names or by `--columns`."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from featurize.collection.table_limits import TableError
from featurize.display import one_line
from featurize.errors import FeaturizeError

# Usual names of the columns of each role, in lowercase with "_" for blanks, dots and hyphens; the first one wins.
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "audio_path", "audio_file", "audio"),
        *("audio_filename", "audiofile", "audio_filepath", "mp3_path", "wav_path", "mp3", "wav", "fname"),
        *("relative_path", "rel_path", "full_path", "song_path", "track_path", "location", "uri", "track"),
    ),
    "label": (
        *("label", "genre", "class", "genre_top", "track_genre_top", "style", "genre_name", "class_name"),
        *("label_name", "genre_label", "music_genre", "main_genre", "top_genre", "track_genre", "category"),
        *("labels", "genres", "target"),
    ),
    "group": (
        *("group", "artist", "artist_id", "artist_name", "artists", "performer", "track_artist", "group_id"),
        *("band", "composer", "album", "album_id", "album_name", "album_title"),
    ),
    "split": (
        "split",
        "subset",
        "set",
        "partition",
        "set_split",
        "set_subset",
        "data_split",
        "split_name",
        "usage",
    ),
    "fold": ("fold", "folds", "fold_id", "cv_fold", "kfold", "k_fold", "fold_number", "fold_index", "fold_idx"),
}
ROLES = tuple(USUAL_NAMES)
# Roles whose columns are recognized by their values as well: FMA's `set.subset` is small, medium or large.
BY_VALUE = ("split", "fold")
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # byte order marks, and what is copied from web pages
_NAMES_SHOWN, _CHARACTERS_SHOWN = 20, 80


@dataclasses.dataclass(frozen=True)
class RoleColumns:
    """Columns of a table by role.

    Attributes:
        candidates: Indices of the columns for each role, best first; no entry for a role without any.
        given: Roles whose column was named by `--columns`.
    """

    candidates: Mapping[str, tuple[int, ...]]
    given: frozenset[str]


def parse_columns(text: str | None) -> dict[str, str]:
    """Parse the value of `--columns`, such as `path=file_name,label=genre`; an empty name leaves a role out.

    Raises:
        FeaturizeError: It names no role, an unknown role, or a role twice.
    """
    columns: dict[str, str] = {}
    for part in (text or "").split(",") if text is not None else []:
        role, equals, name = (word.strip() for word in part.partition("="))
        if not equals or role not in ROLES or role in columns:
            problem = "is there twice" if role in columns else "is no role" if equals else "is not ROLE=COLUMN"
            raise FeaturizeError(
                f"--columns {one_line(text)}: {one_line(role if equals else part)!r} {problem}. Expected "
                f"one or more of {', '.join(ROLES)}, such as --columns path=file_name,label=genre"
            )
        columns[role] = name
    return columns


def find_roles(names: Sequence[str], given: Mapping[str, str], without_text: Collection[str] = ()) -> RoleColumns:
    """Return which columns are for which role.

    Args:
        names: Names of the columns of a table.
        given: Names of columns by role, from `parse_columns`; they need not be spelled as in the table.
        without_text: Names of columns of lists, objects or bytes, which are only chosen if there is no other one.

    Raises:
        FeaturizeError: A given column does not exist, or is there more than once.
        TableError: A role's column is there more than once.
    """
    candidates: dict[str, tuple[int, ...]] = {}
    taken: set[int] = set()
    problems = []
    for role, name in given.items():
        if not name:
            continue
        exact = [i for i, found in enumerate(names) if found == name]
        found = exact or [i for i, found in enumerate(names) if _key(found) == _key(name)]
        if len(found) != 1:
            count = "more than once" if found else "not"
            problems.append(
                f"the column {one_line(name)[:_CHARACTERS_SHOWN]!r} for {role} is {count} in the table"
            )
            continue
        candidates[role] = (found[0],)
        taken.add(found[0])
    if problems:
        raise FeaturizeError(f"--columns: {'; '.join(problems)}. It has {shown_names(names)}.")
    keys = [_key(name) for name in names]
    for role in ROLES:
        if role in given:
            continue
        usual = [i for name in USUAL_NAMES[role] for i, key in enumerate(keys) if key == name and i not in taken]
        if usual and keys.count(keys[usual[0]]) > 1:
            raise TableError(
                f"it has the column {one_line(names[usual[0]])} more than once. Remove or rename the other one, "
                f"or name another column for {role}: --columns {role}=NAME"
            )
        if usual:
            candidates[role] = tuple(sorted(usual, key=lambda i: names[i] in without_text))
    return RoleColumns(candidates, frozenset(given))


def roles_in(names: Sequence[str]) -> int:
    """Return for how many roles there is a column with a usual name."""
    keys = {_key(name) for name in names}
    return sum(bool(keys & set(usual)) for usual in USUAL_NAMES.values())


def describe_choice(names: Sequence[str], chosen: Mapping[str, int], found: RoleColumns) -> str:
    """Return one line on which columns are used, such as `path=file_name, label=genre; not used: title, year`."""
    parts = []
    for role in ROLES:
        if role in chosen:
            others = [i for i in found.candidates.get(role, ()) if i not in chosen.values()]
            rather = f" (rather than {', '.join(_shown(names[i]) for i in others)})" if others else ""
            parts.append(f"{role}={_shown(names[chosen[role]])}{rather}")
    unused = [name for i, name in enumerate(names) if i not in chosen.values()]
    return f"{', '.join(parts)}; not used: {shown_names(unused)}"


def shown_names(names: Sequence[str]) -> str:
    """Return the first names of columns as a message shows them."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return (", ".join(_listed(names[:_NAMES_SHOWN])) or "none") + more


def _listed(names: Sequence[str]) -> Iterator[str]:
    return (_shown(name) for name in names)


def _shown(name: str) -> str:
    return one_line(name)[:_CHARACTERS_SHOWN] or "(no name)"


def _key(name: str) -> str:
    return re.sub(r"[\s.\-]+", "_", name.strip(_INVISIBLE).strip().casefold())
