"""Progress of long work, on stderr: a bar with rate and time left at a terminal, one line a stage elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Advance = Callable[[int], None]


class Progress:
    """`with progress.stage("train SAE", 800, "steps") as advance: advance(1)`. Keeps the seconds of every stage."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        began, done = time.monotonic(), 0
        terminal = not self.quiet and sys.stderr.isatty()
        with _bar(name, total, unit) if terminal else contextlib.nullcontext(_nothing) as draw:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                draw(count)

            yield advance
        took = time.monotonic() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if not self.quiet:
            print(
                f"  {name}: {done} {unit} in {took:.1f} s ({done / max(took, 1e-9):,.0f} {unit}/s)",
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def _nothing(count: int) -> None: ...


@contextlib.contextmanager
def _bar(name: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(name, total=total, rate="")

        def draw(count: int) -> None:
            bar.update(task, advance=count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield draw
