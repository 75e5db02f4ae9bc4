"""Progress of long work: a bar with rate and time left at a terminal and in a notebook, elsewhere a line now and then
and one when a stage is finished. Work that cannot be counted tells how long it has been waited for.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from . import terminal
from .quantities import duration, rate

Advance = Callable[[int], None]
REDRAWN = 0.25
"""Seconds between two pictures of a notebook's bar."""
FIRST_WORD = 5.0
"""Seconds of silence before the first line of a stage that goes on; each pause is twice the one before."""
LONGEST_SILENCE = 300.0
SPINNER_AFTER = 0.5
"""Seconds before a terminal shows that something is waited for: what is short should not flicker."""


class Progress:
    """`with progress.stage("train SAE", 800, "steps") as advance: advance(1)`. Keeps the seconds of every stage."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """unit: plural. What is yielded takes how many more are done."""
        began, done = time.monotonic(), 0
        with self._bar()(name, total, unit) as draw:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                draw(count)

            yield advance
        took = time.monotonic() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.say(f"  {name}: {_finished(done, took, unit)}")

    @contextlib.contextmanager
    def waiting(self, what: str, size: str = "") -> Iterator[None]:
        """Tell how long work takes that cannot be counted; nothing is told of what is over at once. what: as `loading
        the model`. size: as `3.6 GB`.
        """
        what = f"{what} ({size})" if size else what
        began, told = time.monotonic(), False

        def tell(seconds: float) -> None:
            nonlocal told
            told = True
            self.say(f"  {what}: {duration(seconds)} so far")

        shown = _spinner(what) if self._draws_bars() and not in_notebook() else _now_and_then(tell)
        with shown if not self.quiet else contextlib.nullcontext():
            yield
        took = time.monotonic() - began
        if told or took > FIRST_WORD:
            self.say(f"  {what}: {duration(took)}")

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Inside, it is this one that `waiting` speaks through."""
        token = _SPEAKER.set(self)
        try:
            yield
        finally:
            _SPEAKER.reset(token)

    def say(self, text: str) -> None:
        if self.quiet:
            return
        # A notebook shows stderr on red ground, as if something had failed.
        stream = sys.stdout if in_notebook() else sys.stderr
        if terminal.is_terminal(stream):
            text = terminal.fill(text, terminal.width(stream))
        print(text, file=stream, flush=True)

    def _draws_bars(self) -> bool:
        return not self.quiet and (in_notebook() or terminal.is_terminal(sys.stderr))

    def _bar(self) -> "Bar":
        """How a stage is shown where this process runs."""
        if self.quiet:
            return _nothing
        if not self._draws_bars():
            return self._lines
        return _notebook_bar if in_notebook() else _terminal_bar

    @contextlib.contextmanager
    def _lines(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """A log: a line now and then, for stages that take long."""
        done = 0

        def tell(seconds: float) -> None:
            left = f", about {duration(seconds / done * (total - done))} left" if 0 < done < total else ""
            self.say(f"  {name}: {done:,} of {total:,} {unit} in {duration(seconds)}{left}")

        def draw(count: int) -> None:
            nonlocal done
            done += count

        with _now_and_then(tell):
            yield draw


_SPEAKER: ContextVar[Progress | None] = ContextVar("_SPEAKER", default=None)


def waiting(what: str, size: str = "") -> contextlib.AbstractContextManager[None]:
    """`Progress.waiting` of whoever speaks here, for code that is called from many places."""
    return (_SPEAKER.get() or Progress()).waiting(what, size)


def speak_through(progress: Progress) -> None:
    """From here on `waiting` speaks through it, until the end of the program or of the context."""
    _SPEAKER.set(progress)


def in_notebook() -> bool:
    """Is this process the kernel of a notebook."""
    kernel = sys.modules.get("ipykernel.zmqshell")
    return kernel is not None and kernel.ZMQInteractiveShell.initialized()


def _finished(done: int, seconds: float, unit: str) -> str:
    speed = rate(done, seconds, unit) if done > 1 else ""
    what = f"{done:,} {unit if done != 1 else unit.removesuffix('s')}"
    return f"{what} in {duration(seconds)}" + (f" ({speed})" if speed else "")


Bar = Callable[[str, int, str], contextlib.AbstractContextManager[Advance]]


@contextlib.contextmanager
def _nothing(name: str, total: int, unit: str) -> Iterator[Advance]:
    yield lambda count: None


@contextlib.contextmanager
def _now_and_then(tell: Callable[[float], None]) -> Iterator[None]:
    """Call `tell` with the seconds so far, from a thread, at ever longer pauses."""
    began, over = time.monotonic(), threading.Event()

    def run() -> None:
        pause = FIRST_WORD
        while not over.wait(pause):
            tell(time.monotonic() - began)
            pause = min(2 * pause, LONGEST_SILENCE)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _spinner(what: str) -> Iterator[None]:
    """At a terminal: what is waited for, and how long so far."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.SpinnerColumn("line"),
        progress.TextColumn("{task.description}", markup=False),
        progress.TimeElapsedColumn(),
    )
    spinner = progress.Progress(*columns, console=Console(stderr=True), transient=True)
    spinner.add_task(what, total=None)
    shown = threading.Timer(SPINNER_AFTER, spinner.start)
    shown.daemon = True
    shown.start()
    try:
        yield
    finally:
        shown.cancel()
        shown.join()
        spinner.stop()


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
