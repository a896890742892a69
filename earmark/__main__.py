"""Entry point: import `jobs` from the folder of this package, whatever else has that name, and start it.

No other module is imported before `jobs.import_path` has removed the working directory from the search path.
"""

import os
import sys

_INSTALLATION = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def main() -> None:
    """Run the command line and end the process."""
    sys.path.insert(0, _INSTALLATION)
    import jobs  # noqa: F401 - from there

    del sys.path[0]  # modules of `site-packages` must not come before the standard library

    from jobs.cli import main as run

    run()


if __name__ == "__main__":
    main()
