"""Which names can be joined to a folder, and which folders Arrow, Ray and TensorFlow can open."""

from typing import TYPE_CHECKING

from featurize.errors import FeaturizeError

if TYPE_CHECKING:
    from featurize.storage import StoragePath


def is_safe_name(name: str) -> bool:
    """Return whether a relative path, joined to any folder, names a file below that folder.

    Unsafe are absolute paths, URIs, NUL, and the parts `.`, `..` and the empty one, which a bucket's keys may
    have: as a path they name another file.
    """
    return "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


def refuse_undecodable(folder: "StoragePath") -> None:
    """Raise a FeaturizeError if the name of a folder is not UTF-8; files below it may have any name."""
    try:
        folder.path.encode()
    except UnicodeEncodeError as error:
        raise FeaturizeError(
            f"the name {folder} is not UTF-8, as Arrow, Ray and TensorFlow need it. Rename the folder, or give a "
            "folder above it."
        ) from error
