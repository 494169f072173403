"""Named things a user can choose on the command line: methods, data sets, mixing strategies."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to objects, filled by a decorator.

    A clash of names is an error at import; an unknown name is a
    :class:`~tmkt_braincog.errors.UserError` that lists the known ones.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def register(self, name: str, *aliases: str) -> Callable[[T], T]:
        """Decorator; ``aliases`` are other names that are understood, such as those in published command lines."""

        def add(entry: T) -> T:
            for new in (name, *aliases):
                if new in self._entries or new in self._aliases:
                    raise ValueError(f"{self.kind} {new!r} is registered twice")
            self._entries[name] = entry
            self._aliases |= dict.fromkeys(aliases, name)
            return entry

        return add

    def canonical(self, name: str) -> str:
        """The name itself, or the one that it is an alias of.

        Raises:
            UserError: unknown.
        """
        name = self._aliases.get(name, name)
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return name

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: str) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def names(self) -> list[str]:
        return sorted(self._entries)
