"""Footers of Parquet files for which pyarrow ends the process are an error when a dataset is opened."""

import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import earmark

HOSTILE_FOOTERS = """
import sys
from pathlib import Path
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.tables import read_table
from featurize.storage import StoragePath

path = Path(sys.argv[1])
content = path.read_bytes()
begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
for position in range(begin, len(content) - 8):
    if content[position] == 2:
        path.write_bytes(content[:position] + bytes(1) + content[position + 1 :])
        try:
            read_table(StoragePath.of(path))
        except UNREADABLE as error:
            print(position, " ".join(str(error).split()))
"""
TABLE = pa.table({"shard": ["a", None, "b"], "fold": [1, 2, None]})
HISTOGRAM = "Definition level histogram size mismatch"


COPIED = """
import sys
from pathlib import Path
from featurize.dataset.reader import Shard
from featurize.dataset.row_group_cache import RowGroupCache
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset.schema import SegmentFormat
from featurize.errors import DatasetError
from featurize.storage import StoragePath

path = StoragePath.of(sys.argv[1])
size, form = path.local.stat().st_size, SegmentFormat("mfcc", (40, 217))
shard = Shard("table.parquet", path, 0, (3,), size=size, format=form)
reader = RowGroupReader(RowGroupCache(Path(sys.argv[2]), 1 << 30, path.parent))
try:
    list(reader.read([(shard, 0)]))
except DatasetError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> bytes:
    """A Parquet file with a column that holds nulls according to its statistics, and none according to its schema.

    One of the bytes 2 in the footer says that the column is optional; 0 is required.
    """
    path = tmp_path_factory.mktemp("hostile") / "table.parquet"
    pq.write_table(TABLE, path)
    content = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE_FOOTERS, path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    [position, *_] = [int(line.split()[0]) for line in done.stdout.splitlines() if HISTOGRAM in line]
    return content[:position] + bytes(1) + content[position + 1 :]


@pytest.mark.parametrize("name", ["tracks.parquet", "shard"])
def test_verify_ends_with_a_sentence(name, hostile, features, tmp_path):
    folder = shutil.copytree(features, tmp_path / "features")
    path = folder / name if name != "shard" else min((folder / "shards").rglob("*.parquet"))
    path.write_bytes(hostile)
    done = earmark("verify", folder)
    assert done.returncode == 1
    assert path.name in done.stderr
    assert "earmark featurize MUSIC --out" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shard_whose_rows_are_kept_on_this_machine_ends_with_a_sentence(hostile, tmp_path):
    (tmp_path / "table.parquet").write_bytes(hostile)
    command = [sys.executable, "-c", COPIED, tmp_path / "table.parquet", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"the shard {tmp_path / 'table.parquet'} cannot be read")
