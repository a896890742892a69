"""The file of a user's model: read once, copied into the run, and found there again when the run resumes.

What is executed is always the content that the run records, never a module that Python finds by itself, so that
nodes of a cluster and later processes build the same model.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import logging

from featurize.display import one_line
from featurize.storage import StoragePath, describe
from train.config import TrainConfig
from train.errors import TrainError
from train.model_names import FunctionName, parse_function
from train.records import ModelCodeInfo
from train.run import Run

FOLDER = "model_code"  # in a run, and in the working directory of a job
_MAX_BYTES = 1_000_000
_SHOWN_DIGITS = 12

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ModelCode:
    """The code of a user's model.

    Attributes:
        name: Function, and the file or module that has it.
        content: The file, in UTF-8.
    """

    name: FunctionName
    content: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def info(self) -> ModelCodeInfo:
        """What run.json records."""
        return ModelCodeInfo(file=self.name.file, function=self.name.function, sha256=self.sha256)


def read_code(model: str) -> ModelCode | None:
    """Read the file that the setting `train.model` names.

    Args:
        model: The setting.

    Returns:
        The code; None if the setting is the name of one of Earmark's models.

    Raises:
        TrainError: The file or module is missing, is no Python, or needs other files of its package.
    """
    if not (name := parse_function(model)):
        return None
    code = ModelCode(name, _read(name))
    _refuse_unusable(code)
    return code


def settle_code(run: Run, config: TrainConfig) -> tuple[TrainConfig, ModelCode | None]:
    """Return the code that a run trains with: the user's file in a new run, the run's copy in one that resumes.

    Args:
        run: Output folder.
        config: Settings as the user gave them.

    Returns:
        The settings as the run records them, where `model` is without the folder of the file; and the code, None
        for one of Earmark's models.

    Raises:
        TrainError: The user's file cannot be used, or the run's copy is missing or changed.
    """
    if not (name := parse_function(config.model)):
        return config, None
    config = config.model_copy(update={"model": name.recorded})
    info = run.info()
    recorded = info.model_code if info else None
    begun = bool(run.latest_step() or run.model.is_file())
    if not (recorded and begun and (recorded.file, recorded.function) == (name.file, name.function)):
        return config, read_code(f"{name.source}:{name.function}")
    copy = code_of_run(run)
    place = run.folder / FOLDER / name.file
    try:
        original = hashlib.sha256(_read(name)).hexdigest()
    except TrainError:
        _log.info(f"{one_line(name.source)} is not here; the run continues with its copy, {place}.")
        return config, copy
    if original != copy.sha256:
        digests = f"SHA-256 {original[:_SHOWN_DIGITS]}..., was {copy.sha256[:_SHOWN_DIGITS]}..."
        _log.warning(
            f"{one_line(name.source)} has changed since this run began ({digests}). The run continues with its "
            f"copy, {place}; to use the changed file, give another --out."
        )
    return config, copy


def keep_code(folder: StoragePath, config: TrainConfig, begun: bool) -> TrainConfig:
    """Copy the file of a user's model into a folder of runs, which all use the copy: folds, or trials.

    Args:
        folder: Folder of the runs.
        config: Settings as the user gave them.
        begun: Whether a run has been begun; the copy is then kept if there is one.

    Returns:
        The settings, where `model` is the copy; unchanged for one of Earmark's models.

    Raises:
        TrainError: The user's file cannot be used.
    """
    if not (name := parse_function(config.model)):
        return config
    place = folder / FOLDER / name.file
    if not (begun and place.is_file()):
        code = ModelCode(name, _read(name))
        _refuse_unusable(code)
        store_code(Run(folder), code)
    elif (name.is_file and not StoragePath.of(name.source).is_file()) or _read(name) != place.read():
        _log.warning(
            f"{one_line(name.source)} is not here or has changed since the first run in {folder} began. All "
            f"continue with the copy, {place}; to use another file, give another --out."
        )
    return config.model_copy(update={"model": f"{place.stored}:{name.function}"})


def store_code(run: Run, code: ModelCode) -> None:
    """Copy the code into a run; `run.json`, which has its digest, is written first."""
    place = run.folder / FOLDER / code.name.file
    try:
        if place.is_file() and place.read_at_most(_MAX_BYTES + 1) == code.content:
            return
    except OSError:
        pass  # written again
    place.write(code.content)


def code_of_run(run: Run) -> ModelCode:
    """Read the copy of the code in a run whose model is a user's.

    Raises:
        TrainError: The copy is missing, or is not the file that run.json records.
    """
    info = run.info()
    if not (info and info.model_code):
        raise TrainError(f"{run.folder / 'run.json'} names no code of a model. Train into another folder.")
    recorded = info.model_code
    place = run.folder / FOLDER / recorded.file
    try:
        content = place.read_at_most(_MAX_BYTES + 1)
    except OSError as error:
        raise TrainError(
            f"cannot read {place}, the copy of the code of this run's model: {describe(error)}. Put the file with "
            f"the SHA-256 {recorded.sha256} there, or train into another folder."
        ) from error
    code = ModelCode(FunctionName(recorded.file, recorded.function), content)
    if code.sha256 != recorded.sha256:
        raise TrainError(
            f"{place} was changed after the run began: its SHA-256 is {code.sha256}, run.json has "
            f"{recorded.sha256}. Restore the file, or train into another folder."
        )
    return code


def _read(name: FunctionName) -> bytes:
    """Return the content of the file or module of a user."""
    source = one_line(name.source)
    try:
        place = StoragePath.of(name.source if name.is_file else _module_file(name.source))
        content = place.read_at_most(_MAX_BYTES + 1)
    except OSError as error:
        raise TrainError(
            f"train.model = {source}:{name.function}: cannot read the file: {describe(error)}. Give its path, "
            "relative to the current folder."
        ) from error
    if len(content) > _MAX_BYTES:
        raise TrainError(f"train.model = {source}: the file has more than {_MAX_BYTES:,} bytes.")
    return content


def _module_file(module: str) -> str:
    """Return the path of the file of an importable module, without executing the module itself."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # of the packages around it, which find_spec imports
        raise TrainError(
            f"train.model = {module}: the packages around the module cannot be imported: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise TrainError(
            f"train.model = {module}: Python finds no such module with source code. Install its package, add its "
            "folder to PYTHONPATH, or give the path of the file: FILE.py:FUNCTION"
        )
    return spec.origin


def _refuse_unusable(code: ModelCode) -> None:
    """Raise a TrainError if the file is no Python, lacks the function, or needs other files of its package."""
    file, function = one_line(code.name.file), code.name.function
    try:
        tree = ast.parse(code.content, file)
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TrainError(f"{file}{where}: not Python that can be run: {one_line(message)}.") from error
    package = "" if code.name.is_file else code.name.source.partition(".")[0]
    needed = sorted({name for node in ast.walk(tree) for name in _own_imports(node, package)})
    if needed:
        raise TrainError(
            f"{file} imports {', '.join(needed)} of the same package, but a run has a copy of this one file only. "
            "Put what the model needs into the file."
        )
    if function not in {name for node in tree.body for name in _defined(node)}:
        raise TrainError(
            f"{file} defines no {function} at its top level; expected def {function}(input_shape, classes, config)"
        )


def _own_imports(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.ImportFrom(level=level, module=module) if level:
            return ["." * level + (module or "")]
        case ast.ImportFrom(module=str(module)):
            names = [module]
        case ast.Import(names=aliases):
            names = [alias.name for alias in aliases]
        case _:
            return []
    return [name for name in names if package and name.partition(".")[0] == package]


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
            return [alias.asname or alias.name for alias in aliases]
    return []
