"""The place of a run's folder: its name, the runs around it and inside of it, and the way to its dataset."""

import re
from collections.abc import Iterable

from featurize.storage import StoragePath

# A run inside of others is named after them, too: RUNS/seed=1/fold=0, RUNS/trial=3, RUN/members/0.
_NAME = re.compile(r"[^/]+(/(fold|seed|trial)=\d+|/members/\d+)*\Z")
MEMBERS = "members"  # folder of the runs of an ensemble's members
_MEMBER = re.compile(r"0|[1-9][0-9]*")
TO_ENSEMBLE = "../../"  # from the folder of a member
_NAMES_SHOWN = 3
# What a folder of runs holds, by the word before = in their names.
RUNS_INSIDE = {"fold": "the folds of a cross-validation", "trial": "the trials of a search"}


def run_name(folder: StoragePath) -> str:
    """Return the name of a run's folder, with those around it for a fold, a seed, a trial, or a member."""
    path = str(folder.local.resolve()) if folder.local else folder.path
    found = _NAME.search(path.rstrip("/"))
    return found[0] if found else ""


def ensemble_of(folder: StoragePath) -> StoragePath | None:
    """Return the folder of the ensemble that a run is a member of; None if it is not one."""
    outer = folder.parent.parent
    is_member = folder.parent.name == MEMBERS and _MEMBER.fullmatch(folder.name)
    return outer if is_member and (outer / "run.json").is_file() else None


def runs_inside(folder: StoragePath, kinds: Iterable[str] = RUNS_INSIDE) -> str:
    """Describe the runs of a cross-validation or a search that have begun in a folder; empty without any.

    Args:
        folder: The folder.
        kinds: Keys of `RUNS_INSIDE`.
    """
    for kind in kinds:
        found = [name for name in folder.names() if re.fullmatch(rf"{kind}=\d+", name)]
        names = sorted(found, key=lambda name: int(name.partition("=")[2]))
        if any((folder / name / "run.json").is_file() for name in names):
            shown = ", ".join(str(folder / name) for name in names[:_NAMES_SHOWN])
            more = ", ..." if len(names) > _NAMES_SHOWN else ""
            return f"{RUNS_INSIDE[kind]}, each of them a run: {shown}{more}"
    return ""


def relative_features(folder: StoragePath, features: StoragePath) -> str:
    """Return the dataset folder, relative to the folder of a run if inside it, so that both can move together.

    That of a member is also relative if it is inside the folder of the ensemble.
    """
    below = _path_below(folder, features)
    if below is not None:
        return f"./{below}" if below.startswith("~") else below
    ensemble = ensemble_of(folder)
    below = _path_below(ensemble, features) if ensemble else None
    if below not in (None, "."):
        return f"{TO_ENSEMBLE}{below}"
    if features.local and folder.local:
        return StoragePath.of(features.local.resolve()).stored
    return features.stored


def _path_below(folder: StoragePath, path: StoragePath) -> str | None:
    """Return a path relative to a folder that it is inside, `.` for the folder itself; None if it is elsewhere."""
    if folder.local and path.local:
        inner, outer = path.local.resolve(), folder.local.resolve()
        return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else None
    inside = path.scheme == folder.scheme and path.path.startswith(f"{folder.path}/")
    return path.path.removeprefix(f"{folder.path}/") if inside else None
