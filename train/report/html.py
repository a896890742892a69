"""What the pages of Earmark have in common: the engine, the style and the colours of classes.

The files are in `templates/`: `base.html.j2` is the frame of a page, `style.css` its style, `macros.html.j2` what
pages are put together from.
"""

import functools
import importlib.resources
import itertools
import shlex

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.colors import to_hex

from train.report.figures import OKABE_ITO


@functools.cache
def environment() -> jinja2.Environment:
    """Return the engine: whatever a template inserts is escaped, and a name that is not given is an error.

    Its filters are `percent`, a share as text; `counted`, a number with its noun; and `shell`, a word as a shell
    reads it. `asset(name)` is the text of a file in `templates/`, as it is.
    """
    engine = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters["percent"] = percent
    engine.filters["counted"] = counted
    engine.filters["shell"] = lambda word: shlex.quote(str(word))
    engine.globals["asset"] = _asset
    return engine


def percent(share: float) -> str:
    """Return a share as text that is not broken over two lines."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def class_colors(count: int) -> list[str]:
    """Return a colour for each of some classes.

    Those of Okabe and Ito come first; matplotlib's tab20b goes on from there, and begins again where it ends. So
    many can only be told apart with their names beside them.
    """
    more = map(to_hex, matplotlib.colormaps["tab20b"](range(20)))
    return list(itertools.islice(itertools.chain(OKABE_ITO, itertools.cycle(more)), count))


def _asset(name: str) -> Markup:
    return Markup((importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8"))
