"""The store of samples: found again under the same key only, shared by processes, mended after damage, quick with a
million rows.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from resa_hub.core.errors import RunFailed
from resa_hub.engine.generation.base import Sample
from resa_hub.evaluation.benchmarks.base import Problem
from resa_hub.evaluation.sampling.samples import SampleSet, SampleStore, _problem_key, _set_id
from tests.helpers.commands import HANG, environment

PROBLEMS = [Problem(f"p{i}", f"what is {i}?", str(i)) for i in range(50)]
BY_ID = {p.id: p for p in PROBLEMS}
SET = SampleSet("sha256:arm", "bench", {"temperature": 0.6})


def filled(folder: Path, count: int = 2) -> SampleStore:
    store = SampleStore(folder)
    store.add(
        SET, BY_ID, [((p.id, n), Sample(f"answer {p.id} {n} é", 3 + n, n == 0)) for p in PROBLEMS for n in range(count)]
    )
    return store


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.present(SET, PROBLEMS) == {(p.id, n) for p in PROBLEMS for n in range(2)}
    store.close()
    found = SampleStore(tmp_path).read(SET.digest, PROBLEMS[:3], 1)
    assert found == {(p.id, 0): Sample(f"answer {p.id} 0 é", 3, True) for p in PROBLEMS[:3]}


@pytest.mark.parametrize(
    "other",
    [SET._replace(arm="sha256:x"), SET._replace(benchmark="b"), SET._replace(settings={"temperature": 0.7})],
    ids=str,
)
def test_another_set_has_other_samples(tmp_path: Path, other: SampleSet) -> None:
    assert filled(tmp_path).present(other, PROBLEMS) == set()


def test_a_problem_with_another_wording_is_another(tmp_path: Path) -> None:
    changed = [p._replace(question="what was that?") for p in PROBLEMS]
    assert filled(tmp_path).present(SET, changed) == set()
    regraded = [p._replace(answer="another gold") for p in PROBLEMS]
    assert len(SampleStore(tmp_path).present(SET, regraded)) == 100


def test_reading_makes_nothing_and_the_first_sample_stays(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "none")
    assert (
        store.present(SET, PROBLEMS) == set()
        and store.read(SET, PROBLEMS) == {}
        and store.get_fact("x") is None
        and not (tmp_path / "none").exists()
    )
    store = filled(tmp_path)
    store.add(SET, BY_ID, [(("p0", 0), Sample("later", 1, True))])
    assert store.read(SET, PROBLEMS)["p0", 0].text == "answer p0 0 é"


def test_what_failed_the_second_check_is_thrown_away(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    mark, other = store.last(), SET._replace(arm="sha256:other")
    store.add(SET, BY_ID, [(("p1", 7), Sample("doubtful", 1, True))])
    store.add(other, BY_ID, [(("p1", 7), Sample("not ours", 1, True))])
    store.discard(mark, [SET])
    assert (
        ("p1", 7) not in store.present(SET, PROBLEMS)
        and len(store.present(SET, PROBLEMS)) == 50
        and store.present(other, PROBLEMS) == {("p1", 7)}
    )


def test_findings_are_kept(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    store.put_fact("check", {"identical": False})
    store.put_fact("check", {"identical": True})
    assert SampleStore(tmp_path).get_fact("check") == {"identical": True}


WRITER = """
import sys
from pathlib import Path
from tests.evaluation.test_samples import BY_ID, PROBLEMS, SET, Sample, SampleStore
store = SampleStore(Path(sys.argv[1]))
for n in range(40):
    store.add(SET, BY_ID, [((p.id, n), Sample(f"{p.id} {n} by {sys.argv[2]}", n, True)) for p in PROBLEMS])
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """The same keys, each kept once and whole."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], env=environment()) for name in "ab"
    ]
    assert [writer.wait(HANG) for writer in writers] == [0, 0]
    found = SampleStore(tmp_path).read(SET, PROBLEMS)
    assert len(found) == 2000 and all(
        sample.text[:-1] == f"{problem} {n} by " for (problem, n), sample in found.items()
    )


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER.replace("range(40)", "range(10**6)"), str(tmp_path), "a"], env=environment()
    )
    store = SampleStore(tmp_path)
    began = time.monotonic()
    while store.count() < 200 and time.monotonic() - began < HANG:
        time.sleep(0.05)
    writer.kill()
    writer.wait()
    found = SampleStore(tmp_path).read(SET, PROBLEMS)
    assert len(found) >= 200 and len(found) % 50 == 0


@pytest.mark.parametrize("damage", ["cut", "nonsense", "holes"])
def test_a_damaged_file_is_named_moved_aside_and_read_as_far_as_it_goes(tmp_path: Path, damage: str) -> None:
    store, said = filled(tmp_path, 200), []
    store.close()
    data = store.path.read_bytes()
    if damage == "cut":
        store.path.write_bytes(data[: len(data) * 2 // 3])
    elif damage == "nonsense":
        store.path.write_bytes(b"no database" * 99)
    else:
        store.path.write_bytes(data[:4096] + b"\xff" * 4096 * 8 + data[4096 * 9 :])
    store = SampleStore(tmp_path, said.append)
    present = store.present(SET, PROBLEMS)
    found = store.read(SET, PROBLEMS)
    assert len(said) >= 1 and "moved to samples.sqlite.damaged-1" in said[0] and str(store.path) in said[0]
    assert found.keys() <= present and all(
        sample.text == f"answer {problem} {n} é" for (problem, n), sample in found.items()
    )
    assert (len(found) > 1000) == (damage == "cut")
    store.add(SET, BY_ID, [(("p3", 500), Sample("new", 1, True))])
    assert store.read(SET, PROBLEMS)["p3", 500].text == "new" and (tmp_path / "samples.sqlite.damaged-1").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFailed, match="cannot"):
        SampleStore(tmp_path / "samples").put_fact("a", 1)


@pytest.mark.slow
def test_the_index_of_a_million_samples_answers_without_reading_them_all(tmp_path: Path) -> None:
    """20 sets of 500 problems x 100 samples, put in by SQL. CPU time, beside that of reading every row once."""
    problems = [Problem(f"p{i}", f"q{i}", "1") for i in range(500)]
    sets = [SampleSet(f"sha256:{i}", "bench", {}) for i in range(20)]
    store, text = SampleStore(tmp_path), zlib.compress(b"a chain of thought, long enough to be pressed together " * 8)
    keys = [_problem_key(p) for p in problems]
    store._write(
        lambda db: db.executemany(
            "INSERT INTO samples VALUES (?, ?, ?, 80, 1, ?)",
            ((_set_id(samples.digest), key, n, text) for samples in sets for key in keys for n in range(100)),
        )
    )
    store.close()
    began = time.process_time()
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        assert sum(len(row[-1]) for row in db.execute("SELECT * FROM samples")) == 1_000_000 * len(text)
    everything, store, began = time.process_time() - began, SampleStore(tmp_path), time.process_time()
    assert len(store.present(sets[7], problems)) == 50_000 and store.count() == 1_000_000
    assert len(store.read(sets[3], problems, 4)) == 2_000
    assert time.process_time() - began < everything
