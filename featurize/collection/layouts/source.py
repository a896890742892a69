"""Where a collection is: its layout and the files that describe it."""

import dataclasses

from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True)
class Source:
    """Files that describe a collection.

    Attributes:
        layout: `folders`, `table` or the name of a published layout.
        folder: Folder that paths are relative to, unless the audio is found elsewhere.
        tables: Files to read; none for folders and for mirdata.
        audio: Folder in which the audio must be; None if it is looked for, in `folder` first.
    """

    layout: str
    folder: StoragePath
    tables: tuple[StoragePath, ...] = ()
    audio: StoragePath | None = None

    @property
    def is_listing(self) -> bool:
        """Whether the folders themselves say everything, so that no file of a stranger is parsed."""
        return not self.tables and ":" not in self.layout
