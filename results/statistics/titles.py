"""What the methods of one table are called: as short as tells them apart.

A method has the name its runs were given, or else its model and variant with the settings in which
it differs from the table's other methods. Settings that all of them have stand below the table
(`shared`), what a title leaves out in a footnote (`note`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from results.statistics.runs import Method

#: Characters of settings in a title, unless the first alone is longer.
_ROOM = 36


class Titles:
    """The titles of `methods`, every one of a table. `names`: those that were given."""

    def __init__(self, methods: Iterable[Method], names: Mapping[Method, str]) -> None:
        methods = dict.fromkeys(methods)
        self._names = names
        have = Counter(setting for method in methods for setting in method.settings)
        #: The settings that every method has.
        self.shared = tuple(one for one in sorted(have) if have[one] == len(methods))
        #: Its others, those that the fewest have first.
        self._own = {
            method: sorted(set(method.settings).difference(self.shared), key=lambda s: (have[s], s))
            for method in methods
        }
        self._titles = self._told_apart(methods)

    def of(self, method: Method) -> str:
        """The title of a method; one that the table has not is called by all its settings."""
        return self._titles.get(method, method.title)

    def note(self, method: Method) -> str | None:
        """What a method is, where its title does not say it all."""
        own = ", ".join(sorted(self._own.get(method, ())))
        if method in self._names:
            return f"{self.of(method)}: {method.kind}{f', {own}' if own else ''}"
        return f"{self.of(method)}: {own}" if own and f"[{own}]" not in self.of(method) else None

    def _told_apart(self, methods: Iterable[Method]) -> dict[Method, str]:
        """Each method's shortest title that no other has, of `_FORMS`; or else numbered ones."""
        titles: dict[Method, str] = {}
        for form in reversed(_FORMS):
            formed = {method: form(self, method) for method in methods}
            counts = Counter(formed.values())
            alone = {method: one for method, one in formed.items() if counts[one] == 1}
            titles = (titles or formed) | alone
        seen: Counter[str] = Counter()
        for method, title in titles.items():
            seen[title] += 1
            titles[method] = f"{title} ({seen[title]})" if seen[title] > 1 else title
        return titles

    def _name(self, method: Method) -> str:
        return self._names.get(method) or self._settings(method)

    def _name_and_kind(self, method: Method) -> str:
        return (
            f"{self._names[method]}, {method.kind}"
            if method in self._names
            else self._settings(method)
        )

    def _all(self, method: Method) -> str:
        return f"{self._names.get(method, '')} {self._settings(method)}".strip()

    def _settings(self, method: Method) -> str:
        """Its model and variant with as many settings as there is room for."""
        own = self._own[method]
        shown = own[:1]
        for setting in own[1:]:
            if len(", ".join([*shown, setting])) <= _ROOM:
                shown.append(setting)
        left = f", +{len(own) - len(shown)}" if len(shown) < len(own) else ""
        return f"{method.kind} [{', '.join(sorted(shown))}{left}]" if own else method.kind


#: From the shortest title to the longest.
_FORMS: tuple[Callable[[Titles, Method], str], ...] = (
    Titles._name, Titles._name_and_kind, Titles._all,
)  # fmt: skip
