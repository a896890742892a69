"""The model card of a run: Markdown, with the YAML front matter that Hugging Face reads.

A card is published, so it has no paths, no names of tracks and no names of groups; class names, which anyone may
have given, are escaped.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from featurize.version import VERSION
from train.config import TrainConfig
from train.errors import TrainError
from train.input.class_counts import small_classes
from train.model_names import MODELS
from train.provenance import Start
from train.records import ModelInfo, RunInfo
from train.report.card_scores import card_scores
from train.report.html import counted
from train.report.markdown import escape, fenced, markdown_table
from train.report.summary import summarize_run
from train.run import Run
from train.run_checks import metrics_of_model, refuse_other_model
from train.score_records import Metrics

_PATH = re.compile(r"(?:/|~|[A-Za-z]:[\\/]|\\\\|[A-Za-z][A-Za-z0-9+.-]*://)")
_LICENSE = (
    "# license: state the license of the model here, such as apache-2.0. It is yours to choose, within what\n"
    "# the license of the music that the model was trained on permits.\n"
)


def write_model_card(run: Run, dataset: Dataset) -> str:
    """Return the model card of an evaluated run.

    Args:
        run: Run folder.
        dataset: Dataset that the run was trained on.

    Raises:
        TrainError: The run has no model, is not evaluated, or was trained on another dataset.
    """
    model, info = run.trained(), run.info()
    if model.dataset != dataset.id:
        raise TrainError(
            f"{run.folder} was trained on the dataset {one_line(model.dataset)}, and {dataset.folder} is "
            f"{one_line(dataset.id)}. Give the dataset of the run: earmark card {run.folder.quoted} --features "
            "FEATURES"
        )
    refuse_other_model(run, model, dataset)
    metrics = metrics_of_model(run)
    assert info  # `trained` has read it
    return "\n".join(_front_matter(run, model, metrics)) + "\n".join(_body(run, model, info, metrics, dataset))


def _front_matter(run: Run, model: ModelInfo, metrics: Metrics) -> Iterator[str]:
    name = _name(run)
    figures = [
        {"type": kind, "name": f"{title} of {part}", "value": round(value, 4)}
        for part, scores in (("tracks", metrics.tracks), ("segments", metrics.segments))
        for kind, title, value in (
            ("accuracy", "Accuracy", scores.accuracy),
            ("f1", "Macro-F1", scores.macro_f1),
        )
    ]
    result = {
        "task": {"type": "audio-classification", "name": "Music genre classification"},
        "dataset": {"type": "custom", "name": f"Music collection, {metrics.test_set}", "split": "test"},
        "metrics": figures,
    }
    content = {
        "library_name": "keras",
        "pipeline_tag": "audio-classification",
        "tags": ["earmark", "music", "music-genre-classification"],
        "model-index": [{"name": name, "results": [result]}],
    }
    yield "---"
    yield _LICENSE + yaml.safe_dump(content, sort_keys=False, allow_unicode=False).rstrip("\n")
    yield "---\n"


def _name(run: Run) -> str:
    """Return the name of the run, which stands for the name of the model until its author gives one."""
    return one_line(run.name) or "music-genre-classifier"


def _body(run: Run, model: ModelInfo, info: RunInfo, metrics: Metrics, dataset: Dataset) -> Iterator[str]:
    config = run.config()
    settings = dataset.info.settings
    network = f"`{config.model}`" if config.model in MODELS else f"a custom network ({escape(config.model)})"
    size = f", {model.parameters:,} parameters" if model.parameters is not None else ""
    yield f"# {escape(_name(run))}\n"
    yield (
        f"This model predicts which of {_classes_of(model.classes)} a piece of music belongs to. Its input is the "
        f"{settings.describe()} of a segment of {settings.segment_seconds:.4g} seconds, an array of "
        f"{settings.features} features x {settings.frames} frames; the prediction for a track is the mean of the "
        f"probabilities of up to {settings.segments_per_track} segments. The network is {network}{size}, trained "
        f"with Earmark on one labeled collection, after {_first_weights(info)}.\n"
    )
    yield "## Results\n"
    yield from (f"{escape(paragraph)}\n" for paragraph in _summary(metrics, config, model, dataset))
    yield from card_scores(metrics, model, dataset)
    yield from _training_data(metrics, dataset)
    yield from _limitations(metrics, config, info, dataset)
    yield from _use(model, config)
    yield from _settings(config, model)
    yield from _provenance(info, model, metrics)


def _classes_of(classes: Sequence[str]) -> str:
    return f"{len(classes)} class{'' if len(classes) == 1 else 'es'}"


def _first_weights(info: RunInfo) -> str:
    if not info.initial:
        return "initialization with random weights"
    return f"initialization with weights of another run (SHA-256 of its model: `{info.initial.sha256}`)"


def _summary(metrics: Metrics, config: TrainConfig, model: ModelInfo, dataset: Dataset) -> list[str]:
    return summarize_run(metrics, config, model.epochs, small_classes(dataset))


def _training_data(metrics: Metrics, dataset: Dataset) -> Iterator[str]:
    info = dataset.info
    rejected = sum(entry.tracks for entry in info.rejects)
    yield "## Training data\n"
    yield (
        f"A collection of {counted(info.tracks, 'track')} in {_classes_of(info.classes)}, cut into "
        f"{counted(info.segments, 'segment')}; {rejected} tracks were rejected as unusable, and {info.duplicates} "
        "are exact duplicates of another one. A group is what must not be divided, such as the tracks of an "
        "artist.\n"
    )
    rows = [
        (
            part,
            ", ".join(map(str, split.folds)),
            split.tracks,
            split.groups,
            "yes" if split.official else "no",
        )
        for part, split in metrics.split.parts.items()
    ]
    yield markdown_table(("part", "folds", "tracks", "groups", "official split of the collection"), rows)
    if shared := len(metrics.split.groups_on_two_sides):
        yield (
            f"{counted(shared, 'group')} {'has' if shared == 1 else 'have'} tracks in more than one part, so the "
            "scores may be better than for new artists.\n"
        )
    else:
        yield "No group has tracks in more than one part.\n"


def _limitations(metrics: Metrics, config: TrainConfig, info: RunInfo, dataset: Dataset) -> Iterator[str]:
    seconds = dataset.info.settings.segment_seconds
    yield "## Limitations\n"
    yield "- It predicts exactly one of its classes for any audio, also for music of none of them, and for speech."
    yield (
        "- The scores are those of one test set of one collection. Music of other origin, recordings of other "
        "quality and other meanings of the same class names were not evaluated."
    )
    if not (metrics.intervals and metrics.intervals.tracks):
        yield "- The uncertainty of the scores is not known: there are no confidence intervals."
    if untested := sum(not scores.count for scores in metrics.tracks.per_class):
        yield f"- {untested} of {len(metrics.classes)} classes have no track in the test set."
    if config.selects_epoch:
        yield "- The epoch was selected on the validation fold, which was not trained on."
    else:
        yield "- No validation fold was used: the epoch was not selected, and the confidence not calibrated."
    if info.started and (info.started.command or [""])[0] == "tune":
        yield "- The settings are those of a trial of a search, whose trials were compared on the validation fold."
    if config.best_epoch_on_test:
        yield "- The test set was evaluated after each epoch while the model was trained; it selected no epoch."
    yield f"- Tracks shorter than a segment, {seconds:.4g} seconds, are rejected."
    yield (
        "- Labels are those of the collection. Whether they are right, and whether the classes are balanced by "
        "artist, language or region, was not examined."
    )
    yield "- How the music was licensed is not recorded. State it here if you publish the model.\n"


def _use(model: ModelInfo, config: TrainConfig) -> Iterator[str]:
    trust = " --trust-code" if config.is_users_model else ""
    yield "## Use\n"
    yield (
        f"With Earmark {VERSION} installed, and `RUN` the folder of these files (`model.keras`, `model.json`, "
        "`run.json`, `config.yaml`"
        + (", `model_code`" if config.is_users_model else "")
        + "), predict the classes of audio files:\n"
    )
    yield f"```\nearmark predict RUN song.mp3 folder-of-music{trust}\n```\n"
    yield (
        "`run.json` records the command and the path of the dataset, also of folders outside the home folder: "
        "read it before you publish it.\n"
    )
    trusted = ", trust_code=True" if config.is_users_model else ""
    yield (
        "```python\nimport earmark\n\n"
        f'for prediction in earmark.load("RUN"{trusted}).predict(["song.mp3"]).tracks:\n'
        "    print(prediction.path, prediction.label, prediction.probability)\n```\n"
    )
    if config.is_users_model:
        yield "The model has layers defined by a Python file in it: execute that only if you trust its author.\n"
    yield f"Without Earmark, `model.keras` takes {escape(model.input)}, and returns {escape(model.output)}.\n"


def _settings(config: TrainConfig, model: ModelInfo) -> Iterator[str]:
    settings = {"train": config.compared, "features": model.features}
    yield "## Settings\n"
    yield f"The seed is {config.seed}. All settings that affect the model:\n"
    yield fenced(yaml.safe_dump(_without_paths(settings), sort_keys=False, allow_unicode=False), "yaml")


def _without_paths(value: Any) -> Any:
    """Return settings in which paths and URIs are replaced: those of a custom model may name files."""
    match value:
        case dict():
            return {key: _without_paths(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_paths(item) for item in value]
        case str():
            return "(a path, left out)" if _PATH.match(value) else value
    return value


def _provenance(info: RunInfo, model: ModelInfo, metrics: Metrics) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    first = info.started
    if first:
        rows += [("begun", first.date), *_describe(first)]
        if first.command:
            rows.append(("command", f"`earmark {first.command[0]}`"))
    else:
        rows.append(("begun", "not recorded: by an earlier version of Earmark"))
    if model.members:
        rows += [
            ("most epochs that a member was trained for", str(model.epochs)),
            ("latest epoch that a member was saved after", str(model.epoch)),
        ]
    else:
        rows += [("epochs trained", str(model.epochs)), ("epoch of the model", str(model.epoch))]
    rows += [("dataset", f"`{model.dataset}`"), ("SHA-256 of model.keras", f"`{metrics.model_sha256}`")]
    yield "## Provenance\n"
    yield markdown_table(("what", "value"), rows)
    if info.resumed:
        yield f"Training was resumed {counted(len(info.resumed), 'time')}; what differed from its first start:\n"
        for start in info.resumed:
            same = first and first.versions == start.versions
            differences = [
                f"{what} {value}" for what, value in _describe(start) if not (same and what == "versions")
            ]
            yield f"- {start.date}: {'; '.join(differences) or 'nothing'}"
        yield ""
    yield f"Written by `earmark card`, Earmark {VERSION}.\n"


def _describe(start: Start) -> list[tuple[str, str]]:
    """Return what is known about a start, escaped for a table."""
    found = [("versions", ", ".join(f"{escape(name)} {escape(v)}" for name, v in start.versions.items()))]
    if start.revision:
        found.append(("revision of Earmark", f"`{start.revision}`"))
    if start.device:
        name = f" ({escape(start.device.name)})" if start.device.name else ""
        found.append(("devices", f"{start.device.count} {escape(start.device.kind)}{name}"))
    if start.host:
        cores = counted(start.host.cores, "core")
        found.append(("machine", f"{escape(start.host.system)}, {escape(start.host.machine)}, {cores}"))
    return found
