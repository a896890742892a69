"""Root folder of the music, so that reports can link to tracks. Not part of the dataset's fingerprint."""

import json
import os

from featurize.storage import StoragePath

_MUSIC = "music.json"


def write_music(folder: StoragePath, root: StoragePath) -> None:
    """Record the root folder of the music in `music.json`.

    For local folders, a path relative to the dataset comes first: it stays valid if both are moved together.
    """
    relative = [os.path.relpath(root.path, folder.path)] if root.local and folder.local else []
    content = json.dumps({"roots": [*relative, str(root)]}, indent=2).encode() + b"\n"
    path = folder / _MUSIC
    if not path.is_file() or path.read() != content:
        path.write(content)


def find_music(folder: StoragePath) -> StoragePath | None:
    """Return the first recorded root folder that exists on this machine; remote roots are ignored."""
    try:
        roots = json.loads((folder / _MUSIC).read())["roots"]
    except (OSError, KeyError, TypeError, ValueError):
        return None
    folders = (
        StoragePath.of(os.path.normpath(os.path.join(folder.path, root))) for root in roots if "://" not in root
    )
    return next((candidate for candidate in folders if candidate.is_folder()), None)
