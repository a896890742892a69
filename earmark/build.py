"""Make datasets and models."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earmark.dataset import Dataset
from earmark.model import Model
from earmark.progress import CallbackReporter, OnEpoch, OnStep, OnTracks
from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.pipeline import evaluate_model, make_features, make_model

if TYPE_CHECKING:
    from featurize.config import FeaturizeConfig
    from train.config import TrainConfig

Place = str | os.PathLike[str]


def featurize(
    music: Place,
    out: Place,
    config: "FeaturizeConfig | Mapping[str, Any] | None" = None,
    *,
    workers: int | None = None,
    retry_rejects: bool = False,
    allowed_buckets: Sequence[str] = (),
    layout: str | None = None,
    columns: str | None = None,
    on_tracks: OnTracks | None = None,
) -> Dataset:
    """Convert a collection of music to a dataset; shards that exist are kept, as with `earmark featurize`.

    Args:
        music: Folder of class folders, table of tracks, or published dataset; a path or a URI.
        out: Folder of the dataset; a path or a URI.
        config: Settings, the section `featurize` of a config, or a mapping of those that are not the default.
        workers: Number of processes that featurize at a time; None for one per core.
        retry_rejects: Whether to read tracks again that were rejected before.
        allowed_buckets: Names of buckets, besides its own, that a table may name files in.
        layout: Layout of the collection, as `--layout`; None to recognize it.
        columns: Columns of a table by role, as `--columns`.
        on_tracks: Called with (tracks done, all tracks).

    Returns:
        The complete dataset.

    Raises:
        FeaturizeError: The collection cannot be used, or too many tracks were rejected.
        pydantic.ValidationError: A setting is unknown or out of range.
    """
    settings = JobConfig.model_validate({"featurize": _plain(config)})
    make_features(
        os.fspath(music),
        StoragePath.of(out),
        settings,
        workers,
        CallbackReporter(on_tracks=on_tracks),
        retry_rejects,
        allowed_buckets,
        layout,
        columns,
    )
    return Dataset(out)


def train(
    features: Place,
    out: Place,
    config: "TrainConfig | Mapping[str, Any] | None" = None,
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a model on a dataset and evaluate it, as `earmark train` does; a run that was interrupted resumes.

    Args:
        features: Folder of the dataset; a path or a URI.
        out: Folder of the run; a path or a URI.
        config: Settings, the section `train` of a config, or a mapping of those that are not the default.
        on_step: Called with (training steps done, all steps).
        on_epoch: Called with the record of each epoch, and the number of epochs.

    Returns:
        The trained model; its `metrics` are those of the test fold.

    Raises:
        DatasetError: The dataset is incomplete.
        TrainError: The dataset cannot be trained on, or `out` holds a run with other settings.
        pydantic.ValidationError: A setting is unknown or out of range.
    """
    settings = JobConfig.model_validate({"train": _plain(config)})
    place, folder = StoragePath.of(features), StoragePath.of(out)
    make_model(place, folder, settings, CallbackReporter(on_step=on_step, on_epoch=on_epoch))
    evaluate_model(folder, place, trust_code=settings.train.is_users_model)
    return Model(out, trust_code=settings.train.is_users_model)


def _plain(config: Any) -> dict[str, Any]:
    """Return settings as a mapping of those that were given."""
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else config.model_dump(exclude_unset=True)
