"""Leave the working directory off the search path; imported by `jobs.cli` before everything else.

There may be any file in it: with `typer.py` in a folder of downloaded music, the next import would run it. It is
on the path of `python -m earmark`, and of every program if PYTHONPATH has an empty entry, as after
`PYTHONPATH=$PYTHONPATH:/a/folder`. The console script `earmark` alone has no such entry. If the code itself is in
the working directory, as in a checkout and in a job on a cluster, the entry stays.

Then `featurize`, which has the finder of our other packages, is imported from the folder of `jobs`.
"""

import os
import sys

_program = sys.modules["__main__"].__spec__  # None unless it was started with -m
_by_module = _program is not None and _program.name in ("jobs.cli", "earmark.__main__")
_entries = os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []
_installation = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
if (_by_module or "" in _entries) and os.path.realpath(os.curdir) != _installation:
    _named = {os.path.abspath(entry) for entry in _entries if entry}
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != os.getcwd() or entry in _named]
    if _entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _entries))  # for child processes

sys.path.insert(0, _installation)
import featurize  # noqa: E402, F401 - from there

del sys.path[0]
