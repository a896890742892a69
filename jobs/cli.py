"""Entry point: signals are handled before the first library is imported, which takes a fifth of a second."""

import jobs.import_path  # decides where the others come from
import jobs.supported_system  # noqa: F401 - refuses Windows, which lacks modules that the others import

# isort: split
import os

from featurize.execution.import_path import SAFE_PATH
from jobs.requirements import refuse_missing_packages, refuse_overwritten_package
from jobs.terminal.encoding import escape_unencodable, use_utf8
from jobs.terminal.signals import end_with


def main() -> None:
    """Run the command line and end the process."""
    use_utf8()
    escape_unencodable()
    os.environ.update(SAFE_PATH)  # also for processes that libraries start, such as those of multiprocessing
    end_with(_run)


def _run() -> None:
    if os.environ.get("RAY_ADDRESS"):  # in a job of a cluster, whose workers would fail later
        refuse_missing_packages()
    try:
        from jobs.commands.app import app
    except ModuleNotFoundError as error:
        refuse_missing_packages()
        refuse_overwritten_package(error)
        raise

    app()


if __name__ == "__main__":
    main()
