"""Exports: outputs equal those of the model, metadata are complete, and no Earmark is needed to run them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.command_line import earmark, earmark_here
from support.default_features import SETTINGS
from support.export import NAMES, TOLERANCE, TOLERANCE_DB, all_rows, differences, export, metadata, write_wav
from support.training import trained

from featurize.audio.filters import Filters
from featurize.audio.load import load
from featurize.dataset.dataset import open_dataset
from featurize.dataset_build.worker import featurize_track
from featurize.errors import FeaturizeError
from featurize.processes import temporary_name
from featurize.storage import StoragePath
from jobs.terminal.native_output import quiet_libraries
from train.errors import TrainError
from train.evaluation.metrics import softmax
from train.export.formats import ExportFormat
from train.export.writers import WRITERS

pytestmark = pytest.mark.usefixtures("logical_cpus")

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "export.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="session")
def exports(export_run, tmp_path_factory):
    """A folder with all four exports of one model, and the printed lines of each."""
    folder = tmp_path_factory.mktemp("exports")
    return folder, {form: export(export_run, form, folder / name) for form, name in NAMES.items()}


@pytest.fixture(scope="module")
def filters():
    return Filters.from_librosa(SETTINGS)


def test_every_example_runs_without_earmark_and_equals_the_model(
    exports, export_run, features, music, filters, tmp_path
):
    folder, _ = exports
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "features").symlink_to(features)
    settings = open_dataset(features).info.settings
    write_wav(tmp_path / "song.wav", load(StoragePath.of(music / "bells" / "3-0.wav"), settings))
    hidden = "import sys\nsys.modules |= dict.fromkeys(['featurize', 'train', 'jobs', 'librosa', 'soundfile'])\n"
    collect = "\nimport numpy\nresults = [*globals().get('results', []), (probabilities.tolist(), classes)]\n"
    rows, *others = EXAMPLES
    program = hidden + rows + "".join(example + collect for example in others)
    program += "import json\njson.dump(results, open('answers.json', 'w'))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "answers.json").read_text())
    assert len(results) == 5
    model = keras.models.load_model(export_run / "model.keras", compile=False)
    expected = softmax(np.asarray(model(all_rows(features))))
    for probabilities, classes in results[:4]:
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
        assert classes == ["bells", "pulses", "reeds"]
    mfcc, _ = featurize_track(StoragePath.of(tmp_path / "song.wav"), settings, filters)
    probabilities, classes = results[4]
    np.testing.assert_allclose(probabilities, softmax(np.asarray(model(mfcc))).mean(axis=0), rtol=0, atol=1e-3)
    assert classes == ["bells", "pulses", "reeds"]


def test_formats_writers_and_packages_agree():
    assert list(WRITERS) == list(ExportFormat) == list(NAMES)
    assert {form: Path(NAMES[form]).suffix for form in ExportFormat} == {
        form: form.suffix for form in ExportFormat
    }
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extra = {re.split("[<>=]", line)[0].replace("-", "_") for line in project["optional-dependencies"]["export"]}
    assert {package for form in ExportFormat for package in form.packages} == extra
    assert {form: form.packages for form in ExportFormat if form.packages} == {
        "tflite": ("ai_edge_litert",),
        "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    }


@pytest.mark.parametrize("form", NAMES)
def test_an_export_has_metadata_and_differs_from_the_model_within_tolerance(exports, export_run, form):
    folder, printed = exports
    about = metadata(folder / NAMES[form], form)
    model_info = json.loads((export_run / "model.json").read_text())
    for key in ("classes", "features", "dataset", "epoch"):
        assert about[key] == model_info[key]
    assert about["format"] == form
    assert about["normalization"].startswith("inside")
    assert list(about["signatures"]) == (["mfcc", "samples"] if form == "savedmodel" else ["mfcc"])
    assert f"exported  {folder / NAMES[form]} ({form}, " in printed[form]
    assert "checked   64 rows of the dataset: " in printed[form]
    found = differences(printed[form])
    limits = {"logits": TOLERANCE, "probabilities": TOLERANCE}
    if form == "savedmodel":
        limits |= {"mfcc dB": TOLERANCE_DB, "start s": 0}
        limits |= {"segment_logits": TOLERANCE, "segment_probabilities": TOLERANCE}
    assert found.keys() == limits.keys()
    assert all(found[output] <= limit for output, limit in limits.items())


def test_only_the_exports_are_left_in_the_folder(exports):
    assert sorted(os.listdir(exports[0])) == sorted(NAMES.values())


def test_signatures_equal_the_metadata(exports):
    model = tf.saved_model.load(exports[0] / "model")
    assert set(model.signatures) == {"mfcc", "serving_default", "samples"}
    about = metadata(exports[0] / "model", "savedmodel")
    for name, signature in about["signatures"].items():
        assert set(model.signatures[name].structured_outputs) == set(signature["outputs"])
        assert set(model.signatures[name].structured_input_signature[1]) == set(signature["inputs"])


def test_tflite_and_onnx_accept_any_number_of_rows_and_name_their_outputs(exports, features):
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    rows = all_rows(features)[:5]
    lite = Interpreter(str(exports[0] / "model.tflite"))
    assert lite.get_signature_list() == {"mfcc": {"inputs": ["mfcc"], "outputs": ["logits", "probabilities"]}}
    session = onnxruntime.InferenceSession(exports[0] / "model.onnx")
    assert [(put.name, put.shape) for put in session.get_inputs()] == [("mfcc", ["batch", 40, 217])]
    assert {(put.name, *put.shape) for put in session.get_outputs()} == {
        ("logits", "batch", 3),
        ("probabilities", "batch", 3),
    }
    runner = lite.get_signature_runner("mfcc")
    for count in (5, 1):
        logits, probabilities = session.run(["logits", "probabilities"], {"mfcc": rows[:count]})
        found = runner(mfcc=rows[:count])
        np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found["probabilities"], softmax(logits), rtol=0, atol=1e-6)
        np.testing.assert_allclose(probabilities, softmax(logits), rtol=0, atol=1e-6)


def test_a_model_of_mixed_precision_is_exported_in_float32(features, tmp_path):
    trained(features, tmp_path / "run", model="modulation", precision="mixed_bfloat16")
    for form, name in NAMES.items():
        found = differences(export(tmp_path / "run", form, tmp_path / name))
        assert max(found["logits"], found["probabilities"]) <= TOLERANCE
        assert metadata(tmp_path / name, form)["normalization"].startswith("none")
    exported = keras.models.load_model(tmp_path / "model.keras")
    assert {layer.dtype_policy.name for layer in exported.layers} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "normalize"), [("conv2", False), ("conv3", False), ("conv3-norm", True), ("modulation", False)]
)
def test_every_model_is_exported_in_every_format(model, normalize, features, tmp_path):
    trained(features, tmp_path / "run", model=model, normalize=normalize)
    for form, name in NAMES.items():
        found = differences(export(tmp_path / "run", form, tmp_path / name))
        assert max(found["logits"], found["probabilities"]) <= TOLERANCE


NETWORKS = """
import keras

def unnamed(input_shape, classes, config):
    x = keras.layers.Dense(4, name="probabilities")(inputs := keras.Input(input_shape))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling1D()(x)))

def recurrent(input_shape, classes, config):
    layers = keras.Input(input_shape), keras.layers.GRU(4), keras.layers.Dense(classes)
    return keras.Sequential(layers)

def loud(input_shape, classes, config):
    many = keras.layers.Dense(classes, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), many])
"""


@pytest.mark.parametrize("normalize", [False, True])
def test_the_names_of_an_export_do_not_depend_on_those_of_the_layers(normalize, features, tmp_path):
    (tmp_path / "nets.py").write_text(NETWORKS)
    trained(features, tmp_path / "run", model=f"{tmp_path}/nets.py:unnamed", epochs=1, normalize=normalize)
    for form, name in NAMES.items():
        export(tmp_path / "run", form, tmp_path / name)
    rows = all_rows(features)[:2]
    path = tmp_path / NAMES["onnx"]
    assert WRITERS[ExportFormat.onnx].outputs(path, "mfcc", rows).keys() == {"logits", "probabilities"}
    loaded = tf.saved_model.load(tmp_path / NAMES["savedmodel"])
    assert loaded.signatures["mfcc"](mfcc=tf.constant(rows)).keys() == {"logits", "probabilities"}
    assert "mfcc" in loaded.signatures["samples"].structured_outputs


def test_a_model_that_a_format_cannot_hold_is_refused_with_the_reason(features, tmp_path):
    (tmp_path / "nets.py").write_text(NETWORKS)
    trained(features, tmp_path / "run", model=f"{tmp_path}/nets.py:recurrent", epochs=1)
    with pytest.raises(
        TrainError, match=r"cannot be exported as tflite.*ConverterError(.|\n)*Try another --format"
    ):
        export(tmp_path / "run", "tflite", tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_large_logits_may_differ_by_more_than_small_ones(features, tmp_path):
    (tmp_path / "nets.py").write_text(NETWORKS)
    trained(features, tmp_path / "run", model=f"{tmp_path}/nets.py:loud", epochs=1)
    printed = export(tmp_path / "run", "tflite", tmp_path / "model.tflite")
    assert differences(printed)["logits"] > TOLERANCE


def test_the_command_prints_only_the_export_and_its_differences(export_run, tmp_path):
    done = earmark("export", export_run, "--format", "tflite", "--out", tmp_path / "deep" / "model.tflite")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.startswith(f"exported  {tmp_path / 'deep' / 'model.tflite'} (tflite, ")
    assert differences(done.stdout).keys() == {"logits", "probabilities"}
    assert os.listdir(tmp_path / "deep") == ["model.tflite"]
    unknown = earmark_here("export", export_run, "--format", "pickle", "--out", tmp_path / "model.pickle")
    assert unknown.returncode == 2
    assert all(repr(form) in unknown.stderr for form in NAMES)


def test_an_impossible_export_is_refused_at_once(export_run, tmp_path, monkeypatch):
    (tmp_path / "begun").mkdir()
    shutil.copy(export_run / "run.json", tmp_path / "begun")
    with pytest.raises(TrainError, match=r"holds no trained model\. Continue its training"):
        export(tmp_path / "begun", "keras", tmp_path / "model.keras")
    with pytest.raises(TrainError, match=r"expected a name that ends in \.keras"):
        export(export_run, "keras", tmp_path / "model.h5")
    with pytest.raises(TrainError, match=r"s3://bucket/model\.onnx: expected a path on this machine"):
        export(export_run, "onnx", "s3://bucket/model.onnx")
    (tmp_path / "model").mkdir()
    with pytest.raises(TrainError, match="this path exists already"):
        export(export_run, "savedmodel", tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TrainError, match=r"needs onnxruntime, .*pip install 'earmark\[export\]'"):
        export(export_run, "onnx", tmp_path / "model.onnx")
    assert sorted(os.listdir(tmp_path)) == ["begun", "model"]


def test_the_dataset_may_move_but_must_be_the_same(export_run, features, tmp_path):
    lost = tmp_path / "run"
    shutil.copytree(export_run, lost)
    begun = json.loads((export_run / "run.json").read_text())
    (lost / "run.json").write_text(json.dumps({**begun, "features": "/was/here"}))
    with pytest.raises(TrainError, match=r"no longer at /was/here\. .* --features FEATURES"):
        export(lost, "keras", tmp_path / "model.keras")
    for command in (["evaluate", lost], ["report", lost], ["card", lost]):
        done = earmark_here(*command)
        assert (done.returncode, "no longer at /was/here. Give its folder: --features" in done.stderr) == (1, True)
    assert "64 rows" in export(lost, "keras", tmp_path / "model.keras", StoragePath.of(features))
    other = tmp_path / "features"
    shutil.copytree(features, other)
    info = json.loads((features / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**info, "id": "0123456789abcdef"}))
    with pytest.raises(TrainError, match=r"is 0123456789abcdef\. Give the folder of that dataset with --features"):
        export(export_run, "keras", tmp_path / "another.keras", StoragePath.of(other))


@pytest.mark.slow
@pytest.mark.parametrize("form", NAMES)
def test_a_full_disk_is_named_and_nothing_is_left(form, export_run, tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small tmpfs on this machine")
    try:
        done = earmark("export", export_run, "--format", form, "--out", tmp_path / NAMES[form])
        assert done.stderr == f"earmark: No space left on device ({tmp_path / NAMES[form]}).\n"
        assert done.returncode == 1
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_a_killed_export_left_is_removed_by_the_next(export_run, tmp_path):
    code = "from featurize.processes import temporary_name; print(temporary_name())"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    others = [".earmark-notes", f"{gone}.mine", temporary_name()]
    for name in (gone, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    export(export_run, "keras", tmp_path / "model.keras")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "model.keras"])


def test_an_export_that_differs_from_the_model_is_removed(export_run, tmp_path, monkeypatch):
    """float32 rounds logits of millions to tenths, and each runtime adds in another order."""
    monkeypatch.setattr("train.export.comparison.TOLERANCE", 1e-12)
    folder = tmp_path / "run"
    shutil.copytree(export_run, folder)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1e7)
    model.save(folder / "model.keras")
    with pytest.raises(TrainError, match=r"(?s)as tflite differ from the model's:\n  - \S+ in logits on 64 rows"):
        export(folder, "tflite", tmp_path / "out" / "model.tflite")
    assert os.listdir(tmp_path / "out") == []


def test_features_of_another_version_are_refused(export_run, features, tmp_path):
    shutil.copytree(export_run, tmp_path / "run")
    about = json.loads((export_run / "model.json").read_text())
    about["features"] |= {"top_db": 60.0, "pre_emphasis": 0.97}
    (tmp_path / "run" / "model.json").write_text(json.dumps(about))
    with pytest.raises(FeaturizeError, match="cannot compute: pre_emphasis is not a known key"):
        export(tmp_path / "run", "savedmodel", tmp_path / "model", StoragePath.of(features))
    assert not (tmp_path / "model").exists()


def test_output_of_libraries_is_shown_only_if_they_fail(capfd):
    def write(text, error=None):
        with quiet_libraries(TrainError):
            os.write(2, text)
            if error:
                raise error

    write(b"one")
    with pytest.raises(TrainError):
        write(b"two", TrainError())
    with pytest.raises(ValueError, match="broken"):
        write(b"three", ValueError("broken"))
    os.write(2, b", four")
    assert capfd.readouterr().err == "three, four"
