"""Run the instructions of a Dockerfile's stage without a container: in a separate environment and folders.

Only what jobs/Dockerfile uses is understood; another instruction is an error. The base image is replaced by an
environment with Python and pip only, so a stage that needs more of it fails.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

CONTEXT = Path(__file__).parent.parent.parent


def stages(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return the base and the instructions (name, arguments) of each stage, by its name."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            base, word, stage = arguments.split()
            assert word == "AS"
            found[stage] = base, []
        else:
            found[stage][1].append((name, arguments.strip()))
    return found


class Image:
    """What a stage leaves: its files below a folder, its working directory and its environment."""

    def __init__(self, root: Path, environment: Path) -> None:
        """Begin with an empty root folder, and a virtual environment for `pip` and `python`."""
        self.root, self.folder = root, root
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))},
            "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
            "HOME": str(root / "home/ray"),
        }
        (root / "home/ray").mkdir(parents=True)

    def inside(self, path: str) -> Path:
        """Return where a path of the image is: absolute in its root, else in its working directory."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.folder / path

    def run(self, command: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the image; absolute paths below /home/ray are those of the image."""
        translated = re.sub(r"(?<![\w.])/home/ray", shlex.quote(str(self.root / "home/ray")), command)
        return subprocess.run(
            ["sh", "-c", translated],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def build(text: str, target: str, folder: Path, environment: Path) -> Image:
    """Run the instructions of a stage and of those that it begins with or copies from.

    Args:
        text: The Dockerfile.
        target: Name of the stage.
        folder: Empty folder for the files of all stages.
        environment: Virtual environment that stands for the Python of the base image.
    """
    found = stages(text)
    built: dict[str, Image] = {}

    def of(name: str, root: Path) -> Image:
        base, instructions = found[name]
        inherited = found[base][1] if base in found else []
        image = Image(root, environment)
        for instruction, arguments in [*inherited, *instructions]:
            match instruction:
                case "RUN":
                    done = image.run(arguments)
                    assert done.returncode == 0, f"RUN {arguments}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
                case "WORKDIR":
                    image.folder = image.inside(arguments)
                    assert image.folder.is_dir(), arguments
                case "ENV":
                    variable, value = arguments.split("=", 1)
                    image.variables[variable] = value
                case "COPY":
                    _copy(shlex.split(arguments), image)
                case _:
                    raise AssertionError(f"{instruction}: this Dockerfile had none")
        return image

    def _copy(words: list[str], image: Image) -> None:
        options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
        assert options.keys() <= {"chown", "from"}
        *sources, destination = [word for word in words if not word.startswith("--")]
        for source in sources:
            if stage := options.get("from"):
                if stage not in built:
                    built[stage] = of(stage, folder / stage)
                path = built[stage].inside(source)
            else:
                path = CONTEXT / source
            target_path = image.inside(destination)
            if path.is_dir():  # as Docker does: its content
                shutil.copytree(
                    path, target_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(path, target_path / path.name if destination.endswith("/") else target_path)

    return of(target, folder / target)
