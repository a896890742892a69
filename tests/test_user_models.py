"""Models that a function of the user builds: checked, copied into the run, resumed, and never run unasked."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from support.export import NAMES, TOLERANCE, differences, export
from support.training import QUICK, figures, final_state, stop_when, trained

from jobs.config import load_config, to_yaml
from jobs.remote.code_bundle import SETTINGS, pack, sizes
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.model.code_file import FOLDER, code_of_run, keep_code, read_code, settle_code
from train.model_names import parse_function
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

# A graph with a branch, dropout in it, a custom layer class, and batch normalization.
NETWORK = """
import keras


@keras.saving.register_keras_serializable(package="tests")
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


def build(input_shape, classes, config):
    width = config.model_settings.get("width", 8)
    inputs = keras.Input(input_shape)
    x = keras.layers.Permute((2, 1))(inputs)
    x = keras.layers.Conv1D(width, 5, strides=4, activation="relu", name="first")(x)
    y = keras.layers.Conv1D(width, 3, padding="same", activation="relu", name="second")(x)
    y = keras.layers.BatchNormalization(momentum=0.9, name="norm")(y)
    y = keras.layers.Dropout(config.dropout, name="dropped")(y)
    x = Scale(name="scale")(keras.layers.Add(name="sum")([x, y]))
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32", name="logits")(x))
"""
SETTINGS_OF_RUN = {"normalize": True, "model_settings": {"width": 12}, "mixup": 0.3}


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "my_networks.py"
    path.write_text(NETWORK)
    return path


def refused(tmp_path, body, **settings):
    """Return the message about a function `build` with some lines."""
    from train.fit.model_checks import refuse_unsuitable
    from train.model.custom import call_builder, start_build

    path = tmp_path / "tried.py"
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = "import keras\nimport numpy as np\nL = keras.layers\n\ndef build(input_shape, classes, config):"
    path.write_text(f"{head}\n{lines}\n")
    config = TrainConfig(model=f"{path}:build", **settings)

    def built():
        start_build(0)
        return call_builder(read_code(config.model), (40, 217), 3, config, config.precision)

    with pytest.raises(TrainError) as error:
        refuse_unsuitable(built(), built(), "tried.py:build", (40, 217), 3, 100)
    return str(error.value)


def test_the_setting_names_a_file_or_a_module():
    for text, source, file in (
        ("my_networks.py:build", "my_networks.py", "my_networks.py"),
        ("/home/me/nets.py:build", "/home/me/nets.py", "nets.py"),
        (
            "s3://b/nets.py?endpoint_override=http://h:1:build",
            "s3://b/nets.py?endpoint_override=http://h:1",
            "nets.py",
        ),
        ("package.module:build", "package.module", "module.py"),
    ):
        name = parse_function(text)
        assert (name.source, name.file, name.function) == (source, file, "build")
        assert TrainConfig(model=text).is_users_model
    for text in ("conv2", "conv4", "nets.py", "nets.py:", "a-b:build", "nets.py:a.b"):
        assert parse_function(text) is None
    with pytest.raises(ValidationError, match=r"FILE\.py:FUNCTION"):
        TrainConfig(model="conv4")


def test_settings_of_a_model_are_plain_data_and_survive_yaml(tmp_path):
    text = "train.model_settings={width: 64, names: [a, 'b: c'], deep: {x: null}}"
    config = load_config(None, ["train.model=a.py:build", text, "train.freeze=[first, second]"])
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert load_config(file, []) == config
    assert config.train.model_settings == {"width": 64, "names": ["a", "b: c"], "deep": {"x": None}}
    for value, message in (({"a": {1: 2}}, "keys are texts"), ({"a": object()}, "numbers, texts, lists")):
        with pytest.raises(ValidationError, match=message):
            TrainConfig(model="a.py:build", model_settings=value)
    with pytest.raises(ValidationError, match="not for model = conv2"):
        TrainConfig(model="conv2", model_settings={"width": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(:\n", "my_networks.py, line 1: not Python"),
        ("def other(): pass\n", "defines no build at its top level"),
        ("from .layers import x\ndef build(): pass\n", "imports .layers of the same package"),
        ("x = '" + "a" * 1_000_001 + "'", "more than 1,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_it_is_executed(text, message, network):
    network.write_text(text)
    with pytest.raises(TrainError, match=message):
        read_code(f"{network}:build")


def test_a_module_is_found_without_being_executed(tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "networks.py").write_text("raise SystemExit\ndef build(): pass\n")
    (package / "spread.py").write_text("import my_package.networks\ndef build(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    code = read_code("my_package.networks:build")
    assert code.content == (package / "networks.py").read_bytes()
    assert code.name.recorded == "networks.py:build"
    with pytest.raises(TrainError, match=r"imports my_package\.networks of the same package"):
        read_code("my_package.spread:build")
    with pytest.raises(TrainError, match="Python finds no such module"):
        read_code("my_package.missing:build")
    with pytest.raises(TrainError, match=r"cannot read the file: .*missing\.py"):
        read_code(f"{tmp_path}/missing.py:build")


def test_an_exception_is_shown_with_the_lines_of_the_user(tmp_path):
    message = refused(tmp_path, "def inner():\n    return keras.layers.Dense('many')\nreturn inner()")
    assert message.startswith("tried.py:build cannot build a model for (40, 217) and 3 classes: ValueError: ")
    lines = message.splitlines()[1:]
    assert lines[0] == "  tried.py, line 8, in build: return inner()"
    assert lines[1] == "  tried.py, line 7, in inner: return keras.layers.Dense('many')"
    assert len(lines) == 2
    message = refused(tmp_path, "import sound_library_of_nobody")
    assert "ModuleNotFoundError" in message
    assert "must be installed, here and on every node" in message


BREACHES = {
    "return 5": "it is int, expected a Keras model",
    "return keras.Sequential([L.Flatten(), L.Dense(classes)])": "begin with keras.Input",
    "raise SystemExit('no such width')": "SystemExit: no such width",
    """
x = L.Flatten()(inputs := keras.Input(input_shape))
return keras.Model(inputs, L.Dense(classes, activation="sigmoid")(x))
""": "outputs have the activation sigmoid",
    "return type('Mine', (keras.Model,), {})()": "a subclass of keras.Model (Mine)",
    "return keras.Sequential([keras.Input((40, 99)), L.Flatten(), L.Dense(2)])": (
        "input has the shape (None, 40, 99), expected (None, 40, 217)",
        "output has the shape (None, 2), expected (None, 3)",
    ),
    # Several at once.
    """
x = inputs = keras.Input(input_shape)
x = L.GaussianNoise(1.0, name="noise")(x)
x = keras.Sequential([L.Dropout(0.5, name="hidden")], name="inner")(x)
x = L.Lambda(lambda x: x * 2, name="twice", output_shape=(40, 217))(x)
x = L.BatchNormalization(name="norm")(L.Flatten()(x))
return keras.Model(inputs, L.Dense(classes, kernel_regularizer="l2")(x))
""": (
        "noise draws random numbers",
        "inner/hidden draws random numbers",
        "twice is a Lambda layer",
        "norm has momentum 0.99: after the 100 steps of this training, its statistics would still be 37%",
        "kernel_regularizer or an activity_regularizer, which training ignores",
    ),
    """
x = L.Dense(4, activity_regularizer="l2")(L.Flatten()(inputs := keras.Input(input_shape)))
return keras.Model(inputs, L.Dense(classes)(x))
""": ("activity_regularizer, which training ignores",),
    """
dropout = L.Dropout(0.5, name="again")
x = inputs = keras.Input(input_shape)
x = L.Dense(4)(dropout(L.Dense(4)(dropout(x))))
x = L.Dropout(0.5, noise_shape=(None, 1, 4), name="shaped")(x)
return keras.Model(inputs, L.Dense(classes, activation="softmax")(L.Flatten()(x)))
""": ("again is used 2 times", "shaped has a noise_shape", "outputs are probabilities: leave out the softmax"),
    """
class Across(L.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0)
return keras.Sequential([keras.Input(input_shape), L.Flatten(), Across(), L.Dense(classes)])
""": ("depend on the other rows of its batch", "register_keras_serializable"),
    """
@keras.saving.register_keras_serializable()
class Counter(L.Layer):
    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")
    def call(self, x):
        self.seen.assign_add(1.0)
        return x * keras.ops.stop_gradient(self.seen)
return keras.Sequential([keras.Input(input_shape), L.Flatten(), Counter(), L.Dense(classes)])
""": ("seen changes in training",),
    """
w = keras.initializers.Constant(np.random.default_rng().normal())
return keras.Sequential([keras.Input(input_shape), L.Flatten(), L.Dense(classes, kernel_initializer=w)])
""": "returns another model each time",
    """
@keras.saving.register_keras_serializable()
class Scaled(L.Layer):
    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by
    def call(self, x):
        return x * self.by
    def get_config(self):
        return {"name": self.name}
return keras.Sequential([keras.Input(input_shape), L.Flatten(), Scaled(by=3.0), L.Dense(classes)])
""": "get_config of a layer lacks an argument",
}


@pytest.mark.parametrize("body", BREACHES, ids=range(len(BREACHES)))
def test_breaches_are_named_all_at_once(body, tmp_path):
    message = refused(tmp_path, body)
    expected = BREACHES[body]
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in message
    count = 1 if isinstance(expected, str) else len(expected)
    assert len(message.splitlines()) == 1 + count, message


def test_logits_in_half_precision_are_refused(tmp_path):
    body = "return keras.Sequential([keras.Input(input_shape), L.Flatten(), L.Dense(classes)])"
    assert "logits are float16, expected float32" in refused(tmp_path, body, precision="mixed_float16")


def test_recurrent_layers_without_dropout_are_accepted(tmp_path):
    import keras

    from train.fit.forward import random_layers

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((40, 217)), layers.Bidirectional(layers.LSTM(2, name="l")), layers.Dense(3)]
    )
    assert random_layers(model) == []
    model = keras.Sequential([keras.Input((40, 217)), layers.GRU(2, dropout=0.1, name="g"), layers.Dense(3)])
    assert random_layers(model) == ["g"]


@pytest.mark.parametrize("structure", ["[inputs], [logits]", '{"mfcc": inputs}, {"logits": logits}'])
def test_a_single_input_and_output_may_be_in_a_list_or_dict(structure, features, tmp_path):
    (tmp_path / "nets.py").write_text(
        "import keras\n\ndef build(input_shape, classes, config):\n"
        "    inputs = keras.Input(input_shape, name='mfcc')\n"
        "    x = keras.layers.Dropout(0.1)(keras.layers.GlobalAveragePooling1D()(inputs))\n"
        "    logits = keras.layers.Dense(classes, name='logits')(x)\n"
        f"    return keras.Model({structure})\n"
    )
    _, epochs = trained(features, tmp_path / "run", model=f"{tmp_path}/nets.py:build", epochs=1)
    assert len(epochs) == 1


@pytest.fixture(scope="module")
def whole(features, tmp_path_factory):
    """A finished run of the network, and its file."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "my_networks.py").write_text(NETWORK)
    trained(features, folder / "run", model=f"{folder}/my_networks.py:build", **SETTINGS_OF_RUN)
    return folder


def test_a_run_has_the_code_and_its_digest_and_no_path(whole):
    run = Run(whole / "run")
    info = json.loads((whole / "run" / "run.json").read_text())
    assert info["train"]["model"] == "my_networks.py:build"
    assert info["model_code"]["sha256"] == code_of_run(run).sha256
    assert (whole / "run" / FOLDER / "my_networks.py").read_text() == NETWORK
    assert str(whole) not in (whole / "run" / "run.json").read_text()


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_bit_with_its_copy(whole, features, network):
    out, setting = network.parent / "run", f"{network}:build"
    with pytest.raises(Stopped):
        trained(features, out, stop_when(3), model=setting, **SETTINGS_OF_RUN)
    network.write_text(NETWORK.replace("momentum=0.9", "momentum=0.5"))
    messages, _ = trained(features, out, model=setting, **SETTINGS_OF_RUN)
    assert [text for text in messages if "has changed since this run began" in text]
    assert final_state(out) == final_state(whole / "run")
    assert figures(out) == figures(whole / "run")
    network.unlink()
    messages, epochs = trained(features, out, model=setting, **SETTINGS_OF_RUN)
    assert not epochs
    assert [text for text in messages if "is not here; the run continues with its copy" in text]
    (out / FOLDER / "my_networks.py").write_text(NETWORK + "\n")
    with pytest.raises(TrainError, match="was changed after the run began"):
        trained(features, out, model=setting, **SETTINGS_OF_RUN)


def test_until_the_first_checkpoint_a_corrected_file_is_used(features, network):
    out, setting = network.parent / "run", f"{network}:build"
    network.write_text(NETWORK.replace("momentum=0.9", "momentum=0.999"))
    with pytest.raises(TrainError, match=r"norm has momentum 0\.999"):
        trained(features, out, model=setting, epochs=1)
    network.write_text(NETWORK)
    _, code = settle_code(Run(out), TrainConfig(model=setting))
    assert code.content == NETWORK.encode()
    assert code_of_run(Run(out)).content != code.content


@pytest.mark.slow
def test_two_replicas_learn_what_one_does(whole, features, tmp_path):
    setting = f"{whole}/my_networks.py:build"
    trained(features, tmp_path / "two", model=setting, replicas=2, **SETTINGS_OF_RUN)
    one, two = figures(whole / "run"), figures(tmp_path / "two")
    for first, second in zip(one, two, strict=True):
        assert first["train"]["loss"] == pytest.approx(second["train"]["loss"], rel=1e-3)


def test_code_of_a_stranger_runs_only_if_it_is_trusted(whole, tmp_path, monkeypatch):
    import keras

    from train.evaluation.inference import TrainedClassifier

    shutil.copytree(whole / "run", tmp_path / "run")
    (marker, run) = (tmp_path / "executed", Run(tmp_path / "run"))
    code = f"open({str(marker)!r}, 'w').close()\n{NETWORK}"
    (tmp_path / "run" / FOLDER / "my_networks.py").write_text(code)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    monkeypatch.setattr("keras.saving.get_custom_objects", keras.saving.get_custom_objects)
    keras.saving.get_custom_objects().clear()  # as in a new process
    for name in [name for name in sys.modules if name.startswith("earmark_model_")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(TrainError, match=r"has custom layers.*add --trust-code"):
        TrainedClassifier(run)
    with pytest.raises(TrainError, match="was changed after the run began"):
        TrainedClassifier(run, trust_code=True)
    assert not marker.exists()
    info["model_code"]["sha256"] = read_code(f"{tmp_path}/run/{FOLDER}/my_networks.py:build").sha256
    run.write("run.json", info)
    with pytest.raises(TrainError, match="add --trust-code"):
        TrainedClassifier(run)
    assert not marker.exists()
    mfcc = np.zeros((1, 2, 40, 217), np.float32)
    assert TrainedClassifier(run, trust_code=True).probabilities(mfcc).shape == (1, 2, 3)
    assert marker.exists()


def test_a_job_gets_the_file(network, tmp_path):
    import typer

    from jobs.commands.app import app
    from jobs.remote.remote_command import read_command

    commands = typer.main.get_command(app).commands
    words = ["train", "s3://b/f", "--out", "s3://b/r", "--set", f"train.model={network}:build"]
    remote = read_command(commands, words)
    assert remote.code == {f"{FOLDER}/my_networks.py": NETWORK.encode()}
    assert sizes({}, remote.settings, remote.code)[f"{FOLDER}/my_networks.py"] == len(NETWORK)
    pack({}, remote.settings, remote.code, tmp_path / "job")
    config = load_config(tmp_path / "job" / SETTINGS, [])
    assert config.train.model == f"{FOLDER}/my_networks.py:build"
    assert parse_function(config.train.model).recorded == "my_networks.py:build"


def test_layers_inside_other_layers_are_exported_in_float32(features, tmp_path):
    """After training in mixed precision, which TensorFlow Lite and ONNX Runtime do not know."""
    file = tmp_path / "nets.py"
    file.write_text(
        """
import keras

def build(input_shape, classes, config):
    inputs = keras.Input(input_shape)
    x = keras.layers.Permute((2, 1))(inputs)
    x = keras.layers.Conv1D(8, 5, strides=8)(x)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))
"""
    )
    run = tmp_path / "run"
    trained(features, run, model=f"{file}:build", precision="mixed_bfloat16", normalize=True, epochs=1)
    for form, name in NAMES.items():
        found = differences(export(run, form, tmp_path / name))
        assert max(found["logits"], found["probabilities"]) <= TOLERANCE


def test_all_folds_of_a_cross_validation_have_the_same_file(network, tmp_path):
    config = QUICK.model_copy(update={"model": f"{network}:build"})
    kept = keep_code(Run(tmp_path / "folds").folder, config, begun=False)
    network.write_text("def build(): pass\n")
    assert keep_code(Run(tmp_path / "folds").folder, config, begun=True) == kept
    assert read_code(kept.model).content == NETWORK.encode()


def test_the_example_of_the_page_is_the_file_and_can_be_trained():
    from train.fit.model_checks import refuse_unsuitable
    from train.model.custom import call_builder, start_build

    docs = Path(__file__).parent.parent / "docs"
    assert f"```python\n{(docs / 'my_networks.py').read_text()}```" in (docs / "models.md").read_text()
    config = TrainConfig(model=f"{docs}/my_networks.py:build", model_settings={"width": 16})
    code = read_code(config.model)
    for precision in ("float32", "mixed_float16"):
        builds = []
        for _ in range(2):
            start_build(0)
            builds.append(call_builder(code, (40, 217), 3, config, precision))
        refuse_unsuitable(*builds, code.name.recorded, (40, 217), 3, 1000)
