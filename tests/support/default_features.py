"""The default feature settings, and constants that follow from them."""

from featurize.config import FeaturizeConfig
from featurize.planning.shard_plan import feature_settings

SETTINGS = feature_settings(FeaturizeConfig())
FORMAT = SETTINGS.format
SHAPE = SETTINGS.shape  # 40 x 217
SAMPLE_RATE = SETTINGS.sample_rate
SEGMENT_SAMPLES = SETTINGS.segment_samples
HOP_LENGTH = SETTINGS.hop_length
