"""Samples as they finish: an append-only file for each (arm, benchmark, generation settings); what is there is never generated again."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..recipe import canonical_digest

Key = tuple[str, int]
"""(problem id, sample number)."""


class Sample(NamedTuple):
    text: str
    tokens: int
    finished: bool


class SampleFile:
    """One arm's samples. Lines are whole or, after a kill, cut: a cut line is ignored and made again."""

    def __init__(self, folder: Path, arm: str, benchmark: str, settings: dict[str, object]) -> None:
        digest = canonical_digest([arm, benchmark, settings]).partition(":")[2]
        self.path = folder / f"{digest[:32]}.jsonl"

    def read(self) -> dict[Key, Sample]:
        found: dict[Key, Sample] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                problem, number, text, tokens, finished = json.loads(line)
            except (ValueError, TypeError):
                continue
            found[problem, number] = Sample(text, tokens, finished)
        return found

    def append(self, samples: Iterable[tuple[Key, Sample]]) -> None:
        """One write a batch, so that two processes may append to one file."""
        lines = "".join(json.dumps([*key, *sample], ensure_ascii=False) + "\n" for key, sample in samples)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            if file.tell() and not _ends_line(self.path):
                file.write(b"\n")
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
