"""The command `earmark export`: check arguments, featurize a reference track, write and compare the export."""

import importlib.util
import tempfile
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.io_errors import naming
from featurize.place_uri import is_uri
from featurize.storage import StoragePath
from featurize.uri import uri_without_secrets
from jobs.moved_dataset import open_dataset_of
from jobs.terminal.native_output import quiet_libraries, quiet_tensorflow
from train.errors import TrainError
from train.export.formats import ExportFormat
from train.run import Run

if TYPE_CHECKING:
    from train.export.comparison import FeaturizerReference

_MIN_SECONDS = 12.0  # length of the synthetic track


def export_model(
    run: StoragePath, features: StoragePath | None, form: ExportFormat, out: str, trust_code: bool = False
) -> str:
    """Export the model of a run.

    Args:
        run: Run folder.
        features: Dataset folder; None for the folder recorded in the run.
        form: Export format.
        out: Output path on this machine.
        trust_code: Whether code in the run may be executed, as in `train.evaluation.inference.load_model`.

    Returns:
        Lines for the terminal: the output path and size, and the differences between the export and the model.

    Raises:
        TrainError: Packages are missing, the output path exists or has the wrong suffix, the run has no model, the
            dataset is missing or another one, or the export differs from the model.
        FeaturizeError: The dataset is incomplete, or the model's features are not those of this Earmark.
    """
    _refuse_missing_packages(form)
    path, trained = _free_path(out, form.suffix), Run(run)
    features_of_model = trained.trained().features
    dataset = open_dataset_of(trained, features)
    with quiet_tensorflow():
        import tensorflow as tf

        from train.export.export import export

    reference = _featurizer_reference(features_of_model) if form == ExportFormat.savedmodel else None
    # The other runtimes compute on the CPU; a GPU rounds differently.
    tf.config.set_visible_devices([], "GPU")
    with quiet_libraries(TrainError, FeaturizeError, OSError):
        checked = export(trained, dataset, form, path, reference, trust_code)
    size = sum(length for _, length in StoragePath.of(path).files()) if path.is_dir() else path.stat().st_size
    lines = [f"exported  {one_line(path)} ({form}, {size / 1e6:.1f} MB)"]
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
    """Return the output path; raise a TrainError if the export cannot be written there."""
    if is_uri(out):
        raise TrainError(
            f"--out {one_line(uri_without_secrets(out))}: expected a path on this machine. Export to this "
            "machine, then copy the export."
        )
    path = Path(StoragePath.of(out).path)
    if suffix and path.suffix != suffix:
        raise TrainError(f"--out {one_line(out)}: expected a name that ends in {suffix}.")
    if path.exists():
        raise TrainError(f"--out {one_line(out)}: this path exists already. Remove it, or give another name.")
    return path


def _featurizer_reference(features: Mapping[str, Any]) -> "FeaturizerReference":
    """Featurize a synthetic track with the feature settings of a model.

    Raises:
        FeaturizeError: The model's features are not those of this Earmark.
    """
    from featurize.audio.filters import Filters
    from featurize.audio.load import LOUDEST_PEAK, SILENT_PEAK
    from featurize.audio.mfcc import AMIN, delta_filters
    from featurize.dataset_build.inference_features import supported_settings
    from featurize.dataset_build.worker import featurize_track
    from train.export.comparison import FeaturizerReference
    from train.export.tf_mfcc import MfccConstants

    settings = supported_settings(features)
    filters = Filters.from_librosa(settings)
    mel = np.asarray(filters.mel.toarray(), np.float32)
    peaks = SILENT_PEAK, LOUDEST_PEAK
    constants = MfccConstants(filters.window, mel, AMIN, peaks, delta_filters(settings))
    track = _synthetic_track(settings)
    with tempfile.TemporaryDirectory() as scratch, naming(scratch):
        file = Path(scratch, "track.wav")
        with wave.open(str(file), "wb") as writer:
            writer.setparams((1, 2, settings.sample_rate, len(track), "NONE", ""))
            writer.writeframes(track.astype("<i2").tobytes())
        features_of_track, starts = featurize_track(StoragePath.of(file), settings, filters)
    return FeaturizerReference(constants, (track / 32768).astype(np.float32), features_of_track, starts)


def _synthetic_track(settings: FeatureSettings) -> NDArray[np.int16]:
    """Compose a track that fades out by 60 dB, so that it has loud and quiet segments.

    Returns:
        int16 [n], mono, at `settings.sample_rate` Hz; two seconds longer than the excerpt of the settings, if any.
    """
    from jobs.demo.synthesis import STYLES, Habits, compose

    rng = np.random.default_rng(0)
    excerpt = settings.excerpt_seconds
    if excerpt is None:
        seconds = min(max(_MIN_SECONDS, 2 * settings.segment_seconds), settings.max_seconds)
    else:
        seconds = excerpt + 2
    # Composed at 44,100 Hz; every other sample is taken without a low-pass filter, and its rate is ignored:
    # aliasing and another pitch do no harm in a test signal.
    piece = compose(STYLES["reeds"], Habits.draw(rng), _MIN_SECONDS, rng)[::2, 0]
    loud = np.resize(piece, int(seconds * settings.sample_rate)) / np.abs(piece).max()
    track: NDArray[np.int16] = (32767 * loud * np.geomspace(1, 1e-3, len(loud))).astype(np.int16)
    return track
