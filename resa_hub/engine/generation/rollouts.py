"""Rollouts kept by content: what a model says to given questions under given settings is generated once for all methods
that ask for it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import PreTrainedModel

from ...config.recipe import Rollouts
from ...core.progress import Progress
from ...core.strict import canonical_digest
from .sampling import Completion, generate, uniforms


class RolloutFile:
    """JSON lines, one a finished batch: [[row, tokens, finished], ...]. A line that a kill cut is ignored and its batch
    generated again.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        """identity: everything the rollouts depend on. Without a folder nothing is kept."""
        self.path: Path | None = None
        if folder is not None:
            self.path = folder / f"{canonical_digest(identity).partition(':')[2][:32]}.jsonl"

    def read(self, rows: int) -> dict[int, Completion]:
        """The completions that are there, by row; `rows` is how many prompts there are."""
        completions: dict[int, Completion] = {}
        if self.path is not None and self.path.is_file():
            with self.path.open("rb") as file:
                for line in file:
                    completions.update((completion.index, completion) for completion in _completions(line, rows))
        return completions

    def append(self, batch: Sequence[Completion]) -> None:
        if self.path is None:
            return
        line = json.dumps([list(completion) for completion in batch], separators=(",", ":")).encode() + b"\n"
        with self.path.open("ab") as file:
            # A line that a kill cut off must not swallow this one.
            file.write(b"\n" * _ends_without_newline(self.path) + line)
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def lock(self, progress: Progress) -> Iterator[None]:
        """One process generates; the others wait, and then read."""
        if self.path is None:
            yield
            return
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress.say("  another process is making the same rollouts: waiting for them")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _ends_without_newline(path: Path) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _completions(line: bytes, rows: int) -> list[Completion]:
    """The completions of a line; none when it is not whole."""
    try:
        batch = [Completion(index, tokens, finished) for index, tokens, finished in json.loads(line)]
    except (ValueError, TypeError):
        return []
    return batch if all(_is_valid(completion, rows) for completion in batch) else []


def _is_valid(completion: Completion, rows: int) -> bool:
    return (
        type(completion.index) is int
        and 0 <= completion.index < rows
        and isinstance(completion.tokens, list)
        and all(type(token) is int for token in completion.tokens)
        and type(completion.finished) is bool
    )


class RolloutRequest(NamedTuple):
    """Everything that decides what the rollouts are, beside model and software."""

    prompts: Sequence[Sequence[int]]
    """Token ids, one list a question."""
    questions: Sequence[str]
    """They name the noise of each row, and the rows for the record."""
    settings: Rollouts
    seed: int
    end_tokens: set[int]
    revision: str
    """Of the model's weights, its adapter included."""

    def identity(self, model: PreTrainedModel) -> dict[str, Any]:
        """Its digest is the name of the file: rollouts of another device or library are never taken for these."""
        return {
            "revision": self.revision,
            "prompts": [list(p) for p in self.prompts],
            "questions": list(self.questions),
            "seed": self.seed,
            "temperature": self.settings.temperature,
            "new_tokens": self.settings.new_tokens,
            "ends": sorted(self.end_tokens),
            "dtype": str(model.dtype),
            "device": model.device.type,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }


def rollouts(
    model: PreTrainedModel,
    request: RolloutRequest,
    folder: Path | None,
    progress: Progress,
    name: str,
    on_batch: Callable[[list[Completion]], None],
    *,
    first: bool = True,
) -> list[Completion]:
    """A completion of every prompt, in their order; what `folder` holds is not generated again.

    name: of the model, for the progress shown. on_batch: called with every batch that is generated now. first: whether
    this run asks for them for the first time, and should say what is kept.
    """
    file, rows = RolloutFile(folder, request.identity(model)), len(request.prompts)
    with file.lock(progress):
        completions = file.read(rows)
        missing = [i for i in range(rows) if i not in completions]
        if completions and first:
            progress.say(f"  rollouts of the {name}: {len(completions):,} of {rows:,} are kept from before")
        if missing:
            with progress.stage(f"rollouts of the {name}", len(missing), "rollouts") as advance:
                for batch in _generate_rows(model, request, missing):
                    file.append(batch)
                    completions.update((completion.index, completion) for completion in batch)
                    on_batch(batch)
                    advance(len(batch))
    return [completions[i] for i in range(rows)]


def _generate_rows(model: PreTrainedModel, request: RolloutRequest, rows: list[int]) -> Iterator[list[Completion]]:
    """Batches of these rows, numbered as in the whole request.

    Only whole batches are ever missing, so each row is generated beside the same neighbours as in an undisturbed run.
    """
    settings = request.settings
    noise = uniforms(request.seed, [(request.questions[i], 0) for i in rows], settings.new_tokens)
    prompts = [request.prompts[i] for i in rows]
    for batch in generate(model, prompts, noise, temperature=settings.temperature, end_tokens=request.end_tokens):
        yield [completion._replace(index=rows[completion.index]) for completion in batch]
