"""The space of a search: what it may vary, all mistakes at once, and the same trials from the same seed."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import JobConfig, load_config
from jobs.errors import ConfigError
from jobs.tuning.space import draw_trials, read_space
from jobs.tuning.values import Choice, Range
from train.config import TrainConfig


def written(tmp_path, text: str):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return file


def test_the_forms_of_a_space(tmp_path):
    space = read_space(
        written(
            tmp_path,
            """
            train.model: [conv3, modulation]
            train.learning_rate: {loguniform: [1e-4, 0.01]}
            train.dropout: {uniform: [0, 0.6]}
            train.batch_size: {logintegers: [16, 128]}
            train.segments_per_epoch: [null, 4]
            train.model_settings.width: {integers: [8, 64]}
            """,
        )
    )
    assert space == {
        "train.model": Choice(("conv3", "modulation")),
        "train.learning_rate": Range(1e-4, 1e-2, by_logarithm=True, whole=False),
        "train.dropout": Range(0, 0.6, by_logarithm=False, whole=False),
        "train.batch_size": Range(16, 128, by_logarithm=True, whole=True),
        "train.segments_per_epoch": Choice((None, 4)),
        "train.model_settings.width": Range(8, 64, by_logarithm=False, whole=True),
    }


def test_the_included_space_and_that_of_the_documentation_can_be_used(request, tmp_path):
    root = request.config.rootpath
    example = (root / "docs" / "training.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    for file in (root / "configs" / "space.yaml", written(tmp_path, example)):
        assert file.read_text().startswith(("#", "train."))
        assert len(draw_trials(read_space(file), JobConfig(), 40)) == 40


MISTAKES = {
    "train.mdel: [conv3]": "train.mdel: unknown setting; did you mean train.model?",
    "learning_rate: [1.0e-4]": "learning_rate: unknown setting; did you mean train.learning_rate?",
    "train.learning_rate: {loguniform: [0, 1e-2]}": "with LOW more than 0, found [0, '1e-2']",
    "train.weight_decay: {uniform: [0.5, 0.1]}": "with LOW less than HIGH, found [0.5, 0.1]",
    "train.dropout: {uniform: [0, 1.6]}": "train.dropout: input should be less than 1, found 1.6",
    "train.batch_size: {uniform: [16, 128]}": "for whole numbers there are integers and logintegers",
    "train.mask_frames: {integers: [0.5, 3]}": "train.mask_frames: expected whole numbers, found 0.5",
    "train.epochs: 20": "A value for all trials is given with --set train.epochs=VALUE",
    "train.mixup: {normal: [1, 2]}": "one of {uniform: [LOW, HIGH]}",
    "train.schedule: [cosin]": "train.schedule: input should be 'constant' or 'cosine', found 'cosin'",
    "train.class_weights: []": "train.class_weights: expected 1 to 1000 values, found 0",
    "train.mask_coefficients: [1, 1]": "train.mask_coefficients: a value is there twice",
    "train.test_fold: [1, 2]": "train.test_fold: trials are compared by it",
    "train.best_epoch_on_test: [true]": "train.best_epoch_on_test: it evaluates the test fold",
    "train.ensemble: [1, 3]": "train.ensemble: trials are compared epoch by epoch, which the members",
    "train.freeze: [[], [conv1]]": "train.freeze: frozen layers keep the weights of another run",
    "train.device: [cpu]": "train.device: it affects no score",
    "featurize.n_mels: [64]": "featurize.n_mels: the dataset has its features already",
    "train: {seed: [1]}": "train: expected settings with their full names",
}


def test_all_mistakes_are_reported_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_space(written(tmp_path, "\n".join(MISTAKES)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(MISTAKES)
    for line, expected in zip(lines[1:], MISTAKES.values(), strict=True):
        assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must name the settings that vary, such as train.dropout: [0, 0.4]; found nothing"),
        ("[1]", "found list"),
        ("a: [", "is not YAML"),
        ("\n".join(f"train.model_settings.x{number}: [1]" for number in range(51)), "expected at most 50"),
    ],
)
def test_another_file_is_refused(text, expected, tmp_path):
    with pytest.raises(ConfigError, match=r"the space .*space\.yaml") as caught:
        read_space(written(tmp_path, text))
    assert expected in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read the space"):
        read_space(tmp_path / "absent.yaml")


def test_combinations_that_are_not_possible_are_refused_before_any_training(tmp_path):
    space = read_space(written(tmp_path, "train.warmup_epochs: [0, 5]\ntrain.epochs: [4, 6]"))
    with pytest.raises(ConfigError, match=r"trial \d \(.*=5, train\.epochs=4\): warmup_epochs = 5 must be less"):
        draw_trials(space, JobConfig(), 4)


def test_values_are_in_the_settings_and_repeat_none(tmp_path):
    space = read_space(written(tmp_path, "train.dropout: [0.1, 0.3]\ntrain.model_settings.width: [1, 2]"))
    base = load_config(None, ["train.model=net.py:build", "train.model_settings={depth: 3}", "train.seed=4"])
    trials = draw_trials(space, base, 40)
    found = {(trial.config.train.dropout, trial.config.train.model_settings["width"]) for trial in trials}
    assert len(trials) == len(found) == 4
    for number, trial in enumerate(trials, 1):
        train = trial.config.train
        assert trial.number == number
        assert train.model_settings["depth"] == 3
        assert trial.values == {
            "train.dropout": train.dropout,
            "train.model_settings.width": train.model_settings["width"],
        }
        values = {"dropout": 0.4, "model_settings": {"depth": 3}}
        assert train.model_copy(update=values) == base.train


names = st.sampled_from(["learning_rate", "weight_decay", "label_smoothing", "dropout"])
ends = st.tuples(st.floats(1e-6, 0.5), st.floats(1e-6, 0.5)).filter(lambda pair: pair[0] < pair[1]).map(list)
ranges = st.builds(lambda kind, pair: {kind: pair}, st.sampled_from(["uniform", "loguniform"]), ends)
whole = st.tuples(st.integers(1, 50), st.integers(51, 1000)).map(list)
integers = st.builds(lambda kind, pair: {kind: pair}, st.sampled_from(["integers", "logintegers"]), whole)
models = st.lists(st.sampled_from(["conv2", "conv3", "modulation"]), min_size=1, max_size=3, unique=True)


@given(st.dictionaries(names, ranges, min_size=1), integers, models, st.integers(0, 2**31 - 1), st.integers(1, 12))
def test_trials_are_a_function_of_the_seed_and_more_samples_only_add(
    tmp_path_factory, numbers, sizes, networks, seed, samples
):
    content = {"train.model": networks, "train.batch_size": sizes}
    content |= {f"train.{name}": value for name, value in numbers.items()}
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(yaml.safe_dump(content))
    base = JobConfig(train=TrainConfig(seed=seed))
    trials = draw_trials(read_space(file), base, samples)
    assert 1 <= len(trials) <= samples
    for trial in trials:
        for name, value in numbers.items():
            (low, high), drawn = next(iter(value.values())), getattr(trial.config.train, name)
            assert low <= drawn <= high
        (low, high) = next(iter(sizes.values()))
        assert isinstance(trial.config.train.batch_size, int)
        assert low <= trial.config.train.batch_size <= high
        assert trial.config.train.model in networks
    file.write_text(yaml.safe_dump(dict(reversed(content.items())), sort_keys=False))
    more = draw_trials(read_space(file), base, samples + 3)  # the order of the lines does not matter either
    assert [trial.config for trial in more[: len(trials)]] == [trial.config for trial in trials]


def test_another_seed_gives_other_trials(tmp_path):
    space = read_space(written(tmp_path, "train.learning_rate: {loguniform: [1e-4, 1e-2]}"))
    found = [draw_trials(space, JobConfig(train=TrainConfig(seed=seed)), 3) for seed in (0, 0, 1)]
    rates = [[trial.config.train.learning_rate for trial in trials] for trials in found]
    assert rates[0] == rates[1]
    assert len({*rates[0], *rates[2]}) == 6
