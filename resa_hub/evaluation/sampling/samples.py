"""Samples as they finish, in one SQLite file (write-ahead log, texts compressed): what is there is never generated
again.

A sample belongs to a set (arm, benchmark, generation settings) and to a problem as it is worded: a problem of the same
id with another text is another one.
"""

import contextlib
import errno
import itertools
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from ...core.errors import RunFailed
from ...core.strict import canonical_digest
from ...engine.generation.base import Key, Sample

FILE = "samples.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS sets (id INTEGER PRIMARY KEY, digest TEXT NOT NULL, about TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS samples (
    set_id INTEGER NOT NULL, problem BLOB NOT NULL, number INTEGER NOT NULL,
    tokens INTEGER NOT NULL, finished INTEGER NOT NULL, text BLOB NOT NULL,
    UNIQUE (set_id, problem, number)
);
CREATE TABLE IF NOT EXISTS findings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
"""The id of a set is made from its digest: rows saved from a damaged file can never come to belong to another set."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NO_LIMIT = 1 << 62
LOCK_TIMEOUT_S = 60.0
"""Seconds that a writer waits for another."""
T = TypeVar("T")


class SampledProblem(Protocol):
    """A problem, as far as its samples depend on it."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...


class SampleSet(NamedTuple):
    """What samples depend on besides their problem: nobody may mix two sets."""

    arm: str
    """Identity of the weights."""
    benchmark: str
    settings: dict[str, Any]
    """Engine, temperature, seed, budget, prompt."""

    @property
    def digest(self) -> str:
        return canonical_digest(list(self))


class SampleStore:
    """All samples of a workspace. Several processes may read and write at once; the first sample of a key stays."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda text: None) -> None:
        """say: is given a line when the file is damaged. Nothing is created before something is kept."""
        self.path, self.say = folder / FILE, say
        self.damaged = 0
        """Samples found unreadable; they were removed, to be made again."""

    def present(self, samples: SampleSet, problems: Sequence[SampledProblem]) -> set[Key]:
        """Which samples are there, from the index alone."""
        ids = {_problem_key(problem): problem.id for problem in problems}
        rows = self._read("SELECT problem, number FROM samples WHERE set_id = ?", _set_id(samples.digest))
        return {(ids[problem], number) for problem, number in rows if problem in ids}

    def read(
        self, samples: SampleSet | str, problems: Sequence[SampledProblem], count: int | None = None
    ) -> dict[Key, Sample]:
        """The samples (the first `count` of each problem) of a set or of its digest. A text that is damaged is removed,
        counted, and missing afterwards.
        """
        digest = samples if isinstance(samples, str) else samples.digest
        ids = {_problem_key(problem): problem.id for problem in problems}
        query = "SELECT rowid, problem, number, tokens, finished, text FROM samples WHERE set_id = ? AND number < ?"
        found: dict[Key, Sample] = {}
        damaged = []
        for row, problem, number, tokens, finished, text in self._read(
            query, _set_id(digest), NO_LIMIT if count is None else count
        ):
            if problem not in ids:
                continue
            try:
                found[ids[problem], number] = Sample(zlib.decompress(text).decode(), tokens, bool(finished))
            except (zlib.error, UnicodeDecodeError, TypeError):
                damaged.append(row)
        if damaged:
            self._remove_damaged(damaged)
        return found

    def _remove_damaged(self, rows: list[int]) -> None:
        self._write(lambda db: db.executemany("DELETE FROM samples WHERE rowid = ?", [(row,) for row in rows]))
        self.damaged += len(rows)
        self.say(f"  {len(rows)} samples in {self.path} are damaged: they are made again")

    def add(
        self, samples: SampleSet, problems: Mapping[str, SampledProblem], finished: Iterable[tuple[Key, Sample]]
    ) -> None:
        """Keep them, in one transaction; `problems` by id."""
        digest = samples.digest
        set_id, about = _set_id(digest), json.dumps(samples._asdict(), sort_keys=True)
        rows = [
            (set_id, _problem_key(problems[id_]), n, s.tokens, s.finished, zlib.compress(s.text.encode()))
            for (id_, n), s in finished
        ]

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO sets VALUES (?, ?, ?)", (set_id, digest, about))
            db.executemany("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._write(write)

    def count(self) -> int:
        return next(iter(self._read("SELECT count(*) FROM samples")), (0,))[0]

    def last(self) -> int:
        """A mark: what is added later lies behind it."""
        return next(iter(self._read("SELECT coalesce(max(rowid), 0) FROM samples")), (0,))[0]

    def discard(self, after: int, sets: Iterable[SampleSet]) -> None:
        """Throw away what was added to these sets behind a mark."""
        rows = [(after, _set_id(samples.digest)) for samples in sets]
        self._write(lambda db: db.executemany("DELETE FROM samples WHERE rowid > ? AND set_id = ?", rows))

    def get_fact(self, name: str) -> Any:
        """A small fact that a run has measured (JSON), or None."""
        rows = self._read("SELECT value FROM findings WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def put_fact(self, name: str, value: Any) -> None:
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?)", (name, json.dumps(value))))

    def _read(self, query: str, *values: Any) -> list[Any]:
        if not self.path.exists():
            return []
        return self._guarded(lambda db: db.execute(query, values).fetchall())

    def _write(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        def transaction(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                work(db)
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

        self._guarded(transaction)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` on the database; raises `RunFailed` where it cannot be used."""
        try:
            return self._on_sound_file(work)
        except sqlite3.Error as error:
            reasons = {
                sqlite3.SQLITE_FULL: os.strerror(errno.ENOSPC),
                sqlite3.SQLITE_BUSY: f"another process has held it for {LOCK_TIMEOUT_S:.0f} s",
            }
            raise RunFailed(
                f"the samples in {self.path} cannot be used: {reasons.get(_code(error), str(error))}",
                "mend that, then run the same command again: what was kept is used",
            ) from None

    def _on_sound_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A damaged file is moved aside, and the work done on a new one that holds what could still be read."""
        try:
            return work(self._db)
        except sqlite3.DatabaseError as error:
            if _code(error) not in DAMAGED:
                raise
            self._replace_file(error)
        return work(self._db)

    @cached_property
    def _db(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFailed(
                f"cannot write into {self.path.parent}: {error.strerror}",
                "choose another --workspace, or mend its permissions",
            ) from None
        db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing, a power cut the last batches
            db.executescript(SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Also folds the log into the file."""
        db = self.__dict__.pop("_db", None)
        if db is not None:
            db.close()

    def _replace_file(self, error: sqlite3.Error) -> None:
        """Move the damaged file aside and begin a new one with what can still be read of it."""
        import filelock

        self.close()
        with filelock.FileLock(self.path.with_suffix(".lock")):
            if self._is_sound():
                return  # another process has mended it meanwhile
            self.close()
            aside = self._free_name()
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            saved = self._salvage(aside)
        self.say(
            f"  {self.path} is damaged ({error}): moved to {aside.name}, {saved:,} samples could be read from "
            "it, the others are made again"
        )

    def _is_sound(self) -> bool:
        with contextlib.suppress(sqlite3.Error):
            return self._db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        return False

    def _free_name(self) -> Path:
        names = (self.path.with_name(f"{FILE}.damaged-{number}") for number in itertools.count(1))
        return next(path for path in names if not path.exists())

    def _salvage(self, aside: Path) -> int:
        """Copy whole rows until the damage is met; returns how many samples."""
        saved = 0
        with contextlib.closing(sqlite3.connect(aside)) as old, contextlib.suppress(sqlite3.Error):
            old.execute("PRAGMA writable_schema = ON")  # a file that is cut short can be read this way
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for table, columns in (("sets", 3), ("findings", 2), ("samples", 6)):
                    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})"
                    for row in _readable(old, f"SELECT * FROM {table}"):
                        inserted = self._db.execute(insert, row).rowcount
                        saved += inserted if table == "samples" else 0
            finally:
                self._db.execute("COMMIT")
        return saved


def _readable(db: sqlite3.Connection, query: str) -> Iterator[Any]:
    with contextlib.suppress(sqlite3.Error):
        yield from db.execute(query)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _set_id(digest: str) -> int:
    """A 64-bit number: the head of the digest `sha256:...`."""
    return int.from_bytes(bytes.fromhex(digest.partition(":")[2][:16]), signed=True)


def _problem_key(problem: SampledProblem) -> bytes:
    return sha256(f"{problem.id}\0{problem.question}".encode()).digest()[:16]
