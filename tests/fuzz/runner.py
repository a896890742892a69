"""Fuzz what is read from outside: `python -m fuzz --minutes 10 audio tags`, in the folder `tests`.

Each input is read in a child process with limits on time and memory. Found are unexpected exceptions, crashes and
exceeded limits; the input of each is kept, and its seed and number make it again. Prints one JSON line a target.
"""

import argparse
import dataclasses
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from featurize.execution.child_process import ChildProcess
from featurize.execution.limits import describe_death, limited
from fuzz.damage import damaged
from fuzz.targets import TARGETS, Seeds

SECONDS = 20.0  # for one input
MEMORY_BYTES = 1 << 30
START_SECONDS = 120.0  # for a new process, which imports TensorFlow for some targets
INPUTS_PER_PROCESS = 2000


@dataclasses.dataclass
class Findings:
    """What was found about one target; times in seconds, memory in MiB."""

    target: str
    seed: int
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    unexpected: int = 0
    crashed: int = 0
    too_slow: int = 0
    slowest: float = 0.0
    largest_mib: int = 0
    examples: dict[str, str] = dataclasses.field(default_factory=dict)


def write_input(seeds: Seeds, name: str, seed: int, number: int, folder: Path) -> Path:
    """Write the files of an input, one of them damaged; return that one."""
    chance = random.Random(f"{name} {seed} {number}")
    chosen = chance.choice(sorted(seeds))
    for path, content in seeds.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(damaged(content, chance) if path == chosen else content)
    return folder / chosen


def read_inputs(name: str, seed: int, first: int, features: Path, run: Path, folder: Path) -> Iterator[object]:
    """Read inputs from a number on; yield the number before each, and (kind, text, seconds, MiB) after it."""
    seeds, intact = TARGETS[name].seeds(features, run), folder / "intact"
    for path, content in seeds.items():
        (intact / path).parent.mkdir(parents=True, exist_ok=True)
        (intact / path).write_bytes(content)
    for path in seeds:  # loads libraries, whose time and memory are not an input's
        TARGETS[name].read(intact, intact / path, features)
    for number in range(first, first + INPUTS_PER_PROCESS):
        place = folder / "input"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        file = write_input(seeds, name, seed, number, place)
        yield number
        begun = time.monotonic()
        try:
            TARGETS[name].read(place, file, features)
            kind, text = "accepted", ""
        except TARGETS[name].expected as error:
            kind, text = "refused", str(error)
        except Exception as error:
            kind, text = "unexpected", f"{type(error).__name__}: {error}"[:300]
        yield kind, text, time.monotonic() - begun, _peak_mib()


def _peak_mib() -> int:
    """Return the largest memory of this process so far, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) >> 10


def fuzz(name: str, seed: int, seconds: float, features: Path, run: Path, kept: Path) -> Findings:
    """Read damaged inputs of one target for some seconds."""
    found, number, end = Findings(name, seed), 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() < end:
            arguments = (name, seed, number, features, run, Path(scratch))
            with ChildProcess(*limited(MEMORY_BYTES, read_inputs, *arguments)) as child:
                patience = START_SECONDS
                while time.monotonic() < end or patience == SECONDS:
                    try:
                        kind, value = child.receive(patience)
                    except TimeoutError:
                        found.too_slow += 1
                        _keep(found, f"over {patience:g} s", number, Path(scratch), kept)
                        number += 1
                        break
                    if kind == "died":
                        found.crashed += 1
                        _keep(found, f"{describe_death(value)}: {value.last_line}", number, Path(scratch), kept)
                        number += 1
                        break
                    if kind != "yielded":
                        if kind == "raised":
                            raise value
                        break
                    if isinstance(value, int):
                        number, patience = value, SECONDS
                        continue
                    outcome, text, took, peak = value
                    found.inputs += 1
                    setattr(found, outcome, getattr(found, outcome) + 1)
                    found.slowest = max(found.slowest, round(took, 2))
                    found.largest_mib = max(found.largest_mib, peak)
                    if outcome == "unexpected":
                        _keep(found, text, number, Path(scratch), kept)
                    number, patience = number + 1, START_SECONDS
    return found


def _keep(found: Findings, text: str, number: int, scratch: Path, kept: Path) -> None:
    if len(found.examples) < 20 and not TARGETS[found.target].contained:
        name = f"{found.target}-{found.seed}-{number}"
        found.examples[name] = text
        shutil.copytree(scratch / "input", kept / name, dirs_exist_ok=True)


def make_seeds(folder: Path) -> tuple[Path, Path]:
    """Make a small dataset and a run; return their folders."""
    from featurize.storage import StoragePath
    from jobs.config import load_config
    from jobs.demo.demo import compose_collection
    from jobs.pipeline import run
    from jobs.terminal.console import ConsoleReporter

    compose_collection(folder / "music", seed=3, tracks_per_style=6)
    settings = ["featurize.segments_per_track=2", "featurize.tracks_per_shard=4", "train.epochs=1"]
    config = load_config(None, [*settings, "train.model=modulation", "train.device=cpu"])
    out = folder / "run"
    run(str(folder / "music"), StoragePath.of(out), config, None, ConsoleReporter())
    return out / "features", out


def main() -> None:
    """Fuzz the targets in turn and print what was found; status 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir(), "earmark-fuzz"))
    given = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory() as scratch:
        features, run = make_seeds(Path(scratch))
        for name in given.targets or TARGETS:
            found = fuzz(name, given.seed, 60 * given.minutes, features, run, given.kept)
            print(json.dumps(dataclasses.asdict(found)), flush=True)
            status |= bool(found.examples or found.unexpected or found.too_slow)
    sys.exit(status)
