"""Leave the working directory off the search path of `python -m jobs.cli`; imported before everything else.

`-m` puts the working directory first on the path, and there may be any file in it: with `typer.py` in a folder of
downloaded music, the next import would run it. The console script `earmark` has no such entry. If the code itself
is in the working directory, as in a checkout and in a job on a cluster, the entry stays.
"""

import os
import sys

_program = sys.modules["__main__"].__spec__  # None unless it was started with -m
if _program is not None and _program.name == "jobs.cli" and not sys.flags.safe_path:
    _installation = os.path.join(os.path.dirname(__file__), os.pardir)
    if os.path.realpath(sys.path[0]) != os.path.realpath(_installation):
        del sys.path[0]
