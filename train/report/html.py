"""Shared parts of the HTML pages: the template engine, its filters and the colors of classes.

The files are in `templates/`: `base.html.j2` is the frame of every page, `style.css` the shared style, and
`macros.html.j2` the shared components.
"""

import datetime
import functools
import importlib.resources
import itertools
import shlex

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.colors import to_hex

from featurize.storage import StoragePath
from train.report.figures import OKABE_ITO


@functools.cache
def environment() -> jinja2.Environment:
    """Return the template engine: inserted text is escaped, and an undefined name is an error.

    Filters: `percent` formats a share, `counted` a number with its noun, and `shell` quotes a word for a shell.
    `asset(name)` inserts a file of `templates/` verbatim.
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
    engine.filters["shell"] = shell
    engine.globals["asset"] = _asset
    return engine


def percent(share: float) -> str:
    """Format a share as a percentage, with a no-break space before the sign."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def shell(path: str) -> str:
    """Quote a path for a shell; `~` at its beginning stays the home folder."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun, in the plural (by default with an s) unless the number is 1."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def saved_on(file: StoragePath) -> str:
    """Return the date on which a file was last written, in UTC, as year-month-day."""
    return datetime.datetime.fromtimestamp(file.modified(), datetime.UTC).date().isoformat()


def class_colors(count: int) -> list[str]:
    """Return a color for each class.

    Okabe and Ito's colors come first, then matplotlib's tab20b, repeated as needed. Beyond the first eight classes
    colors alone are ambiguous; the pages always show the name of the class, too.
    """
    more = map(to_hex, matplotlib.colormaps["tab20b"](range(20)))
    return list(itertools.islice(itertools.chain(OKABE_ITO, itertools.cycle(more)), count))


def _asset(name: str) -> Markup:
    return Markup((importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8"))
