"""The clips that the benchmarks of featurizing measure: a user's music, or a synthesized collection."""

import argparse
import os
from pathlib import Path

from featurize.collection.listing import AUDIO_SUFFIXES
from jobs.demo.demo import TRACKS_PER_STYLE, compose_collection


def add_options(parser: argparse.ArgumentParser, rounds: int, clips: int) -> None:
    """Add the options that choose the clips and the number of rounds, with these defaults."""
    parser.add_argument(
        "--music", type=Path, default=os.environ.get("EARMARK_MUSIC"), help="folder of audio files"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds")
    parser.add_argument("--clips", type=int, default=clips, help="clips per round")
    parser.add_argument(
        "--tracks", type=int, default=TRACKS_PER_STYLE, help="synthesized tracks per style, if there is no --music"
    )


def chosen_clips(arguments: argparse.Namespace, scratch: Path) -> tuple[Path, list[Path]]:
    """Return the folder of music, synthesized below `scratch` if none is given, and evenly chosen clips of it."""
    music = Path(arguments.music or scratch / "music")
    if not arguments.music:
        compose_collection(music, 0, arguments.tracks)
    clips = sorted(path for path in music.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return music, clips[:: max(1, len(clips) // arguments.clips)][: arguments.clips]
