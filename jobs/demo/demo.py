"""The demo: synthesize a small collection of tagged MP3s, and run the whole pipeline on it."""

import io
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import as_file, files
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from featurize.dataset.output_folder import refuse_foreign_demo_folder
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.local_files import write_whole
from featurize.storage import StoragePath
from jobs.config import load_config
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from jobs.pipeline import run
from jobs.terminal.console import ConsoleReporter

if TYPE_CHECKING:
    from train.score_records import Metrics

_log = logging.getLogger(__name__)

TRACKS_PER_STYLE = 40
ARTISTS_PER_STYLE = 10
SECONDS = 10.0


def run_demo(
    out: Path, seed: int, workers: int | None, reporter: ConsoleReporter, command: Sequence[str] | None = None
) -> "Metrics":
    """Synthesize the demo music and run the pipeline on it with `configs/quick.yaml`.

    Args:
        out: Output folder of the music and the run.
        seed: Random seed of the music.
        workers: Number of featurizing processes; None for one per core.
        reporter: Prints progress and remarks.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.

    Returns:
        The metrics of the run.

    Raises:
        FeaturizeError: The folder holds other files.
    """
    refuse_foreign_demo_folder(StoragePath.of(out), [*STYLES])
    music = out / "music"
    composed = compose_collection(music, seed)
    _log.info(f"Composed: {composed} MP3s in {len(STYLES)} styles. {music}")
    with as_file(files("configs") / "quick.yaml") as quick:
        config = load_config(quick, [])
    return run(str(music), StoragePath.of(out / "run"), config, workers, reporter, command=command)


def compose_collection(music: Path, seed: int, tracks_per_style: int = TRACKS_PER_STYLE) -> int:
    """Synthesize the missing tracks of a collection; the same seed gives the same files.

    Args:
        music: Output folder of the collection; each style is a class folder.
        seed: Random seed of the music.
        tracks_per_style: Number of tracks in each style, divided among its artists.

    Returns:
        Number of tracks in the collection.

    Raises:
        FeaturizeError: Tracks were removed while others were composed.
    """
    pieces = [(music, seed, style, number) for style in STYLES for number in range(tracks_per_style)]

    def missing_pieces() -> list[tuple[Path, int, str, int]]:
        return [piece for piece in pieces if not _path(music, *piece[2:]).exists()]

    if missing := missing_pieces():
        composers = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _end_with_parent, (os.getpid(),))
        try:
            # Ctrl-C reaches all processes of a terminal; composers, which inherit the mask, leave it to this one.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                composed = composers.map(_compose_one, *zip(*missing, strict=True), chunksize=4)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            list(composed)
        finally:
            composers.shutdown(cancel_futures=True)
    if lost := missing_pieces():
        raise FeaturizeError(
            f"{len(lost)} of {len(pieces)} tracks in {one_line(str(music))} were removed while others were "
            "composed. The same command composes them again."
        )
    return len(pieces)


def _compose_one(music: Path, seed: int, style: str, number: int) -> None:
    artist = number % ARTISTS_PER_STYLE
    style_number = list(STYLES).index(style)
    habits = Habits.draw(np.random.default_rng([seed, style_number, artist]))
    rng = np.random.default_rng([seed, style_number, artist, number])
    samples = compose(STYLES[style], habits, SECONDS, rng)
    encoded = io.BytesIO()
    with soundfile.SoundFile(encoded, "w", SAMPLE_RATE, samples.shape[1], "MPEG_LAYER_III", format="MP3") as file:
        file.artist = f"The {style.title()} {artist + 1}"
        file.album = f"Seed {seed}"
        file.title = f"Piece {number + 1}"
        file.write(samples)
    write_whole(_path(music, style, number), encoded.getvalue())


def _path(music: Path, style: str, number: int) -> Path:
    return music / style / f"{number + 1:03d}.mp3"


def _end_with_parent(parent: int) -> None:
    """Let this process end when the one that started it is gone; the pool itself would leave it behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
