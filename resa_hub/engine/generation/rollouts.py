"""Rollouts kept by content: what a model says to given questions under given settings is generated once for all methods
that ask for it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from ...config.recipe import Rollouts
from ...core.progress import Progress
from ...core.strict import canonical_digest
from .noise import uniforms
from .sampling import Completion, generate


class RolloutFile:
    """JSON lines, one a finished batch: [[row, tokens, finished], ...]. A line that a kill cut is ignored and its batch
    generated again.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        """identity: everything the rollouts depend on. Without a folder nothing is kept."""
        self.path = None if folder is None else folder / f"{canonical_digest(identity).partition(':')[2][:32]}.jsonl"

    def read(self, rows: int) -> dict[int, Completion]:
        found: dict[int, Completion] = {}
        if self.path is not None and self.path.is_file():
            with self.path.open("rb") as file:
                for line in file:
                    found.update((completion.index, completion) for completion in _completions(line, rows))
        return found

    def append(self, batch: Sequence[Completion]) -> None:
        if self.path is None:
            return
        line = json.dumps([list(completion) for completion in batch], separators=(",", ":")).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(b"\n" * _cut(self.path) + line)
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


def _cut(path: Path) -> bool:
    """Whether the file's last line has no end."""
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
    whole = all(
        type(c.index) is int
        and 0 <= c.index < rows
        and isinstance(c.tokens, list)
        and all(type(t) is int for t in c.tokens)
        and type(c.finished) is bool
        for c in batch
    )
    return batch if whole else []


def rollouts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    questions: Sequence[str],
    settings: Rollouts,
    *,
    seed: int,
    ends: set[int],
    revision: str,
    folder: Path | None,
    progress: Progress,
    name: str,
    generated: Callable[[list[Completion]], None],
) -> list[Completion]:
    """A completion of every prompt, in their order; what `folder` holds is not generated again.

    revision: of the model's weights, its adapter included. generated: told of every batch made now. Batches are resumed
    whole, so that each row is generated beside the same neighbours as in an undisturbed run.
    """
    identity = {
        "revision": revision,
        "prompts": [list(p) for p in prompts],
        "questions": list(questions),
        "seed": seed,
        "temperature": settings.temperature,
        "new_tokens": settings.new_tokens,
        "ends": sorted(ends),
        "dtype": str(model.dtype),
        "device": model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    file = RolloutFile(folder, identity)
    with file.lock(progress):
        found = file.read(len(prompts))
        missing = [i for i in range(len(prompts)) if i not in found]
        if found:
            progress.say(f"  rollouts of the {name}: {len(found):,} of {len(prompts):,} are kept from before")
        if missing:
            noise = uniforms(seed, [(questions[i], 0) for i in missing], settings.new_tokens)
            with progress.stage(f"rollouts of the {name}", len(missing), "rollouts") as advance:
                for batch in generate(
                    model, [prompts[i] for i in missing], noise, temperature=settings.temperature, end_tokens=ends
                ):
                    done = [completion._replace(index=missing[completion.index]) for completion in batch]
                    file.append(done)
                    found.update((completion.index, completion) for completion in done)
                    generated(done)
                    advance(len(done))
    return [found[i] for i in range(len(prompts))]
