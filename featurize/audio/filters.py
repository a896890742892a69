"""The window and the mel filters, taken from librosa; importing it safely."""

import contextlib
import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Filters:
    """The constants of the transform, taken from librosa so that librosa stays the reference.

    Attributes:
        window: [n_fft], periodic Hann window; frames are transformed in its type, float32 or float64.
        mel: Sparse float32 [n_mels, 1 + n_fft / 2], Slaney's mel filters.
    """

    window: Float32 | NDArray[np.float64]
    mel: scipy.sparse.csr_matrix

    @classmethod
    def from_librosa(cls, settings: FeatureSettings) -> "Filters":
        """Build the filters that `librosa.feature.melspectrogram` uses with these settings."""
        # Imported here: it takes a second that only a worker has to spend.
        with _outside_the_working_directory(), _cache_of_numba():
            from librosa.filters import get_window, mel

        return cls(
            window=get_window("hann", settings.n_fft, fftbins=True).astype(settings.fft_type),
            mel=scipy.sparse.csr_matrix(
                mel(
                    sr=settings.sample_rate,
                    n_fft=settings.n_fft,
                    n_mels=settings.n_mels,
                    fmin=settings.f_min,
                    fmax=settings.f_max,
                )
            ),
        )


@contextmanager
def _outside_the_working_directory() -> Iterator[None]:
    """Keep numba, which librosa imports, from obeying a file of settings in the working directory.

    The folder is not trusted, and the file names the folder of cached code. A working directory that was removed,
    as Ray does with that of a job, holds none.
    """
    try:
        before = os.getcwd()
    except FileNotFoundError:
        yield
        return
    os.chdir(os.sep)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it has been removed in the meantime
            os.chdir(before)


@contextmanager
def _cache_of_numba() -> Iterator[None]:
    """Let librosa be imported where numba can write its cache neither beside librosa nor in the home folder.

    Numba refuses to decorate functions there, which an import of librosa does.
    """
    spec = importlib.util.find_spec("librosa")
    folders = [os.path.dirname(spec.origin) if spec and spec.origin else "", os.path.expanduser("~")]
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(folder, os.W_OK) for folder in folders):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="earmark-") as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        try:
            yield
        finally:
            del os.environ["NUMBA_CACHE_DIR"]
