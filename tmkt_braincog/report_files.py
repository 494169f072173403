"""Tables, texts and pictures that lie in a folder, as pieces of a page, whoever made them."""

import base64
import json
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markdown import Markdown
from markupsafe import Markup
from PIL import Image

from .registry import FIGURES, caption

MOST_ROWS = 100  # of a CSV
ABOUT = {"comparison": "Every seed, and mean with standard deviation, of each method."}
ABOUT |= {figure: caption(figure) for figure in FIGURES}
CLAIMS = "What was claimed or asked, and what the last epochs here say:"
CLAIM = {"say": "claim", "verdict": "here", "difference": "difference"}
CLAIM |= {"low": "95 % CI from", "high": "to", "p": "p", "p_holm": "p (Holm)"}
# Everything by which Markdown lets text become HTML of its own or refer to something outside.
UNSAFE = ["html", "entity", "autolink", "automail", "link", "reference", "short_reference"]
UNSAFE += ["image_link", "image_reference", "short_image_ref"]


class Picture(NamedTuple):
    """A PNG as a data URI; a wide one needs the whole width of a page."""

    uri: str
    caption: str
    wide: bool


@dataclass(frozen=True)
class Block:
    """A piece of a page; what is given of it stands in this order. ``lines`` are for a shell."""

    title: str = ""
    source: str = ""
    emulated: bool = False
    text: str | Markup = ""
    table: pd.DataFrame | None = None
    pictures: Sequence[Picture] = ()
    lines: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        no_rows = self.table is None or self.table.empty
        return no_rows and not (self.text or self.pictures or self.lines)


class Found:
    """What lies in a folder and its ``figures/``, but for the files of these names.

    A ``<name>.json`` of ``tmkt table`` or ``tmkt figure`` stands for all files of its name; without
    one Markdown does, with the pictures whose names begin like its own; then a picture; then a CSV.
    In ``facts`` is what the JSON files say, in ``left`` what is not shown, in ``problems`` why.
    """

    def __init__(self, folder: Path, hidden: Container[str]):
        self.blocks: list[Block] = []
        self.pictures: list[Picture] = []
        self.sheets: list[Block] = []
        self.facts: list[dict[str, Any]] = []
        self.problems: list[str] = []
        there = [*sorted(folder.glob("[!.]*")), *sorted(folder.glob("figures/[!.]*"))]
        self.left = [path for path in there if path.is_file() and path.name not in hidden]
        for suffix, take in (
            (".json", self._json),
            (".md", self._text),
            (".png", lambda path: self.pictures.extend(self._read([path]))),
            (".csv", self._csv),
        ):
            for path in [path for path in self.left if path.suffix == suffix]:
                if path in self.left:
                    take(path)

    def _drop(self, shown: Path) -> None:
        """Nothing else of this name is shown: it is the same in another form."""
        stem = shown.with_suffix("")
        self.left = [path for path in self.left if path.with_suffix("") != stem]

    def _json(self, path: Path) -> None:
        try:
            fact = json.loads(path.read_text())
            if not isinstance(fact, dict) or fact.get("kind") not in ("table", "figure"):
                return
            pictures = [path.with_name(str(name)) for name in fact.get("pictures", ())]
            pngs = [picture for picture in pictures if picture.suffix == ".png"]
            blocks = _table(fact, path.name) if fact["kind"] == "table" else []
            about = ". ".join(filter(None, (str(fact["title"]), fact.get("caption"))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.problems.append(f"{path} cannot be read ({error!r}): left out.")
            return
        self._drop(path)
        self.facts.append(fact)
        if blocks:
            self.blocks += [*blocks, Block(pictures=self._read(pngs))]
        else:
            self.pictures += self._read(pngs, about)

    def _text(self, path: Path) -> None:
        own = tuple(f"{path.with_suffix('')}{end}" for end in "_.")
        pngs = [p for p in self.left if p.suffix == ".png" and str(p).startswith(own)]
        self._drop(path)
        text = safe_html(path.read_text(errors="replace"))
        self.blocks.append(Block(source=path.name, text=text, pictures=self._read(pngs)))

    def _csv(self, path: Path) -> None:
        try:
            table = pd.read_csv(path, keep_default_na=False).map(number)
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read as a table: {error}")
            return
        self._drop(path)
        text = f"The first {MOST_ROWS} of {len(table)} rows." if len(table) > MOST_ROWS else ""
        self.sheets.append(Block(path.name, text=text, table=table.head(MOST_ROWS)))

    def _read(self, paths: Sequence[Path], about: str = "") -> list[Picture]:
        drawn = []
        for path in paths:
            try:
                drawn.append(read_picture(path, about or _caption(path)))
            # What Pillow raises for files that are no picture, or too large to be one.
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                self.problems.append(f"{path} cannot be shown: it is no whole PNG ({error}).")
            self._drop(path)
        return drawn


def read_picture(path: Path, about: str) -> Picture:
    """A PNG that decodes; what Pillow raises otherwise."""
    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        wide = image.width > 1.9 * image.height
    data = base64.b64encode(path.read_bytes()).decode()
    return Picture(f"data:image/png;base64,{data}", about, wide)


def _caption(path: Path) -> str:
    """What the figure of that name shows; otherwise the name in words."""
    name = path.stem.replace("_", "-")
    known = max((key for key in ABOUT if f"{name}-".startswith(f"{key}-")), key=len, default="")
    more = name[len(known) :].replace("-", " ").strip()
    text = f"{ABOUT[known]}{f' ({more})' if more else ''}" if known else f"{more.capitalize()}."
    return f"{text} Numbers: {path.stem}.csv." if path.with_suffix(".csv").exists() else text


def _table(fact: dict[str, Any], name: str) -> list[Block]:
    """A table, and the claims that it is held against."""
    values = [{key: row["values"].get(key) for key in fact["columns"]} for row in fact["rows"]]
    table = pd.DataFrame(map(_cells, values))
    table.insert(0, "", [row["name"] for row in fact["rows"]])
    claims = pd.DataFrame(fact.get("claims", ()), columns=list(CLAIM)).dropna(axis=1, how="all")
    about = str(fact.get("caption", "")).removeprefix(f"{fact['title']}. ")
    text = " ".join([about, *fact.get("notes", ())])
    blocks = [Block(str(fact["title"]), name, bool(fact.get("emulated")), text, table)]
    held = Block(text=CLAIMS, table=claims.rename(columns=CLAIM).map(number))
    return [*blocks, held] if len(claims) else blocks


def _cells(values: dict[str, Any]) -> dict[str, str]:
    """The values of a row as text; mean with std, and difference with interval, in one cell."""
    cells: dict[str, str] = {}
    for key, value in values.items():
        kind, _, what = key.partition("_")
        others = (values.get(f"{kind}_{name}") for name in ("std", "low", "high"))
        std, low, high = map(number, others, (".2f", "+.2f", "+.2f"))
        if kind not in ("last", "best"):
            cells[{"n": "seeds", "n_paired": "paired"}.get(key, key)] = number(value)
        elif what == "mean":
            cells[f"{kind} epoch"] = f"{number(value, '.2f')} ± {std}".replace("- ± -", "-")
        elif what == "diff":
            text = f"{number(value, '+.2f')} [{low}, {high}]".replace(" [-, -]", "")
            cells[f"{kind}, difference [95 % CI]"] = text
        elif what == "p":
            cells[f"{kind}, p"] = number(value, ".2g")
    return cells


def number(value: Any, form: str = ".4g") -> str:
    """A number as text, a dash for none; text and whole numbers as they are."""
    if isinstance(value, str | Integral):
        return str(value)
    return "-" if value is None or pd.isna(value) else format(value, form)


def safe_html(text: str) -> Markup:
    """Markdown as HTML. HTML in it is shown as text; links and images stay as written."""
    converter = Markdown(extensions=["tables", "fenced_code"])
    converter.preprocessors.deregister("html_block")
    converter.parser.blockprocessors.deregister("reference")
    for name in UNSAFE:
        converter.inlinePatterns.deregister(name)
    # All that is left of "<" is the converter's own.
    return Markup(re.sub(r"(</?h)\d>", r"\g<1>4>", converter.convert(text)))
