"""From sections to one HTML page and one Markdown file."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown import Markdown
from markdown.extensions.toc import TocExtension
from markupsafe import Markup

from .page import Section

# Everything by which Markdown lets text become HTML of its own or refer to something outside.
UNSAFE_INLINE = ["html", "entity", "autolink", "automail", "link", "reference", "short_reference"]
UNSAFE_INLINE += ["image_link", "image_reference", "short_image_ref"]


def html(sections: Sequence[Section], **words) -> str:
    """The page: pictures and style inside, no script, nothing from elsewhere.

    Args:
        words: the other variables of the template: title, made, version, warnings, environment, command.
    """
    environment = _environment(autoescape=True)
    environment.filters["markdown"] = _safe_html
    return environment.get_template("report.html.j2").render(sections=sections, **words)


def markdown(sections: Sequence[Section], folder: Path, **words) -> str:
    """The same in Markdown; pictures are links relative to ``folder``."""
    environment = _environment(autoescape=False)
    environment.filters["cell"] = _cell
    environment.filters["plain"] = _plain
    environment.filters["link"] = lambda path: path.relative_to(folder).as_posix()
    return environment.get_template("report.md.j2").render(sections=sections, **words)


def _environment(autoescape: bool) -> Environment:
    return Environment(
        loader=PackageLoader(__package__),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _safe_html(text: str, prefix: str) -> Markup:
    """Markdown with tables as HTML. HTML in the text is shown as text; links and images stay as written.

    Args:
        prefix: of the headings' ids, to keep them apart on the page.
    """
    headings = TocExtension(
        baselevel=4, marker="", slugify=lambda value, separator: f"{prefix}-heading"
    )
    converter = Markdown(extensions=["tables", "fenced_code", headings])
    converter.preprocessors.deregister("html_block")
    converter.parser.blockprocessors.deregister("reference")
    for name in UNSAFE_INLINE:
        converter.inlinePatterns.deregister(name)
    page = converter.convert(text)
    # All that is left of "<" is the converter's own.
    return Markup(
        page.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    )


def _plain(text: str) -> str:
    """Found Markdown without HTML; links and pictures, which are relative to another folder, stay as written."""
    text = text.replace("<", "&lt;").replace("](", "]\\(")
    return re.sub(r"^( *)\[", r"\1\\[", text, flags=re.MULTILINE)  # what [text][1] refers to


def _cell(text: str) -> str:
    """Text as it is, in a cell of a Markdown table or a line."""
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return " ".join(escaped.split())
