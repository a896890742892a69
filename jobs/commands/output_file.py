"""The option `--out` of commands that write one file."""

from featurize.storage import StoragePath
from jobs.errors import ConfigError


def output_file(out: str, example: str) -> StoragePath:
    """Return the place of `--out`, before hours of work.

    Args:
        out: Value of the option.
        example: Name of a file, for the error message.

    Raises:
        ConfigError: It is a folder.
    """
    file = StoragePath.of(out)
    if file.is_folder():
        raise ConfigError(f"--out {file} is a folder. Give a file in it: --out {(file / example).quoted}")
    return file
