"""Recordings as columns of text, by NumPy's reader."""

import io
import warnings
from itertools import takewhile
from pathlib import Path

import numpy as np

from .columns import Raw, by_name, of_array

SEPARATORS = bytes.maketrans(b",;\t", b"   ")
BOM = b"\xef\xbb\xbf"


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without signs of control."""
    text = head.decode("utf-8-sig", "ignore")
    lost = len(head.removeprefix(BOM)) - len(text.encode())  # a letter cut at the end
    return b"\0" not in head and lost < 4 and "".join(text.split()).isprintable()


def read_text(path: Path) -> Raw:
    """Columns by the names in the last line before the numbers, a comment or not, or by content."""
    raw = path.read_bytes().removeprefix(BOM).translate(SEPARATORS)
    above = [line.decode().split() for line in takewhile(_no_number, io.BytesIO(raw))]
    named = next((words for words in reversed(above) if words), [])
    names = [word.strip("\"'") for word in " ".join(named).strip("#%/ ").split()]
    with warnings.catch_warnings(action="ignore"):  # of no line at all
        table = np.loadtxt(io.TextIOWrapper(io.BytesIO(raw)), skiprows=len(above), ndmin=2)
    if len(names) == table.shape[1]:
        found = by_name(dict(zip(names, table.T, strict=True)))
        if found is not None:
            return Raw(found)
    if any(words[0][0] not in "#%/" for words in above if words):
        raise ValueError(f"the columns {', '.join(names)}; x, y, t and p expected")
    return Raw(of_array(table))


def _no_number(line: bytes) -> bool:
    """Whether a line does not begin with a number."""
    words = line.split()
    try:
        float(words[0] if words else b"")
    except ValueError:
        return True
    return False
