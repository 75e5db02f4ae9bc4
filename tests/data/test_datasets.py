"""Data sets: files with the columns of the real ones, what a cell may hold, and what is left out."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from resa_hub.config.recipe import Data
from resa_hub.config.registry import Registry
from resa_hub.config.schema import Dataset
from resa_hub.core.errors import NotFound, RunFailed, Usage
from resa_hub.data import datasets

# One row each with the columns that the data set of this name has on the Hub; the values are ours.
TRACE = "<think>\nTwo and two\n</think>\n\nIt is \\boxed{4}."
SCHEMAS: dict[str, list[dict[str, Any]]] = {
    "still": [{"question": "What is 2+2?", "answer": "4", "dataset": "ours"}],
    "deepscaler": [{"problem": "What is 2+2?", "answer": "4", "solution": "Two and two make 4."}],
    "open-s1": [{"problem": "What is 2+2?", "solution": "Two and two make 4.", "answer": "4"}],
    "open-rs": [{"problem": "What is 2+2?", "answer": "4", "level": "Easy"}],
    "ii-thought": [
        {
            "messages": [{"content": "What is 2+2?", "role": "user"}],
            "verification_info": json.dumps({"answer": {"value": "4"}, "others": None}),
        }
    ],
    "open-r1": [
        {
            "problem": "What is 2+2?",
            "solution": "Two and two make 4.",
            "answer": "4",
            "generations": [TRACE, "cut"],
            "correctness_math_verify": [True, False],
        }
    ],
}
WITH_SOLUTIONS = {"deepscaler", "open-s1", "open-r1"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path, rows: int | None = None, cot: bool = False, **columns: Any) -> Any:
    return datasets.load(Data(name="mine", rows=rows, cot=cot), Dataset(id=str(path), **columns))


def local(name: str, path: Path) -> Dataset:
    """The registry's entry, its columns kept, with a file in the place of the repository."""
    import msgspec

    return msgspec.structs.replace(Registry().dataset(name), id=str(path))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_data_set_of_the_registry_is_read_by_its_columns(name: str, suffix: str, tmp_path: Path) -> None:
    entry = local(name, write(tmp_path / f"rows{suffix}", SCHEMAS[name]))
    rows = datasets.load(Data(name=name), entry)
    assert (rows.pairs, rows.thoughts, rows.lacking) == ([("What is 2+2?", "4")], None, ())
    assert (entry.solution is not None) == (name in WITH_SOLUTIONS)
    if entry.solution:
        thought = datasets.load(Data(name=name, cot=True), entry)
        assert thought.thoughts == ["Two and two make 4."] and thought.fingerprint != rows.fingerprint
    else:
        with pytest.raises(Usage, match="no column of solutions"):
            datasets.load(Data(name=name, cot=True), entry)


def test_the_schemas_are_those_of_the_registry() -> None:
    assert {name for name, entry in Registry().entries["datasets"].items() if entry.value.id != datasets.TINY} == set(
        SCHEMAS
    )


def test_a_whole_trace_gives_what_stands_between_the_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", SCHEMAS["open-r1"])
    assert read(path, cot=True, solution="generations.0").thoughts == ["Two and two"]
    assert read(path, cot=True, solution="generations.1").thoughts == ["cut"]
    with pytest.raises(RunFailed, match=r"generations\.2"):
        read(path, cot=True, solution="generations.2")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("007", "007"),
        (" 7 ", " 7 "),
        (7, "7"),
        (7.0, "7"),
        (0.5, "0.5"),
        (-3, "-3"),
        (True, "true"),
        (["4"], "4"),
        (["4", 5.0], "4, 5"),
        ({"a": 1}, '{"a": 1}'),
        (1e300, "1e+300"),
        (0, "0"),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "u"),
        ([{"role": "system", "content": "s"}], "s"),
        (None, ""),
        ("", ""),
        ("  \n", ""),
        (float("nan"), ""),
        ([], ""),
        ([None], ""),
    ],
)
def test_what_a_cell_may_hold(value: Any, text: str) -> None:
    assert datasets.as_text(value) == text


def test_rows_that_lack_a_part_are_left_out_and_named_and_equal_ones_are_kept(tmp_path: Path) -> None:
    answers = ["1", None, "", " ", 2, "1"]
    path = write(
        tmp_path / "rows.jsonl",
        [{"problem": "q", "answer": answer} for answer in answers] + [{"problem": None, "answer": "3"}],
    )
    path.write_text("\n" + path.read_text())
    rows = read(path)
    assert rows.pairs == [("q", "1"), ("q", "2"), ("q", "1")]
    assert rows.left_out == "4 of 7 rows lack a part and are left out: line 3, line 4, line 5, line 8"
    assert (
        read(path, rows=2).pairs == [("q", "1")] and len(read(path, rows=2).lacking) == 1
    )  # the first two rows, one of them usable


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("row", "solution"),
    [
        ({"id": "1", "problem": "1+1", "answer": "2"}, None),
        ({"question": "1+1", "answer": "2", "solution": "one and one"}, "one and one"),
        ({"prompt": "1+1", "target": "2"}, None),
        ({"final_answer": "2", "question": "1+1"}, None),
        ({"question": "other", "problem": "1+1", "answer": "2", "solution": "s"}, "s"),
    ],
)
def test_columns_are_found_by_their_usual_names(
    suffix: str, row: dict[str, str], solution: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / f"rows{suffix}", [row, row])
    assert read(path).pairs == [("1+1", "2")] * 2
    if solution:
        assert read(path, cot=True).thoughts == [solution] * 2
    else:
        with pytest.raises(Usage, match=r"no column of solutions \(solution\); it has"):
            read(path, cot=True)


def test_columns_of_other_names_are_said_behind_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"task": "1+1", "gold": {"value": 2}, "why": "so"}] * 2)

    def load(columns: str, cot: bool = False) -> Any:
        name = f"{path}{columns}"
        return datasets.load(Data(name=name, cot=cot), Registry().dataset(name))

    assert load(":question=task,answer=gold.value").pairs == [("1+1", "2")] * 2
    assert load(":question=task,answer=gold.value,solution=why", cot=True).thoughts == ["so"] * 2
    for columns, said, hint in (
        ("", "no column of questions (problem, question, prompt); it has task, gold, why", ":question=COLUMN,answer="),
        (":question=task", "no column of answers", f"say which: {path}:question=COLUMN,answer=COLUMN"),
        (":question=tsk,answer=gold", "no column 'tsk'; it has task, gold, why", ":question=COLUMN"),
    ):
        with pytest.raises(Usage) as caught:
            load(columns)
        assert said in caught.value.message and hint in caught.value.hint
    with pytest.raises(Usage) as caught:
        load(":question=task,answer=why", cot=True)
    assert caught.value.hint == f"say which: {path}:solution=COLUMN"


def test_a_broken_cell_of_json_costs_its_row_only(tmp_path: Path) -> None:
    cells = [
        "{",
        '{"answer": {"value": "4"}}',
        '{"answer": null}',
        "[1]",
        '{"answer": {"other": 1}}',
        '{"answer": {"value": 5}}',
    ]
    rows = [{"problem": "q", "info": cell} for cell in cells]
    found = read(write(tmp_path / "rows.jsonl", rows), answer="info.answer.value")
    assert [answer for _, answer in found.pairs] == ["4", "5"] and len(found.lacking) == 4
    with pytest.raises(RunFailed, match=r"problem and info\.nothing"):
        read(tmp_path / "rows.jsonl", answer="info.nothing")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_texts_stay_as_they_are_in_every_format(suffix: str, tmp_path: Path) -> None:
    """A reader that guesses types would make 7 of 007 and a date of 1/2."""
    rows = [
        {"problem": "a,\nb", "answer": "007"},
        {"problem": 'say "x"', "answer": "1/2"},
        {"problem": "é", "answer": "1e3"},
    ]
    assert read(write(tmp_path / f"rows{suffix}", rows)).pairs == [("a,\nb", "007"), ('say "x"', "1/2"), ("é", "1e3")]


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("none.jsonl", None, NotFound, "no such file"),
        ("rows.tsv", b"problem\tanswer", Usage, "is none of .jsonl, .json, .csv or .parquet"),
        ("bad.jsonl", b"{", Usage, "cannot be read as jsonl"),
        ("bad.json", b"\xff\xfe", Usage, "cannot be read as json"),
        ("bad.jsonl", b"{}\n\n{\n", Usage, "line 3, column 2"),
        ("bad.parquet", b"PAR", Usage, "cannot be read as parquet"),
        ("list.jsonl", b"[1]\n", Usage, "other than records"),
        ("empty.jsonl", b"", Usage, "no row"),
        ("other.jsonl", b'{"text": "x"}', Usage, "no column of questions (problem, question, prompt); it has text"),
    ],
)
def test_files_that_cannot_be_data_are_one_clear_error(
    name: str, content: bytes | None, error: type, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        read(tmp_path / name)
    assert said in caught.value.message and caught.value.hint


def test_the_tiny_task_has_chains_of_thought_too() -> None:
    entry = Dataset(id=datasets.TINY)
    rows = datasets.load(Data(name="tiny-chain", rows=3, seed=1, cot=True), entry)
    assert rows.thoughts and all(
        thought.rpartition("=")[2] == answer for thought, (_, answer) in zip(rows.thoughts, rows.pairs, strict=True)
    )
    assert datasets.load(Data(name="tiny-chain", rows=3, seed=1), entry).pairs == rows.pairs
