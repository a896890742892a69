"""What messages tell the user to type works in the place where it is said."""

import json
import os
import re
import shlex
import shutil

import pytest
from typer.testing import CliRunner

from featurize.dataset.dataset import open_dataset
from featurize.dataset.output_folder import refuse_foreign_dataset_folder, refuse_foreign_run_folder
from featurize.dataset_build.reject_advice import ADVICE_FOR_DATASETS, ADVICE_FOR_PREDICTION, with_advice
from featurize.display import shell_word
from featurize.errors import DatasetError, FeaturizeError, Reject
from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.errors import ConfigError
from jobs.inference.predict import prediction_limits
from jobs.terminal.status import progress_lines
from train.config import TrainConfig
from train.errors import TrainError
from train.run import Run
from train.run_checks import refuse_other_runs, refuse_runs_inside


def command_in(message: str, verb: str) -> list[str]:
    """Return the words of a command in a message, as a shell splits them; the message ends with the command."""
    return shlex.split(message[message.index(f"earmark {verb} ") :])


@pytest.fixture
def odd(tmp_path):
    return tmp_path / "my $HOME's & (new) music"


def test_the_command_for_a_missing_or_empty_folder_is_accepted_there(odd):
    for _ in range(2):
        with pytest.raises(DatasetError) as error:
            open_dataset(odd)
        words = command_in(str(error.value), "featurize")
        assert words == ["earmark", "featurize", "MUSIC", "--out", str(odd)]
        refuse_foreign_dataset_folder(StoragePath.of(words[-1]))
        odd.mkdir(exist_ok=True)


@pytest.mark.parametrize("names", [["rock/1.mp3", "jazz/2.mp3"], ["thesis.odt"]])
def test_the_command_for_a_folder_of_other_files_names_another_folder(names, odd):
    for name in names:
        (odd / name).parent.mkdir(parents=True, exist_ok=True)
        (odd / name).write_bytes(b"x")
    with pytest.raises(DatasetError, match="earmark featurize MUSIC --out FEATURES, with a new folder"):
        open_dataset(odd)
    with pytest.raises(TrainError, match="earmark train FEATURES --out RUN, with a new RUN"):
        Run(odd).features()
    with pytest.raises(DatasetError, match=r"it holds .*Give the folder that a command had as --out"):
        progress_lines(StoragePath.of(odd))
    with pytest.raises(FeaturizeError, match="such as") as refused:
        refuse_foreign_run_folder(StoragePath.of(odd))
    [out] = shlex.split(str(refused.value).rpartition("such as ")[2])
    refuse_foreign_run_folder(StoragePath.of(out))
    assert os.path.dirname(out) == str(odd)


def test_a_suggested_folder_is_free(tmp_path):
    (tmp_path / "earmark").mkdir()
    for name in ("1.mp3", "earmark/2.mp3", "earmark-2"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FeaturizeError, match=f"such as {tmp_path}/earmark-3$"):
        refuse_foreign_run_folder(StoragePath.of(tmp_path))


def test_a_file_is_no_dataset_and_no_run(tmp_path):
    (tmp_path / "song.mp3").write_bytes(b"x")
    file = StoragePath.of(tmp_path / "song.mp3")
    with pytest.raises(
        DatasetError, match=r"song.mp3 is a file\. Give the folder of a dataset\. .* --out FEATURES"
    ):
        open_dataset(file)
    with pytest.raises(DatasetError, match=r"song.mp3 is a file\. Give the folder of a dataset or a run"):
        progress_lines(file)


def test_a_run_that_contains_its_dataset_is_no_dataset(features, tmp_path):
    shutil.copytree(features, tmp_path / "features")
    with pytest.raises(DatasetError, match=f"Its dataset is in the subfolder: give {tmp_path}/features$"):
        open_dataset(tmp_path)


def test_a_dataset_of_which_only_the_description_is_left_is_written_again(features, tmp_path):
    shutil.copy(features / "dataset.json", tmp_path)
    with pytest.raises(DatasetError, match=r"tracks\.parquet is missing") as error:
        open_dataset(tmp_path)
    refuse_foreign_dataset_folder(StoragePath.of(command_in(str(error.value), "featurize")[-1]))


def test_a_stopped_training_continues_with_its_settings(features, odd):
    run = Run(odd)
    run.begin(open_dataset(features), TrainConfig(epochs=3))
    (odd / "config.yaml").write_text("train:\n  epochs: 3\n")
    with pytest.raises(TrainError, match="Continue its training") as error:
        run.trained()
    assert command_in(str(error.value), "train") == [
        *("earmark", "train", str(features), "--out", str(odd), "--config", str(odd / "config.yaml"))
    ]


def test_status_names_the_folds_of_a_cross_validation(features, tmp_path):
    for fold in (0, 1):
        Run(tmp_path / f"fold={fold}").begin(open_dataset(features), TrainConfig(test_fold=fold, epochs=3))
    lines = progress_lines(StoragePath.of(tmp_path)).splitlines()
    assert lines == [
        "folds     0 evaluated, 2 begun",
        "          fold=0: epoch 0 of 3",
        "          fold=1: epoch 0 of 3",
        "state     unfinished: run the same crossval command to continue",
    ]


@pytest.mark.parametrize(
    ("names", "what"),
    [(["fold=10", "fold=2"], "the folds of a cross-validation"), (["trial=1"], "the trials of a search")],
)
def test_the_folder_of_unfinished_runs_is_not_taken_for_a_new_run(names, what, features, tmp_path):
    for name in names:
        Run(tmp_path / name).begin(open_dataset(features), TrainConfig(epochs=3))
    first = tmp_path / sorted(names)[-1]
    with pytest.raises(TrainError) as error:
        Run(tmp_path).trained()
    assert "Train first" not in str(error.value)
    assert f"It holds {what}, each of them a run: {first}" in str(error.value)
    for command in (["run", features], ["train", features]):
        done = CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path)])
        assert done.exit_code == 1
        assert f"{tmp_path} holds {what}, each of them a run: {first}" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    Run(tmp_path).write("run.json", json.loads((first / "run.json").read_text()))
    refuse_runs_inside(Run(tmp_path))  # a run that an earlier version began there is continued


@pytest.mark.parametrize("kind", ["fold", "trial"])
@pytest.mark.parametrize(
    ("there", "found"),
    [
        ("", "holds a run, so"),
        ("fold=0", "holds the folds of a cross-validation, each of them a run: "),
        ("trial=1", "holds the trials of a search, each of them a run: "),
    ],
)
def test_folds_and_trials_are_not_begun_in_the_folder_of_another_run(there, found, kind, features, tmp_path):
    Run(tmp_path / there if there else tmp_path).begin(open_dataset(features), TrainConfig(epochs=3))
    before = sorted(tmp_path.rglob("*"))
    if there.startswith(kind):
        refuse_other_runs(Run(tmp_path), kind)  # they are continued
        return
    (tmp_path.parent / f"{tmp_path.name}.yaml").write_text("train.seed: [1, 2]")
    arguments = {"fold": ["crossval"], "trial": ["tune", "--space", f"{tmp_path}.yaml"]}[kind]
    done = CliRunner().invoke(app, [*arguments, str(features), "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert f"{tmp_path} {found}" in done.stderr
    assert done.stderr.endswith("Give another --out.\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("a/genres", "genres"),
        ("a/folds/fold=3", "folds/fold=3"),
        ("a/folds/seed=1/fold=3", "folds/seed=1/fold=3"),
        ("a/search/trial=12", "search/trial=12"),
        ("a/folds/fold=0/members/1", "folds/fold=0/members/1"),
        ("a/members", "members"),
        ("a/members/x", "x"),
        ("fold=0", "fold=0"),
    ],
)
def test_a_run_is_named_after_the_runs_around_it(folder, name, tmp_path, monkeypatch):
    assert Run(tmp_path / "z" / folder).name == (f"z/{name}" if folder == "fold=0" else name)
    bucket = f"s3://bucket/{folder}?region=x"  # which is not asked for
    assert Run(bucket).name == (f"bucket/{name}" if folder == "fold=0" else name)
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    assert Run(".").name == (f"{tmp_path.name}/{name}" if folder == "fold=0" else name)


def test_status_of_a_job_that_has_not_begun(tmp_path):
    for folder, state in ((tmp_path / "absent", "does not exist"), (tmp_path, "is empty")):
        done = CliRunner().invoke(app, ["status", str(folder)])
        assert done.exit_code == 1
        assert f"it {state}. A job that has just been started may not have begun yet." in done.stderr
        refuse_foreign_run_folder(StoragePath.of(command_in(done.stderr, "run")[-1]))


def test_status_of_a_job_that_lists_its_music(tmp_path):
    from featurize.execution.folder_lock import only_run_in

    for folder in (tmp_path / "dataset", tmp_path / "run" / "features"):
        with only_run_in(StoragePath.of(folder)):
            shown = progress_lines(StoragePath.of(folder if folder.name == "dataset" else folder.parent))
        assert (
            shown == f"state     running: process {os.getpid()}\nshards    none yet: the job is listing its music"
        )


def test_a_prediction_takes_only_the_limits_of_a_file():
    assert prediction_limits([]) == {}
    assert prediction_limits(["featurize.max_seconds=9", "featurize.track_timeout=3"]) == {
        "max_seconds": 9,
        "track_timeout": 3,
    }
    for other in ("featurize.segments_per_track=3", "train.epochs=2"):
        with pytest.raises(
            ConfigError, match=r"Only featurize.max_seconds and featurize.track_timeout may be set"
        ):
            prediction_limits(["featurize.max_seconds=9", other])
    with pytest.raises(ConfigError, match=r"featurize.max_seconds"):
        prediction_limits(["featurize.max_seconds=0"])


@pytest.mark.parametrize("reason", ADVICE_FOR_PREDICTION)
def test_the_advice_of_a_reject_is_accepted_by_its_command(reason):
    from jobs.config import load_config

    message = with_advice(Reject("check", reason, "why"), ADVICE_FOR_PREDICTION).message
    assert message.startswith("why; ")
    assert "--retry-rejects" not in message
    prediction_limits([f"{setting}=9" for setting in re.findall(r"--set (\S+)=SECONDS", message)])
    for setting in re.findall(r"--set (\S+)=SECONDS", ADVICE_FOR_DATASETS[reason]):
        load_config(None, [f"{setting}=9"])
    assert with_advice(Reject("check", "silent", "why"), ADVICE_FOR_PREDICTION).message == "why"


@pytest.mark.parametrize("text", ["plain", "a b", "it's", "$x`y`", "~", "-x", "é", "", "a?b*", 'say "hi"'])
def test_a_shell_word_is_read_back_by_a_shell(text, tmp_path):
    import subprocess

    for word in (text, f"{text}\n\x1b[2J\\end", os.fsdecode(b"\xff'")):
        printed = subprocess.run(
            ["bash", "-c", f"printf %s {shell_word(word)}"], capture_output=True, check=True
        ).stdout
        assert os.fsdecode(printed).removeprefix("./") == word.removeprefix("./")


def test_a_rejected_file_of_a_dataset_is_explained_for_featurize(music, tmp_path):
    """The message is in the footer of the shard, from which rejects.parquet and the report read it."""
    from featurize.audio.filters import Filters
    from featurize.config import FeaturizeConfig
    from featurize.dataset.footer import read_rejects
    from featurize.dataset_build.worker import write_features
    from featurize.planning.shard_plan import ShardPlan, Track, feature_settings

    settings = feature_settings(FeaturizeConfig(max_seconds=3, segments_per_track=2))
    name = "fold=0/0-0123456789abcdef.parquet"
    (tmp_path / "shards" / "fold=0").mkdir(parents=True)
    track = Track("bells/1-0.flac", "bells/1-0.flac", 0, (music / "bells" / "1-0.flac").stat().st_size)
    plan = ShardPlan(name, StoragePath.of(music), [track], settings)
    write_features(plan, StoragePath.of(tmp_path), Filters.from_librosa(settings))
    [reject] = read_rejects(StoragePath.of(tmp_path), name)
    assert reject.message == (
        "more than 3 s; allow more with --set featurize.max_seconds=SECONDS, or read an excerpt with "
        "--set featurize.excerpt_seconds=SECONDS"
    )


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        (
            ["--format", "csv"],
            "with --out, the answers are Parquet. Leave --out out, and type: --format csv > FILE",
        ),
        (["--top", "1"], "with --out, the column probabilities has all classes."),
        (["--min-confidence", "0.5"], "with --out, filter the column probability."),
        (["--timeline"], "with --out, a row for each segment is --segments."),
    ],
)
def test_options_of_printed_predictions_are_refused_for_a_folder_of_answers(option, advice, tmp_path):
    out = tmp_path / "answers.csv"
    done = CliRunner().invoke(app, ["predict", "run", "music", "--out", str(out), *option])
    assert done.exit_code == 2
    assert f"{option[0]}" in done.stderr
    assert done.stderr.endswith(f"is printed; {advice}\n")
    assert not out.exists()


@pytest.mark.parametrize(
    "command", [["embed", "run", "a.mp3"], ["labels", "folds"], ["compare", "run"], ["card", "run"]]
)
def test_a_folder_in_place_of_an_output_file_is_refused_before_any_work(command, tmp_path):
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert re.fullmatch(
        rf"earmark: --out {tmp_path} is a folder\. Give a file in it: --out {tmp_path}/\S+\n", done.stderr
    )


def test_json_of_another_program_is_not_ours(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(FeaturizeError, match=r"holds dataset.json and no dataset"):
        refuse_foreign_dataset_folder(StoragePath.of(tmp_path))
