"""An ensemble trains its members as separate runs, and is their mean in everything that reads a run."""

import shutil

import numpy as np
import pytest

from featurize.dataset.dataset import open_dataset
from featurize.errors import UnsafeNameError
from featurize.storage import StoragePath
from train.config import TrainConfig
from train.errors import TrainError
from train.export.formats import ExportFormat
from train.fit.members import member_seed, members
from train.provenance import Device, Start
from train.records import InitialWeights
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

# A graph with dropout and a custom layer class.
NETWORK = """
import keras


@keras.saving.register_keras_serializable(package="ensemble")
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


def build(input_shape, classes, config):
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Permute((2, 1))(inputs))
    x = keras.layers.BatchNormalization(momentum=0.9)(Scale()(keras.layers.Dense(8, activation="relu")(x)))
    x = keras.layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))
"""
SETTINGS = {"ensemble": 2, "epochs": 2, "calibrate": True, "normalize": True, "average_epochs": 0.5}


@pytest.fixture(scope="module")
def ensemble(features, logical_cpus, tmp_path_factory):
    from support.training import trained

    folder = tmp_path_factory.mktemp("ensemble")
    messages, epochs = trained(features, folder, **SETTINGS)
    assert len(epochs) == 4
    assert sum("Member " in message for message in messages) == 2
    return folder


def segments_of(features):
    from featurize.dataset.reader import read_row_group

    rows, _ = read_row_group(open_dataset(features).in_folds({0})[0], 0)
    return rows


def test_the_probabilities_are_the_mean_of_those_of_the_members(ensemble, features):
    from scipy.special import log_softmax, softmax

    from train.evaluation.inference import load_model

    rows = segments_of(features)
    run = Run(ensemble)
    runs = [member for member, _ in members(run, run.config())]
    parts = [softmax(load_model(member)(rows).numpy().astype(np.float64), axis=1) for member in runs]
    assert np.abs(parts[0] - parts[1]).max() > 1e-3
    temperature = run.trained().temperature
    assert temperature != 1
    expected = log_softmax(np.log(np.mean(parts, axis=0)) / temperature, axis=1)
    logits = log_softmax(load_model(run)(rows).numpy().astype(np.float64), axis=1)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert run.trained().members == 2
    assert all(member.trained().temperature is None for member in runs)


def test_the_history_is_the_mean_of_the_members_and_the_command_repeated_keeps_all(ensemble, features):
    from support.command_line import contents
    from support.training import trained

    run = Run(ensemble)
    histories = [member.history() for member, _ in members(run, run.config())]
    for epoch, *others in zip(run.history(), *histories, strict=True):
        assert epoch.train.loss == pytest.approx(np.mean([each.train.loss for each in others]))
        accuracies = [each.validation.track_accuracy for each in others]
        assert epoch.validation.track_accuracy == pytest.approx(np.mean(accuracies))
    before = contents(ensemble)
    trained(features, ensemble, **SETTINGS)
    assert contents(ensemble) == before


def unfinished(ensemble, folder):
    """Copy an ensemble whose members are trained, without what is written after them."""
    shutil.copytree(ensemble, folder)
    for name in ("model.keras", "model.json", "history.json"):
        (folder / name).unlink()
    return Run(folder)


def test_fewer_epochs_than_a_member_has_are_refused(ensemble, features, tmp_path):
    from support.training import trained

    run = unfinished(ensemble, tmp_path / "run")
    with pytest.raises(TrainError, match=r"members/0 has been trained for 2 epochs already, but train.epochs = 1"):
        trained(features, run.folder, **{**SETTINGS, "epochs": 1})


def test_run_json_of_an_ensemble_has_its_devices_and_the_layers_that_were_taken(ensemble, features, tmp_path):
    from support.training import trained

    run = unfinished(ensemble, tmp_path / "run")
    source = InitialWeights(run="~/other", sha256="ab" * 32, classes=["a"])
    taken = source.model_copy(update={"taken": ["conv_1"], "not_taken": {"logits": "its classes are other ones"}})
    start = Start(date="2026-11-26T12:00:00Z", versions={"python": "3.11.7"})
    for each, initial in ((run, source), *((member, taken) for member in run.member_runs())):
        each.write("run.json", each.info().model_copy(update={"started": start, "initial": initial}).to_json())
    trained(features, run.folder, **SETTINGS)
    assert run.info().started.device == Device(kind="CPU", count=1)
    for each in (run, *run.member_runs()):
        assert each.info().initial == taken


def test_a_member_moves_with_the_dataset_and_the_curves_of_its_ensemble(ensemble, features, tmp_path):
    from support.training import trained

    run = unfinished(ensemble, tmp_path / "run")
    shutil.copytree(features, run.folder.local / "features")
    trained(run.folder / "features", run.folder, **SETTINGS)
    moved = tmp_path / "moved"
    shutil.move(run.folder.path, moved)
    member = Run(moved / "members" / "0")
    assert member.features() == StoragePath.of(moved / "features")
    assert member.tensorboard == StoragePath.of(moved / "tensorboard" / "member-0")
    assert member.tensorboard.is_folder()
    shutil.move(member.folder.path, tmp_path / "alone")
    with pytest.raises(TrainError, match=r"no ensemble has this member\..*--features"):
        Run(tmp_path / "alone").features()


@pytest.mark.parametrize("path", ["../x", "../../../x", "../../a/../../x", "../..//etc", "../../", "a/../x"])
def test_a_member_names_no_dataset_outside_its_ensemble_by_a_relative_path(path, tmp_path):
    runs = [Run(tmp_path), Run(tmp_path).member(0)]
    for run in runs:
        run.write("run.json", {"dataset": "d", "features": path, "train": {"epochs": 1}})
    for run in runs:
        with pytest.raises((UnsafeNameError, TrainError)):
            run.features()


def test_the_records_of_members_that_stopped_at_different_epochs_agree(ensemble, features, tmp_path):
    from train.evaluation.evaluate import evaluate_run
    from train.fit.members import save_ensemble
    from train.report.model_card import write_model_card
    from train.report.run_page import write_run_page

    run, dataset = unfinished(ensemble, tmp_path / "run"), open_dataset(features)
    info = run.info()
    run.write("run.json", info.model_copy(update={"train": {**info.train, "patience": 1}}).to_json())
    short, long = run.member_runs()
    short.write("history.json", [short.history()[0].to_json()])
    for member, epochs in ((short, 1), (long, 2)):
        changed = member.trained().model_copy(update={"epoch": 1, "epochs": epochs})
        member.write("model.json", changed.to_json())
    save_ensemble(dataset, run, run.config())
    first, second = run.history()
    assert (run.trained().epochs, run.trained().epoch) == (2, 1)
    assert second.to_json() == long.history()[1].to_json()
    assert first.seconds == short.history()[0].seconds + long.history()[0].seconds
    evaluate_run(run, dataset)
    write_run_page(run, dataset)
    page, card = run.report.read().decode(), write_model_card(run, dataset)
    assert "the mean of 2 members, each trained for at most 2 epochs." in page
    assert "The curves are means over the members that were still training." in page
    assert "selected epoch" not in page
    for text in (page, card):
        assert "each after the best of at most 2 epochs on the validation fold" in text
    assert "| latest epoch that a member was saved after | 1 |" in card


@pytest.mark.slow
def test_an_ensemble_stopped_in_its_second_member_resumes_to_the_same_bits(ensemble, features, tmp_path):
    from support.training import figures, final_state, stop_when, trained

    from featurize.storage import StoragePath
    from jobs.terminal.status import progress_lines
    from train.errors import Stopped
    from train.evaluation.evaluate import evaluate_run
    from train.evaluation.inference import load_model
    from train.report.summary import summarize_run

    with pytest.raises(Stopped):
        trained(features, tmp_path, stop_when(21), **SETTINGS)  # a member has 18 calls
    assert (tmp_path / "members" / "0" / "model.keras").exists()
    assert not (tmp_path / "members" / "1" / "model.keras").exists()
    assert "members   1 of 2 trained\ntraining  unfinished:" in progress_lines(StoragePath.of(tmp_path))
    messages, _ = trained(features, tmp_path, **SETTINGS)
    assert not any("Member 1 of" in message for message in messages)
    for number in "01":
        one, other = tmp_path / "members" / number, ensemble / "members" / number
        assert final_state(one) == final_state(other)
        assert figures(one) == figures(other)
    weights = [load_model(Run(folder)).get_weights() for folder in (tmp_path, ensemble)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    dataset = open_dataset(features)
    metrics = [evaluate_run(Run(folder), dataset) for folder in (tmp_path, ensemble)]
    assert metrics[0].tracks == metrics[1].tracks
    *_, last = summarize_run(metrics[0], Run(tmp_path).config(), 2, {})
    assert last.endswith(
        "The model is the mean of 2 members, each after the best of its 2 epochs on the validation fold "
        "(track_macro_f1)."
    )


def test_embeddings_are_those_of_all_members(ensemble, features):
    from train.evaluation.embedder import Embedder

    rows = segments_of(features)[None]
    run = Run(ensemble)
    parts = [Embedder(member).embed(rows) for member, _ in members(run, run.config())]
    embedder = Embedder(run)
    assert embedder.size == sum(part.shape[-1] for part in parts)
    np.testing.assert_allclose(embedder.embed(rows), np.concatenate(parts, axis=-1), atol=1e-5)


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form == "keras" else pytest.mark.slow) for form in ExportFormat]
)
def test_an_ensemble_is_exported_as_one_model(form, ensemble, features, tmp_path):
    from train.export.export import export

    run, dataset = Run(ensemble), open_dataset(features)
    checked = export(run, dataset, form, tmp_path / f"model{form.suffix}")
    assert {difference.output for difference in checked[0].differences} == {"logits", "probabilities"}


def test_a_run_begins_with_the_weights_of_a_member_and_not_of_an_ensemble(ensemble, features, tmp_path):
    from support.training import trained

    with pytest.raises(TrainError, match=r"holds an ensemble of 2 models.*--from \S+/members/0"):
        trained(features, tmp_path / "run", start=ensemble)


@pytest.mark.slow
def test_an_average_and_an_ensemble_of_models_of_a_user(features, tmp_path):
    from support.training import trained

    from train.evaluation.inference import load_model

    path = tmp_path / "networks.py"
    path.write_text(NETWORK)
    trained(features, tmp_path / "run", model=f"{path}:build", **SETTINGS)
    run = Run(tmp_path / "run")
    model = load_model(run, trust_code=True)
    assert model(segments_of(features)).shape[1] == 3
    names = [layer.name for layer in load_model(Run(run.folder / "members" / "0"), trust_code=True).layers]
    assert names == [layer.name for layer in model.get_layer("member_0").layers]


def test_ensembles_with_other_seeds_have_no_member_in_common():
    seeds = {member_seed(seed, number) for seed in range(100) for number in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_what_an_ensemble_cannot_do_is_refused():
    with pytest.raises(ValueError, match="best_epoch_on_test = true requires ensemble = 1"):
        TrainConfig(ensemble=2, best_epoch_on_test=True)
    with pytest.raises(ValueError, match="ensemble = 2 requires workers = 1"):
        TrainConfig(ensemble=2, workers=2)
