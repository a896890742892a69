"""Datasets for which mirdata (https://mirdata.readthedocs.io) has a loader: `--layout mirdata:gtzan_genre`."""

import importlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from featurize.collection.column_roles import USUAL_NAMES
from featurize.collection.layouts.rows import RawRows
from featurize.collection.layouts.source import Source
from featurize.display import one_line
from featurize.errors import FeaturizeError

PREFIX = "mirdata:"
# Attributes besides the usual names; a split comes from the loader.
_ATTRIBUTES = {**USUAL_NAMES, "path": ("audio_path", "mix_path"), "split": (), "fold": ("fold",)}


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the tracks of a dataset whose `data_home` is the source's folder; roles are attributes of its tracks.

    Raises:
        FeaturizeError: mirdata is not installed, has no such loader, or its tracks lack a path or a label.
    """
    name = source.layout.removeprefix(PREFIX)
    dataset = _initialize(name, source)
    try:
        tracks = dataset.load_tracks()
    except Exception as error:
        raise FeaturizeError(
            f"mirdata cannot load {name} from {source.folder}: {one_line(error)} If its index is missing, type: "
            f"python -c \"import mirdata; mirdata.initialize('{name}').download(['index'])\""
        ) from error
    if not tracks:
        raise FeaturizeError(f"mirdata finds no tracks of {name}.")
    attributes = _attributes(next(iter(tracks.values())), given)
    if missing := [role for role in ("path", "label") if role not in attributes]:
        options = ",".join(f"{role}=ATTRIBUTE" for role in missing)
        raise FeaturizeError(
            f"tracks of mirdata's {name} have no attribute that is known to be the {' or the '.join(missing)}; "
            f"they have {', '.join(_public(next(iter(tracks.values()))))}. Name it: --columns {options}"
        )
    columns = {
        role: [_text(getattr(track, attribute)) for track in tracks.values()]
        for role, attribute in attributes.items()
    }
    notes = [f"mirdata's {name}: {', '.join(f'{role}={attribute}' for role, attribute in attributes.items())}."]
    if "split" not in given and (splits := _splits(dataset)):
        columns["split"] = [splits.get(track_id, "") for track_id in tracks]
        notes.append("The split is that of mirdata.")
    rows = RawRows(
        {role: pa.array(values, pa.string()) for role, values in columns.items()},
        pa.array(range(1, len(tracks) + 1), pa.int64()),
        "track",
        tuple(notes),
    )
    kept = [bool(path and label) for path, label in zip(columns["path"], columns["label"], strict=True)]
    if all(kept):
        return rows
    return rows.where(pa.array(kept), f"{kept.count(False)} tracks without audio or label are left out.")


def _initialize(name: str, source: Source) -> Any:
    try:
        mirdata: Any = importlib.import_module("mirdata")
    except ImportError as error:
        raise FeaturizeError(
            f"--layout {source.layout} needs the library mirdata ({error}); type: pip install 'earmark[mirdata]'"
        ) from error
    if not source.folder.local:
        raise FeaturizeError(
            f"mirdata reads folders on this machine only; found {source.folder}. Copy it to a disk."
        )
    known = mirdata.list_datasets()
    if name not in known:
        raise FeaturizeError(f"mirdata has no dataset {name!r}. It has {', '.join(sorted(known))}.")
    return mirdata.initialize(name, data_home=source.folder.path)


def _attributes(track: Any, given: Mapping[str, str]) -> dict[str, str]:
    """Return the attribute of each role; others are not looked at, because some load the audio."""
    attributes = {}
    available = _public(track)
    for role in USUAL_NAMES:
        if role in given:
            names: tuple[str, ...] = (given[role],) if given[role] else ()
            if names and names[0] not in available:
                raise FeaturizeError(
                    f"--columns: tracks have no attribute {names[0]!r}. They have {', '.join(available)}."
                )
        else:
            names = _ATTRIBUTES[role]
        if found := next((name for name in names if name in available), None):
            attributes[role] = found
    return attributes


def _public(track: Any) -> list[str]:
    return [
        name for name in dir(track) if not name.startswith("_") and not callable(getattr(type(track), name, None))
    ]


def _splits(dataset: Any) -> dict[str, str]:
    """Return the split of each track, by its id; empty if the dataset has none."""
    try:
        splits = dataset.get_track_splits()
    except NotImplementedError:  # by which mirdata says that there is none; any other error would lose a split
        return {}
    return {track_id: str(split) for split, track_ids in splits.items() for track_id in track_ids}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return "" if value is None else str(value).strip()
