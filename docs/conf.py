"""The documentation site, built by `bash run_scripts/docs.sh`."""

import inspect
import re
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import result_pages

from tmkt_braincog import __version__

project, author = "tmkt_braincog", "The tmkt_braincog authors"
copyright = "2026, the tmkt_braincog authors"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
exclude_patterns = ["_build", "examples"]

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_PAGES = {"CHANGELOG.md": "changelog", "tmkt_braincog/tables/table1.yaml": "generated/published"}
SOURCE = "https://github.com/tmkt-braincog/tmkt_braincog/blob/main"

html_theme = "furo"
html_title = f"tmkt_braincog {version}"

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebook's stored outputs are shown; tests run it

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False
napoleon_use_ivar = True
# Other packages' names, and short names in signatures, have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(?!tmkt_braincog\b).*"),
    ("py:.*", r"tmkt_braincog\.data\.(augment|encodings)\..*"),
]


def links(app, name: str, source: list[str]) -> None:
    """Lead links out of docs/ to the pages of results, where they have one, or to GitHub."""

    def target(match: re.Match) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        page = OWN_PAGES.get(path) or result_pages.page_of(path)
        where = f"/{page}.md" if page in pages else f"{SOURCE}/{path}"
        return f"[{text}]({where}{anchor})"

    link = r"(?<!!)\[([^\[\]]*)\]\(\.\./([^)#\s]+)(#[^)\s]+)?\)"
    source[0] = re.sub(link, target, source[0])


def linkcode_resolve(domain: str, info: dict) -> str | None:
    """The line on GitHub where a name of the API is defined; None for what has none."""
    try:
        thing = attrgetter(info["fullname"])(import_module(info["module"]))
        path = Path(inspect.getsourcefile(thing) or "").relative_to(REPOSITORY)
        return f"{SOURCE}/{path}#L{inspect.getsourcelines(thing)[1]}"
    except (AttributeError, TypeError, ValueError):  # data, attributes, other packages
        return None


pages = {"changelog", *result_pages.write(REPOSITORY)}


def setup(app) -> None:
    app.connect("source-read", links)
