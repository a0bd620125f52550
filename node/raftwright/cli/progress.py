"""A progress bar with its rate on a terminal; plain lines, now and then, in a pipe.

Used by `import`, `export` and `demo`. Rule: it writes to standard error only.
"""

import sys
import time
from types import TracebackType
from typing import Self

PLAIN_EVERY_S = 2.0


class Progress:
    """Counts done items of `total` (None: not known) and shows how fast it goes. Use as a context manager."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._begun = time.monotonic()
        self._said = self._begun
        self._bar = _bar(what, total) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self._begun = self._said = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._say(time.monotonic())

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], count)
        elif (now := time.monotonic()) - self._said >= PLAIN_EVERY_S:
            self._said = now
            self._say(now)

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @property
    def rate(self) -> float:
        """Items a second since the start."""
        return self.done / max(time.monotonic() - self._begun, 1e-9)

    def _say(self, now: float) -> None:
        of = f" of {self.total:,} ({100 * self.done // self.total} %)" if self.total else ""
        rate = self.done / max(now - self._begun, 1e-9)
        sys.stderr.write(f"{self.what}: {self.done:,}{of}, {rate:,.0f}/s\n")
        sys.stderr.flush()


def _bar(what: str, total: int | None):  # type: ignore[no-untyped-def]  # rich is imported only where a bar is shown
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s", style="cyan")

    columns = (BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), Rate(""), TimeRemainingColumn())
    bar = RichProgress(TextColumn(what), *columns, console=Console(stderr=True))
    bar.add_task(what, total=total)
    return bar
