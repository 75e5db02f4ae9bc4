"""Progress of long work: a bar with rate and time left at a terminal and in a notebook, one line a stage elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from . import terminal
from .quantities import duration, rate

Advance = Callable[[int], None]
REDRAWN = 0.25
"""Seconds between two pictures of a notebook's bar."""


class Progress:
    """`with progress.stage("train SAE", 800, "steps") as advance: advance(1)`. Keeps the seconds of every stage."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """unit: plural. What is yielded takes how many more are done."""
        began, done = time.monotonic(), 0
        with _drawn(self.quiet)(name, total, unit) as draw:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                draw(count)

            yield advance
        took = time.monotonic() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.say(f"  {name}: {_finished(done, took, unit)}")

    def say(self, text: str) -> None:
        if self.quiet:
            return
        # A notebook shows stderr on red ground, as if something had failed.
        stream = sys.stdout if in_notebook() else sys.stderr
        if terminal.is_terminal(stream):
            text = terminal.fill(text, terminal.width(stream))
        print(text, file=stream, flush=True)


def in_notebook() -> bool:
    """Is this process the kernel of a notebook."""
    kernel = sys.modules.get("ipykernel.zmqshell")
    return kernel is not None and kernel.ZMQInteractiveShell.initialized()


def _finished(done: int, seconds: float, unit: str) -> str:
    speed = rate(done, seconds, unit) if done > 1 else ""
    what = f"{done:,} {unit if done != 1 else unit.removesuffix('s')}"
    return f"{what} in {duration(seconds)}" + (f" ({speed})" if speed else "")


Bar = Callable[[str, int, str], contextlib.AbstractContextManager[Advance]]


def _drawn(quiet: bool) -> Bar:
    """How progress is shown where this process runs."""
    if quiet:
        return _nothing
    if in_notebook():
        return _notebook_bar
    return _terminal_bar if terminal.is_terminal(sys.stderr) else _nothing


@contextlib.contextmanager
def _nothing(name: str, total: int, unit: str) -> Iterator[Advance]:
    yield lambda count: None


@contextlib.contextmanager
def _terminal_bar(name: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("  {task.description}", markup=False),
        progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total, rate="")

        def draw(count: int) -> None:
            bar.update(task, advance=count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=rate(1, 1 / speed, unit) if speed else "")

        yield draw


@contextlib.contextmanager
def _notebook_bar(name: str, total: int, unit: str) -> Iterator[Advance]:
    """Rich's own would ask for ipywidgets; every notebook can replace what it has displayed."""
    from html import escape

    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

    began, done, drawn = time.monotonic(), 0, 0.0

    def picture() -> HTML:
        seconds = time.monotonic() - began
        words = [f"{done:,}/{total:,} {unit}", rate(done, seconds, unit)]
        if 0 < done < total:
            words.append(f"{duration(seconds / done * (total - done))} left")
        bar = f'<progress value="{done}" max="{total}"></progress>'
        return HTML(f"<code>{escape(name)}</code> {bar} {escape(', '.join(filter(None, words)))}")

    def draw(count: int) -> None:
        nonlocal done, drawn
        done += count
        if time.monotonic() - drawn > REDRAWN:
            drawn = time.monotonic()
            handle.update(picture())

    handle = display(picture(), display_id=True)
    try:
        yield draw
    finally:
        handle.update(HTML(""))
