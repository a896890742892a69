"""The plan of a dataset after its small shards are merged, made without the collection."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.column_file import one_array
from featurize.dataset.feature_settings import FeatureSettings
from featurize.planning.arrangement import Numbers, arrange, id_digests
from featurize.planning.plan import Plan
from featurize.planning.previous_plan import PreviousPlan, previous_places
from featurize.planning.small_shards import merge_small_shards
from featurize.storage import StoragePath


def compact_plan(
    previous: PreviousPlan, settings: FeatureSettings, tracks_per_shard: int | Literal["auto"], root: StoragePath
) -> Plan:
    """Return a stored plan with its small shards merged (`merge_small_shards`), and nothing else changed.

    `make_plan` returns the same plan when the collection has not changed.

    Args:
        previous: The stored plan.
        settings: Its feature settings.
        tracks_per_shard: The setting.
        root: `Plan.root`; any folder, because the rows of all tracks are copied and none of their files is opened.
    """
    ids, groups, labels = (one_array(previous.tracks[name]) for name in ("track", "group", "label"))
    sizes = one_array(previous.tracks["size"]).to_numpy()
    folds, stored = previous_places(previous)
    indices = merge_small_shards(folds, stored, sizes, tracks_per_shard)
    order = np.lexsort((id_digests(ids), indices, folds))
    class_index = pc.index_in(labels, value_set=pa.array(previous.classes, pa.string())).to_numpy()
    numbers = Numbers.of(order, folds, indices, class_index, sizes)
    arranged = arrange(order, ids, pa.nulls(len(ids), pa.binary()), groups, numbers, previous.classes, settings)
    return Plan(root, settings, previous.classes, previous.grouping, *arranged, previous.layout, (), frozenset())
