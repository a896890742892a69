"""Audio files to Parquet shards of MFCC segments.

`catalog` finds the tracks and `folds` deals them out; `shards` cuts them into pieces of work; `driver`
gives the pieces to Ray; `worker` turns one piece into one Parquet file through `audio` (bytes to samples)
and `mfcc` (samples to features); `dataset` is the format on disk, and the one module that `train` uses.
"""
