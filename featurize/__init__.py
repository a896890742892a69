"""Audio files to Parquet shards of MFCC segments.

- `collection` lists the tracks of a folder or table.
- `audio` decodes a file to samples and computes MFCC.
- `dataset` defines the format on disk and reads it; `train` reads datasets through it.
- `planning` assigns tracks to folds and shards.
- `execution` runs plans on Ray workers or in subprocesses, with retries.
- `dataset_build` combines them: it builds, finalizes and verifies a dataset.
"""
