"""Where the music of a dataset was, for those who want to hear a track again: no part of the dataset."""

import json
import os

from featurize.storage import StoragePath

_MUSIC = "music.json"


def write_music(folder: StoragePath, root: StoragePath) -> None:
    """Record where the music of a dataset is: its place and, on the same disk, the way there, should both move."""
    ways = [os.path.relpath(root.path, folder.path)] if root.local and folder.local else []
    content = json.dumps({"roots": [*ways, str(root)]}, indent=2).encode() + b"\n"
    place = folder / _MUSIC
    if not place.is_file() or place.read() != content:
        place.write(content)


def find_music(folder: StoragePath) -> StoragePath | None:
    """Return the first of the recorded places that is there on this machine; a bucket is not asked."""
    try:
        roots = json.loads((folder / _MUSIC).read())["roots"]
    except (OSError, KeyError, TypeError, ValueError):
        return None
    places = (
        StoragePath.of(os.path.normpath(os.path.join(folder.path, root))) for root in roots if "://" not in root
    )
    return next((place for place in places if place.is_folder()), None)
