"""Small collections in folders and tables, and their plans."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from featurize.collection.catalog import build_catalog, stored_path
from featurize.collection.location import locate
from featurize.execution.tag_reading import read_tags
from featurize.planning.groups import add_tags, known_groups, unread_files
from featurize.planning.plan import make_plan
from support.logs import logged


def files_without_group(catalog, groups):
    """The files whose tags must be read."""
    return [file for part in unread_files(catalog, groups, 2000) for file in part.paths]


def plan_of(music, config):
    """The tracks of a collection sorted by id, its classes, and the logged messages."""
    with logged("featurize") as messages:
        catalog = build_catalog(str(music))
        groups = known_groups(catalog, config, None)
        tags = read_tags(files_without_group(catalog, groups), config.group_by)
        plan = make_plan(catalog, config, None, add_tags(catalog, groups, tags))
    tracks = [
        SimpleNamespace(
            **{**row, "label": plan.classes[row["label"]], "id": row["track"]},
            file=locate(plan.root, stored_path(row["track"], row["path"])),
        )
        for row in plan.tracks.sort_by("track").to_pylist()
    ]
    remarks = [text for text in messages if not text.startswith("Table ")]  # which columns it uses
    return SimpleNamespace(tracks=tracks, classes=plan.classes, messages=remarks)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def two_classes(root, per_class=6):
    touch(root, *(f"{label}/{n}.mp3" for label in ("jazz", "punk") for n in range(per_class)))


def write_table(folder, rows, suffix):
    path = folder / f"tracks{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0])] + [",".join('"' + str(v) + '"' for v in row.values()) for row in rows]
        path.write_text("\ufeff" + "\n".join(lines) + "\n")
    return path
