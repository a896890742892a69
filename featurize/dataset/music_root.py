"""Root folder of the music, so that reports can link to tracks. Not part of the dataset's fingerprint."""

import json
import os

from pydantic import ValidationError

from featurize.dataset.json_text import read_json
from featurize.dataset.stored_model import StoredModel
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

_MUSIC = "music.json"
_LARGEST = 1 << 20  # bytes


class MusicRoots(StoredModel):
    """Content of `music.json`: root folders of the music, the first one relative to the dataset if possible."""

    roots: list[str]


def write_music(folder: StoragePath, root: StoragePath) -> None:
    """Record the root folder of the music in `music.json`.

    For local folders, a path relative to the dataset comes first: it stays valid if both are moved together. A
    path into the home folder from outside of it would name the user, so it is left out.
    """
    absolute = root.stored
    relative = [os.path.relpath(root.path, folder.path)] if root.local and folder.local else []
    if absolute.startswith("~") and not folder.stored.startswith("~"):
        relative = []
    content = json.dumps({"roots": [*relative, absolute]}, indent=2).encode() + b"\n"
    path = folder / _MUSIC
    if not path.is_file() or path.read() != content:
        path.write(content)


def find_music(folder: StoragePath) -> StoragePath | None:
    """Return the first recorded root folder that exists on this machine; remote roots are ignored.

    The file only adds links to a report, so one that is missing or broken is as good as none.
    """
    try:
        roots = MusicRoots.model_validate(read_json(folder / _MUSIC, _LARGEST)).roots
        local = [root for root in roots if "://" not in root]
        folders = [
            StoragePath.of(os.path.normpath(os.path.join(folder.path, os.path.expanduser(root)))) for root in local
        ]
        return next((candidate for candidate in folders if candidate.is_folder()), None)
    except (FeaturizeError, OSError, ValidationError, ValueError):
        return None
