"""Settings: read, overridden, validated; all mistakes reported at once, with the most similar known name."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import earmark_here

from jobs.config import JobConfig, load_config, to_yaml
from jobs.errors import ConfigError
from train.config import TrainConfig
from train.records import RunInfo


def test_defaults_are_valid_and_survive_the_round_trip(tmp_path):
    config = load_config(None, [])
    assert config == JobConfig()
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert load_config(file, []) == config


@given(
    epochs=st.integers(1, 10**6),
    rate=st.floats(1e-12, 1),
    fraction=st.floats(0, 1),
    replicas=st.none() | st.integers(1, 32),
    validation=st.sampled_from(["auto", "split", "next", "none", 1, 2, 3, 19]),
)
def test_any_settings_survive_the_round_trip(tmp_path_factory, epochs, rate, fraction, replicas, validation):
    config = JobConfig.model_validate(
        {
            "featurize": {"max_reject_fraction": fraction},
            "train": {
                "epochs": epochs,
                "learning_rate": rate,
                "replicas": replicas,
                "validation_fold": validation,
            },
        }
    )
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(to_yaml(config))
    assert load_config(file, []) == config


def test_what_earlier_runs_recorded_is_valid_and_is_resumed_with_the_defaults():
    """Otherwise the run could not be resumed or evaluated: its run.json is validated and compared."""
    recorded = {"jit_compile": "auto", "all_reduce": "auto", "precision": "float32", "steps_per_call": "auto"}
    assert TrainConfig(**recorded) == TrainConfig()
    run = RunInfo(dataset="0", features="features", train={"epochs": 1, "normalise": True})
    assert run.train == {"epochs": 1, "normalize": True}


def test_the_spelling_that_normalize_had_is_read_and_its_mistakes_are_reported(tmp_path):
    assert load_config(None, ["train.normalise=true"]).train == TrainConfig(normalize=True)
    with pytest.raises(ConfigError, match=r"train\.normalize: input should be a valid boolean"):
        load_config(None, ["train.normalise=much"])
    file = tmp_path / "old.yaml"
    file.write_text("train: {normalise: false}")
    assert load_config(file, ["train.normalize=true"]).train.normalize
    assert load_config(file, ["train.normalize=false", "train.normalise=true"]).train.normalize
    file.write_text("train: {normalise: false, normalize: true}")
    with pytest.raises(ConfigError, match=r"train\.normalise: unknown setting; did you mean train\.normalize"):
        load_config(file, [])


def test_every_included_config_is_valid_and_starts_with_its_command(request):
    files = [file for file in (request.config.rootpath / "configs").glob("*.yaml") if file.stem != "space"]
    assert {file.stem for file in files} >= {"published", "quick", "best"}
    for file in files:
        load_config(file, [])
        assert file.read_text().startswith("#")
        assert "earmark" in file.read_text().split("\nfeaturize:")[0]


def test_overrides_win_over_the_file_and_later_ones_over_earlier_ones(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train:\n  epochs: 3\n  learning_rate: 1e-3\n")
    config = load_config(file, ["train.epochs=4", "train.epochs=5", "featurize.group_by=none"])
    assert config.train.epochs == 5
    assert config.train.learning_rate == 1e-3
    assert config.featurize.group_by == "none"


def test_all_mistakes_are_reported_at_once(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train:\n  epoch: 3\n  batch_size: 0\n  model: conv9\nfeaturise:\n  segments_per_track: 4\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["train.learning_rate=fast", "nonsense", "train.segments_per_track=3", "train.seed=1.5"])
    message = str(caught.value)
    for expected in (
        "train.epoch: unknown setting; did you mean train.epochs?",
        "train.batch_size: input should be greater than or equal to 1, found 0",
        "train.model: input should be 'conv2', 'conv3', 'conv3-norm' or 'modulation', or a function",
        "featurise: unknown setting; did you mean featurize?",
        "train.segments_per_track: unknown setting; did you mean featurize.segments_per_track?",
        "train.learning_rate: input should be a valid number",
        "--set nonsense: expected section.key=value",
        "train.seed: ",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: [1, 2", "is not YAML"),
        ("- train\n", "must have sections"),
        ("train: 3\n", "train: expected settings (key: value), found 3"),
        ("train:\n  validation_fold: 2\n  test_fold: 2\n", "both 2"),
        ("train:\n  validation_fold: 20\n", "less than 20, found 20"),
        ("train:\n  test_fold: next\n", "'auto' or 'split', found 'next'"),
        ("train:\n  replicas: 8\n  batch_size: 4\n", "8 replicas cannot share batches of 4"),
        ("train:\n  seed: true\n", "train.seed: input should be a valid integer, found True"),
        ("train:\n  learning_rate: 0\n", "greater than 0, found 0"),
        ("featurize:\n  max_reject_fraction: 1.5\n", "less than or equal to 1, found 1.5"),
        ("featurize:\n  group_by: label\n", "'artist', 'album' or 'none', found 'label'"),
    ],
)
def test_a_bad_file_is_refused(text, expected, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, [])
    assert expected in str(caught.value)


def test_an_empty_file_or_section_gives_the_defaults(tmp_path):
    file = tmp_path / "config.yaml"
    for text in ("", "# nothing\n", "train:\nfeaturize:\n"):
        file.write_text(text)
        assert load_config(file, []) == JobConfig()


def test_the_config_command_prints_the_settings(tmp_path):
    done = earmark_here("config", "--set", "train.epochs=7", "--set", "train.learning_rate=3e-4")
    assert done.returncode == 0
    printed = yaml.safe_load(done.stdout)
    assert printed["train"]["epochs"] == 7
    assert JobConfig.model_validate(printed) == load_config(None, ["train.epochs=7", "train.learning_rate=3e-4"])
    settings = [line for line in done.stdout.splitlines() if line.startswith("  ") and "#" not in line]
    comments = [line for line in done.stdout.splitlines() if line.startswith("  #")]
    assert len(settings) == len(comments) == sum(len(section) for section in printed.values())


def test_the_config_command_refuses_mistakes_with_status_2(tmp_path):
    done = earmark_here("config", "--set", "train.epoch=7")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean train.epochs?" in done.stderr
    assert "Traceback" not in done.stderr
    done = earmark_here("config", "--config", tmp_path / "absent.yaml")
    assert done.returncode == 2
    assert "cannot read the config" in done.stderr


def test_the_settings_that_may_change_are_those_of_the_documentation(request):
    where = {"device", "replicas", "workers", "gpus_per_worker", "wait_minutes", "all_reduce"}
    always = where | {"patience", "checkpoint_every", "keep_checkpoints", "steps_per_call", "profile_steps"}
    always |= {"evaluate_every", "best_epoch_on_test", "cache", "cache_gigabytes"}
    assert TrainConfig().may_change == always | {"epochs"}
    assert TrainConfig(schedule="cosine").may_change == always
    text = (request.config.rootpath / "docs" / "training.md").read_text()
    table = re.search(r"^\| may change \| when \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    documented = {}
    for row in table.splitlines():
        _, names, when, _ = row.split("|")
        documented |= dict.fromkeys(re.findall(r"`(\w+)`", names), when)
    assert documented.keys() == TrainConfig().may_change
    assert {name for name, when in documented.items() if "unless `schedule: cosine`" in when} == {"epochs"}
    assert {name for name, when in documented.items() if when.strip() == "always"} == always


def test_compare_shows_all_settings_but_those_that_affect_no_score():
    hidden = {"checkpoint_every", "keep_checkpoints", "device", "workers", "gpus_per_worker", "wait_minutes"}
    hidden |= {"steps_per_call", "profile_steps", "best_epoch_on_test", "cache", "cache_gigabytes"}
    config = TrainConfig(epochs=7)
    assert config.compared == {key: value for key, value in config.model_dump().items() if key not in hidden}
    assert hidden < config.may_change
