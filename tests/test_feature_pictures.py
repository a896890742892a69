"""Pictures of features have axes with units and a color bar for each derivative."""

import base64
import re

import numpy as np
import pytest

from featurize.config import FeaturizeConfig
from featurize.planning.shard_plan import feature_settings
from train.report.figures import draw_segment


def texts(values):
    """Return the texts of a picture of random features, coefficient 0 much larger than the others."""
    settings = feature_settings(FeaturizeConfig(**values))
    segment = np.random.default_rng(0).standard_normal(settings.shape).astype(np.float32)
    segment[0] -= 500
    picture = draw_segment(segment, settings)
    light, dark = (base64.b64decode(uri.partition(",")[2]).decode() for uri in (picture.light, picture.dark))
    found = [re.findall(r"<text[^>]*>([^<]*)</text>", image) for image in (light, dark)]
    assert found[0] == found[1]
    assert light.count("<image") == 2 * (1 + settings.deltas)  # features and color bar
    return found[0]


def test_mfcc_have_coefficients_and_colors_for_all_but_the_first():
    found = texts({})
    assert {"seconds", "coefficient", "dB"} <= {*found}
    minus = "\N{MINUS SIGN}"
    numbers = [float(text.replace(minus, "-")) for text in found if re.fullmatch(rf"[{minus}\d.]+", text)]
    assert min(numbers) == pytest.approx(-2, abs=1)  # 500 dB below all others is beyond the end


def test_log_mel_bands_have_frequencies():
    found = texts({"kind": "log_mel", "segment_frames": 44})
    assert {"seconds", "Hz", "dB", "8,000", "1,000"} <= {*found}


def test_derivatives_have_their_own_units():
    found = texts({"deltas": 2, "segment_frames": 44})
    assert [text for text in found if text.startswith("dB")] == ["dB", "dB / frame", "dB / frame²"]
    assert found.count("coefficient") == 3
