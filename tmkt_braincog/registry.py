"""Named things that a user chooses: methods, data sets, mixing strategies, figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from .errors import unknown_name

if TYPE_CHECKING:
    from pathlib import Path

    from .data.base import DataSet
    from .figures.base import Request

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to objects, filled by a decorator.

    A clash of names is an error at import; an unknown name is a
    :class:`~tmkt_braincog.errors.UserError` that lists the known ones.

    Args:
        kind: what messages call an entry.
        homes: names that the package brings, each with the module in it that registers the name
            and is imported when it is first looked up: listing and checking are light.
        aliases: other names that are understood, such as those in published command lines.
    """

    def __init__(self, kind: str, homes: Mapping[str, str] = {}, aliases: Mapping[str, str] = {}):
        self.kind, self._homes, self._aliases = kind, homes, aliases
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that gives the entry this name."""

        def add(entry: T) -> T:
            self._load(name)  # a name of the package's is taken, even where nobody has used it
            if name in self._entries or name in self._aliases:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _load(self, name: str) -> None:
        if name in self._homes and name not in self._entries:
            import_module(f"{__package__}.{self._homes[name]}")

    def canonical(self, name: str) -> str:
        """The name itself, or the one that it is an alias of; a UserError if it is unknown."""
        name = self._aliases.get(name, name)
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return name

    def __getitem__(self, name: str) -> T:
        name = self.canonical(name)
        self._load(name)
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries or name in self._aliases or name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._homes, *self._entries]))


# Data sets that the package brings: the module of each; and other names for them.
_HOMES = {"ndigits": "data.digits", "nmnist": "data.nmnist", "NCALTECH101": "data.ncaltech101"}
_HOMES |= {"E-CALTECH101": "data.ncaltech101"}
_HOMES |= {"CEP-DVS": "data.cepdvs", "N-OMNIGLOT": "data.nomniglot"}
_HOMES |= {"CIFAR10-DVS": "data.cifar10dvs", "folder": "data.folder"}
_ALIASES = {"CEPDVS": "CEP-DVS", "nomni": "N-OMNIGLOT", "dvsc10": "CIFAR10-DVS"}
DATASETS: Registry[DataSet] = Registry("target data set", _HOMES, _ALIASES)

# Figures that the package brings, and what they show.
SHOWS = {
    "confusion": "Confusion matrix of the test recordings, as shares of every true class.",
    "tsne": "t-SNE of event and static features, and how far they are aligned in numbers.",
    "gradcam": "Grad-CAM++ on events and on static images, the runs beside each other.",
    "mag": "Accuracy of the MAG head at every time-step of held-out mixed sequences.",
    "mrp": "Mixup ratio that the MRP head perceives in held-out sequences, against the true one.",
    "t-star": "Where the events take over: t* as the run draws it, against the law for it.",
    "landscape": "Loss around the trained weights in two random directions, one scale for all.",
    "cka": "CKA of event and static features at every time-step, before and after training.",
    "theta": "Learned coefficients sigma(theta_t) over the epochs.",
    "accuracy-over-time": "Top-1 accuracy of the logits accumulated up to each time-step.",
    "energy": "Spike rates, synaptic operations and energy of one inference, over all seeds.",
    "gradient-variance": "Variance of the gradient by mixing strategy, before and after training.",
}
_TOGETHER = dict.fromkeys(("confusion", "accuracy-over-time", "mag", "mrp", "t-star"), "heads")
_TOGETHER |= dict.fromkeys(("cka", "theta", "tsne"), "alignment")
# ``draw(request) -> paths written`` (PNG and PDF, and a CSV of the numbers); a UserError where the
# runs do not allow it.
FIGURES: Registry[Callable[[Request], list[Path]]] = Registry(
    "figure", {name: f"figures.{_TOGETHER.get(name, name).replace('-', '_')}" for name in SHOWS}
)


def caption(figure: str) -> str:
    """What a figure shows, in a line; a user's own says it in the first line of its docstring."""
    return SHOWS.get(figure) or (inspect.getdoc(FIGURES[figure]) or "").partition("\n")[0]
