"""The fuzzers, for a few seconds of each target: nothing unexpected, and none of them is idle."""

import os
from pathlib import Path

import pytest
from fuzz.runner import fuzz, make_seeds
from fuzz.targets import TARGETS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return make_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_refused_by_an_expected_error(target, seeds, tmp_path, monkeypatch):
    # The child process imports the fuzzers, too.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    found = fuzz(target, 7, 15, *seeds, tmp_path)
    print(found)
    assert found.inputs >= (1 if target == "model" else 20)
    assert not found.examples
    assert not found.unexpected
    assert not found.too_slow
