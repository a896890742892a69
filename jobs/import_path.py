"""Leave the working directory off the search path; imported by `jobs.cli` before everything else.

There may be any file in it: with `typer.py` in a folder of downloaded music, the next import would run it. It is
on the path of `python -m jobs.cli`, and of every program if PYTHONPATH has an empty entry, as after
`PYTHONPATH=$PYTHONPATH:/a/folder`. The console script `earmark` alone has no such entry. If the code itself is in
the working directory, as in a checkout and in a job on a cluster, the entry stays.
"""

import os
import sys

_program = sys.modules["__main__"].__spec__  # None unless it was started with -m
_by_module = _program is not None and _program.name == "jobs.cli"
_entries = os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []
_installation = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
if (_by_module or "" in _entries) and os.path.realpath(os.curdir) != _installation:
    _named = {os.path.abspath(entry) for entry in _entries if entry}
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != os.getcwd() or entry in _named]
    if _entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _entries))  # for child processes
