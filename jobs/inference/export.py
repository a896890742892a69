"""A trained model written for other programs, and what they need to be told about it."""

import importlib.util
import tempfile
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset.info import FeatureSettings, read_info
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from jobs.terminal.native_output import quiet_libraries, quiet_tensorflow
from train.errors import TrainError
from train.export.formats import ExportFormat
from train.run import Run

if TYPE_CHECKING:
    from train.export.export import FeaturizerReference

_LEAST_SECONDS = 12.0  # of the composed track


def export_model(run: StoragePath, features: StoragePath | None, form: ExportFormat, out: str) -> str:
    """Export the model of a run, and say in a few lines where it lies and how far it is from the model.

    Args:
        run: the run's folder.
        features: where the dataset is now; None for where it was when the model was trained.
        form: the format.
        out: where the export goes, on this machine.

    Raises:
        TrainError: packages are missing, the name is taken or does not fit, there is no model, the dataset is
            gone or another one, or the export differs from the model.
        FeaturizeError: the dataset is not whole, or the model's features are not those of this Earmark.
    """
    _refuse_missing_packages(form)
    path, trained = _free_path(out, form.suffix), Run(run)
    features_of_model = trained.trained().features
    dataset = _open_dataset(trained, features)
    with quiet_tensorflow():
        import tensorflow as tf

        from train.export.export import export

    hearing = _hear(features_of_model) if form == ExportFormat.savedmodel else None
    # A GPU rounds as none of the other runtimes does.
    tf.config.set_visible_devices([], "GPU")
    with quiet_libraries(TrainError, FeaturizeError, OSError):
        checked = export(trained, dataset, form, path, hearing)
    size = sum(length for _, length in StoragePath.of(path).files()) if path.is_dir() else path.stat().st_size
    lines = [f"exported  {path} ({form}, {size / 1e6:.1f} MB)"]
    for check in checked:
        differences = ", ".join(map(str, check.differences))
        lines.append(f"checked   {check.on}: largest difference {differences}")
    return "\n".join(lines)


def _refuse_missing_packages(form: ExportFormat) -> None:
    missing = [name for name in form.packages if not importlib.util.find_spec(name)]
    if missing:
        raise TrainError(
            f"an export as {form} needs {' and '.join(missing)}, which Python does not find. "
            "Type: pip install 'earmark[export]'"
        )


def _free_path(out: str, suffix: str) -> Path:
    """Return where an export goes, or raise a TrainError if it cannot go there."""
    path = Path(out).absolute()
    if "://" in out:
        raise TrainError(f"--out {out}: expected a path on this machine. Export there, and copy it.")
    if suffix and path.suffix != suffix:
        raise TrainError(f"--out {out}: expected a name that ends in {suffix}, as programs look for it.")
    if path.exists():
        raise TrainError(f"--out {out}: something is there already. Remove it, or give another name.")
    return path


def _open_dataset(run: Run, features: StoragePath | None) -> Dataset:
    """Open the dataset that an export is checked on."""
    folder = features or run.features()
    if not features and read_info(folder) is None:
        raise TrainError(
            f"the dataset that {run.folder} was trained on is no longer at {folder}; an export is checked on its "
            "rows. Name where it is: --features FEATURES"
        )
    return open_dataset(folder)


def _hear(features: Mapping[str, Any]) -> "FeaturizerReference":
    """Have the featurizer turn a composed track into MFCC by the settings of a model.

    Raises:
        FeaturizeError: the model's features are not those of this Earmark.
    """
    from featurize.audio.load import LOUDEST_PEAK, SILENT_PEAK
    from featurize.audio.mfcc import AMIN, Filters
    from featurize.dataset_build.inference_features import supported_settings
    from featurize.dataset_build.worker import featurize_track
    from train.export.export import FeaturizerReference
    from train.export.tf_mfcc import MfccConstants

    settings = supported_settings(features)
    filters = Filters.from_librosa()
    mel = np.asarray(filters.mel.toarray(), np.float32)
    constants = MfccConstants(filters.window, mel, AMIN, (SILENT_PEAK, LOUDEST_PEAK))
    track = _composed_track(settings)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "track.wav")
        with wave.open(str(file), "wb") as writer:
            writer.setparams((1, 2, settings.sample_rate, len(track), "NONE", ""))
            writer.writeframes(track.astype("<i2").tobytes())
        mfcc, starts = featurize_track(StoragePath.of(file), settings, filters)
    return FeaturizerReference(constants, (track / 32768).astype(np.float32), mfcc, starts)


def _composed_track(settings: FeatureSettings) -> NDArray[np.int16]:
    """Compose a track that dies away, so that some segments are loud and others quiet, int16 [n].

    It is longer than the excerpt that the settings ask for, if they ask for one.
    """
    from jobs.demo.synthesis import STYLES, Habits, compose

    rng = np.random.default_rng(0)
    excerpt = settings.excerpt_seconds
    seconds = min(_LEAST_SECONDS, settings.max_seconds) if excerpt is None else excerpt + 2
    # Composed at twice the rate; what is folded over by leaving out every second sample is sound as well.
    piece = compose(STYLES["reeds"], Habits.draw(rng), _LEAST_SECONDS, rng)[::2, 0]
    loud = np.resize(piece, int(seconds * settings.sample_rate)) / np.abs(piece).max()
    track: NDArray[np.int16] = (32767 * loud * np.geomspace(1, 1e-3, len(loud))).astype(np.int16)
    return track
