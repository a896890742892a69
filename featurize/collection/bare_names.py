"""Find the files of a table that has names of files only, wherever they are below a folder: `blues.00000.wav`."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from featurize.collection.found_paths import FolderTree, Names

_MOST_FOLDERS = 10_000


def find_bare_names(tree: FolderTree, names: Iterable[str]) -> dict[int, str]:
    """Return the files that have some names, up to spelling, in any subfolder.

    Args:
        tree: Folder with the files.
        names: Names of files, without folders; nothing is found if one has a folder.

    Returns:
        Paths below the folder by index in `names`: of each name that only one file has, and no file twice.
    """
    wanted = list(names)
    if any("/" in name or "\\" in name for name in wanted):
        return {}
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for path in tree.files(_MOST_FOLDERS):
        paths[path.rpartition("/")[2]].append(path)
    spellings = Names([name for name, same in paths.items() for _ in same], [])
    found = {
        index: paths[match][0]
        for index, name in enumerate(wanted)
        if (match := spellings.match(name, is_file=True)) and len(paths[match]) == 1
    }
    uses = Counter(found.values())
    return {index: path for index, path in found.items() if uses[path] == 1}
