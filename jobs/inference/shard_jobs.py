"""How the missing shards of answers are made: from music or from a dataset, by processes with the model."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

from featurize.audio.filters import Filters
from featurize.dataset.dataset import Dataset
from featurize.dataset_build.inference_features import featurize_batch
from featurize.execution.ray_pipeline import (
    TASKS_AT_LEAST,
    TASKS_PER_CORE,
    RayActors,
    RayPipeline,
    total_resources,
)
from featurize.execution.ray_tasks import on_cluster
from featurize.execution.retries import PlanAttempts, run_with_retries
from featurize.execution.subprocess_task import SubprocessTask
from jobs.inference.answer_plan import FEATURE_BYTES, MusicPlan
from jobs.inference.kept_features import KeptFeatures, featurize_and_keep
from jobs.inference.predictor import ShardPredictor, StoredShard
from train.answers.folder import ShardAnswers

_OBJECT_STORE_LEAST = 128 << 20


@dataclasses.dataclass
class MusicJob:
    """Featurize and predict music.

    Attributes:
        plan: The shards.
        timeout: Time limit per track, in seconds.
        kept: Dataset for the features; None to keep none.
        nodes: Number of nodes that work, for the progress.
    """

    plan: MusicPlan
    timeout: float
    kept: KeptFeatures | None
    nodes: int = 1

    @property
    def tracks(self) -> dict[str, int]:
        """Number of tracks of each shard, rejects included."""
        return self.plan.tracks

    def results(self, missing: list[int], actors: RayActors, workers: int | None) -> Iterator[ShardAnswers | None]:
        """Make the missing shards, in any order; yield None from time to time while none is ready.

        Args:
            missing: Positions of the shards.
            actors: Processes with the model.
            workers: Maximum number of processes that featurize; None for one per core.
        """
        with SubprocessTask[str]() as process:
            process.submit("filters", Filters.from_librosa, self.plan.settings)
            actors.add()
            function: Callable[..., Any] = featurize_and_keep if self.kept else featurize_batch
            pool: RayPipeline[PlanAttempts] = RayPipeline(workers, function, actors)
            arguments = [pool.share(process.result()), *([self.kept.folder] if self.kept else [])]

        def note_nodes() -> None:
            self.nodes = pool.nodes

        plans = (self.plan.shard(position) for position in missing)
        yield from run_with_retries(pool, plans, self.timeout, function, *arguments, on_wait=note_nodes)


@dataclasses.dataclass
class DatasetJob:
    """Predict the shards of a dataset.

    Attributes:
        dataset: The dataset.
        tracks: Number of tracks of each shard of answers, in the order of the shards of the dataset.
        nodes: As in `MusicJob`.
    """

    dataset: Dataset
    tracks: dict[str, int]
    nodes: int = 1

    def results(self, missing: list[int], actors: RayActors, workers: int | None) -> Iterator[ShardAnswers | None]:
        """As in `MusicJob`; nothing is featurized."""
        names, dataset = list(self.tracks), self.dataset
        yield from actors.map(
            (StoredShard(names[i], dataset.shards[i], dataset.classes, dataset.segments_per_track),)
            for i in missing
        )


def model_actors(arguments: tuple[Any, ...], trust_code: bool) -> RayActors:
    """Return the processes with the model: one for each GPU; without GPUs as many as needed, up to one a core.

    They share the cores with the tasks. If each held one, they would hold all that are left when nodes are lost,
    and wait for the data of tasks that wait for a core.
    """
    resources = total_resources()
    gpus = int(resources.get("GPU", 0))
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": 1} if gpus else {"num_cpus": 0}
    if on_cluster():
        from train.cluster.room import HAS_TENSORFLOW

        options |= {"label_selector": HAS_TENSORFLOW, "scheduling_strategy": "SPREAD"}
        if not gpus:
            del options[
                "num_cpus"
            ]  # Ray's default: placed on a node that has a core, so not on the head; holds none
    return RayActors(
        ShardPredictor, (*arguments, bool(gpus), trust_code), options, gpus or int(resources.get("CPU", 1))
    )


def object_store_bytes(workers: int | None) -> int:
    """Return the memory for features that wait, on this machine."""
    tasks = max(TASKS_PER_CORE * (workers or os.cpu_count() or 1), TASKS_AT_LEAST)
    return _OBJECT_STORE_LEAST + tasks * FEATURE_BYTES
