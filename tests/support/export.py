"""Export a model, and read what an export has and what the command printed about it."""

import json
import re
import wave
import zipfile

import numpy as np

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group
from featurize.storage import StoragePath
from jobs.inference.export import export_model
from support.default_features import SAMPLE_RATE
from train.export.formats import ExportFormat

NAMES = {"keras": "model.keras", "savedmodel": "model", "tflite": "model.tflite", "onnx": "model.onnx"}
TOLERANCE = 1e-4
TOLERANCE_DB = 0.05


def export(run, form, out, features=None):
    return export_model(StoragePath.of(run), features, ExportFormat(form), str(out))


def differences(printed):
    """Return the largest differences in the lines `checked`, by output name."""
    found = {}
    for line in printed.splitlines()[1:]:
        assert line.startswith("checked ")
        for largest, unit, output in re.findall(r"(\d\.\de[+-]\d\d) ?(dB|s)? in (\w+)", line):
            found.setdefault(f"{output} {unit}".strip(), []).append(float(largest))
    return {output: max(values) for output, values in found.items()}


def all_rows(features):
    dataset = open_dataset(features)
    groups = [(shard, index) for shard in dataset.shards for index in range(len(shard.row_groups))]
    return np.concatenate([read_row_group(*group)[0] for group in groups])


def metadata(path, form):
    """Read `earmark.json` as docs/export.md describes."""
    if form == "savedmodel":
        return json.loads((path / "assets.extra" / "earmark.json").read_text())
    if form == "onnx":
        import onnx

        [entry] = onnx.load(path).metadata_props
        assert entry.key == "earmark.json"
        return json.loads(entry.value)
    return json.loads(zipfile.ZipFile(path).read("earmark.json"))


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
