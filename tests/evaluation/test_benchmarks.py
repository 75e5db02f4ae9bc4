"""Benchmarks from the real loaders: data sets of the published columns over HTTP, local files, and what is said when
something is missing.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.adapter.workspace import Workspace
from resa_hub.config.registry import Registry
from resa_hub.core.errors import NotFound, Usage
from resa_hub.evaluation import benchmarks
from resa_hub.evaluation.benchmarks.base import GradedCompletion
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.evaluation.report_entries import graded
from tests.helpers.benchmarks import NAMES, ROWS, files_of, written
from tests.helpers.commands import HANG, ROOT, environment
from tests.helpers.evaluations import again as again
from tests.helpers.evaluations import run
from tests.helpers.hub_server.dataset_routes import publish
from tests.helpers.hub_server.fixtures import TOKEN
from tests.helpers.hub_server.server import HubServer

READ = """
import json, sys
from resa_hub.evaluation import benchmarks
from resa_hub.core.errors import HubError
for name in sys.argv[1:]:
    try:
        made = benchmarks.load(name)
        problems = {split: made.problems(split) for split in made.splits}
        print(json.dumps([made.name, made.revision, problems, made.temperature, made.top_p, made.new_tokens]))
    except HubError as error:
        print(json.dumps([type(error).__name__, error.message, error.hint]))
"""


def read(home: Path, url: str, *names: str, token: str | None = TOKEN) -> list[Any]:
    """What a process with this Hub reads; the client takes its endpoint when it is imported."""
    env = environment(HF_ENDPOINT=url, HF_TOKEN=token, HF_HOME=str(home / "hf"), XDG_CONFIG_HOME=str(home / "config"))
    done = subprocess.run(
        [sys.executable, "-c", READ, *names], env=env, cwd=ROOT, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """Every registered data set on a Hub of its own: (hub, name -> what was read, name -> commit)."""
    home = tmp_path_factory.mktemp("served")
    hub = HubServer(home / "hub", {TOKEN: "Idavidrein"})
    commits = {
        name: publish(hub.storage, repo, files_of(repo), gated=name == "gpqa-diamond") for name, repo in NAMES.items()
    }
    found = dict(zip(NAMES, read(home, hub.url, *NAMES), strict=True))
    yield hub, found, commits
    hub.stop()


def test_every_registered_benchmark_is_read_over_http_at_a_commit(served: Any) -> None:
    hub, found, commits = served
    for name, (named, revision, splits, temperature, top_p, new_tokens) in found.items():
        rows = ROWS[NAMES[name]][1]
        assert (named, revision, temperature, top_p, new_tokens) == (name, commits[name], 0.6, 0.95, 32_768)
        full, dev, test = splits["full"], splits["dev"], splits["test"]
        assert len(full) == len(rows) == len({p[0] for p in full})
        ids = [{p[0] for p in part} for part in (dev, test)]
        assert len(dev) >= 2 and not ids[0] & ids[1] and ids[0] | ids[1] == {p[0] for p in full}
        assert all("\\boxed{}" in question and question.count("\\boxed") == 1 for _, question, *_ in full)
    assert hub.sent("GET", r"/datasets/HuggingFaceH4/MATH-500/resolve/" + commits["math500"])


def test_golds_are_taken_from_where_each_data_set_has_them(served: Any) -> None:
    found = {
        name: {question.partition("\n")[0]: gold for _, question, gold, _ in read_[2]["full"]}
        for name, read_ in served[1].items()
    }
    assert found["aime24"]["Find the sum of $3$ and $17$."] == "020"
    assert found["minerva"]["A mass of 3 kg, in grams?"] == "3e3"
    assert found["gsm8k"]["Ann has 3 thousand coins and gets one more. How many?"] == "3,001"
    assert found["olympiadbench"]["Solve $x^2=9$."] == "$3$, $-3$"
    assert found["amc23"]["Halve $5$."] == "2.5"


def test_choices_are_ordered_by_a_hash_and_the_letter_is_the_right_one(served: Any) -> None:
    letters = []
    for _, question, gold, _ in served[1]["gpqa-diamond"][2]["full"]:
        asked, *listed = [line for line in question.splitlines() if line]
        number = int(asked.split()[-1].rstrip("?"))
        choices = {line[0]: line[3:] for line in listed[:4]}
        assert list(choices) == ["A", "B", "C", "D"] and choices[gold] == str(number + 1)
        assert {int(choice) for choice in choices.values()} == set(range(number + 1, number + 5))
        letters.append(gold)
    assert {letters.count(letter) >= 4 for letter in "ABCD"} == {True}


@pytest.mark.slow
def test_what_is_out_of_reach_can_be_named_as_a_file(served: Any, tmp_path: Path) -> None:
    hub = served[0]
    (gated,) = read(tmp_path, hub.url, "gpqa-diamond", token=None)
    assert gated[0] == "Network" and "restricted" in gated[1] and "gpqa-diamond=./gpqa-diamond.parquet" in gated[2]
    offline = read(tmp_path, "http://127.0.0.1:9", "math500")[0]
    assert (
        offline[0] == "Network"
        and "cannot be reached" in offline[1]
        and "--benchmark math500=./math500.parquet" in offline[2]
    )
    copy = tmp_path / "mine.csv"
    copy.write_bytes(written("mine.csv", ROWS[NAMES["gpqa-diamond"]][1]))
    (local,) = read(tmp_path, "http://127.0.0.1:9", f"gpqa-diamond={copy}")
    assert local[0] == "gpqa-diamond" and local[2] == served[1]["gpqa-diamond"][2]


@pytest.mark.slow
def test_a_split_or_configuration_that_the_hub_lacks(served: Any, tmp_path: Path) -> None:
    (tmp_path / "config/resa-hub").mkdir(parents=True)
    (tmp_path / "config/resa-hub/registry.yaml").write_text(
        "benchmarks: {a: {id: HuggingFaceH4/MATH-500, split: train}, b: {id: openai/gsm8k, config: x}, c: {id: "
        "knoveleng/none},"
        " d: {id: knoveleng/AMC-23, split: train, question: text}}"
    )
    found = read(tmp_path, served[0].url, "a", "b", "c", "d")
    assert [error[0] for error in found] == ["NotFound", "NotFound", "NotFound", "Usage"]
    assert "train" in found[0][1] and "'x'" in found[1][1] and all("local copy" in error[2] for error in found[:3])
    assert "no column 'text'; it has problem, answer, url" in found[3][1]


# Local files


def written_to(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows)) if path.suffix == ".json" else path.write_bytes(
        written(path.name, rows)
    )
    return str(path)


SUMS = [{"problem": f"{i}+{i}", "answer": f"{2 * i:03}"} for i in range(50)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_local_file(tmp_path: Path, suffix: str) -> None:
    made = benchmarks.load(written_to(tmp_path / f"My sums{suffix}", SUMS))
    assert made.name == "file-My-sums"
    full = made.problems()
    assert {p.answer for p in full} == {row["answer"] for row in SUMS}  # leading zeros and all
    assert made.problems("full", 10) == full[:10] and made.problems("test", 5) == made.problems("test", 20)[:5]
    assert [p.id for p in full] != [p.id for p in sorted(full, key=lambda p: p.question)]
    assert made.revision.startswith("sha256:")


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    one, other = (
        benchmarks.load(written_to(tmp_path / f"{name}.jsonl", rows))
        for name, rows in (("a", SUMS), ("b", SUMS[::-1] + SUMS[:3]))
    )
    assert (
        one.problems("dev") == other.problems("dev")
        and one.problems("test", 7) == other.problems("test", 7)
        and len(other.problems()) == 50
    )


@pytest.mark.parametrize(
    ("rows", "error", "said", "hint"),
    [
        ([], Usage, "no rows", "row"),
        (
            [{"task": "1+1", "answer": "2"}] * 3,
            Usage,
            "no column of questions (problem, question, prompt); it has task, answer",
            ":question=COLUMN",
        ),
        ([{"problem": "1+1", "result": "2"}] * 3, Usage, "no column of answers", ":question=COLUMN,answer=COLUMN"),
        ([{"problem": "1+1", "answer": "2"}], Usage, "1 problems", "ask for"),
        ([{"problem": f"{i}", "answer": None} for i in range(4)], Usage, "line 1 of", "mend that row"),
    ],
    ids=["empty", "no problem", "no answer", "single", "no golds"],
)
def test_files_that_cannot_be_judged(tmp_path: Path, rows: list, error: type, said: str, hint: str) -> None:
    with pytest.raises(error) as caught:
        benchmarks.load(written_to(tmp_path / "x.jsonl", rows)).problems()
    assert said in caught.value.message and hint in caught.value.hint


def test_columns_of_a_file_by_usual_names_and_by_name(tmp_path: Path) -> None:
    rows = [{"question": f"{i}+{i}", "answer": f"{2 * i:03}", "gold": "7"} for i in range(20)]
    path = written_to(tmp_path / "x.jsonl", rows)
    usual = benchmarks.load(path).problems()
    assert {problem.published: problem.answer for problem in usual}["7+7"] == "014"
    named = benchmarks.load(f"exact={path}:question=question,answer=gold")
    assert {problem.answer for problem in named.problems()} == {"7"}
    assert {problem.answer for problem in benchmarks.load(f"{path}:answer=gold").problems()} == {"7"}


def test_broken_and_missing_files(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", "{"), ("b.csv", ""), ("c.parquet", "no"), ("d.json", "[1")):
        (tmp_path / name).write_text(content)
        with pytest.raises(Usage, match="cannot be read as"):
            benchmarks.load(str(tmp_path / name)).problems()
    with pytest.raises(NotFound, match="no such file"):
        benchmarks.load(str(tmp_path / "none.jsonl")).problems()


def test_a_file_with_another_rule(tmp_path: Path) -> None:
    path = written_to(tmp_path / "sums.jsonl", SUMS)
    made = benchmarks.load(f"last-integer={path}")
    problem = next(p for p in made.problems() if p.answer == "014")
    assert problem.question == "7+7" and [
        g.strict
        for g in made.grades([GradedCompletion(problem, "It is 14.", True), GradedCompletion(problem, "41", True)])
    ] == [
        True,
        False,
    ]
    assert benchmarks.load(f"aime24={path}").name == "aime24"
    with pytest.raises(NotFound, match="'maths'") as caught:
        benchmarks.load(f"maths={path}")
    assert "did you mean math" in caught.value.hint


def test_words_and_splits_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        benchmarks.load("aime2024")
    assert caught.value.hint == "did you mean aime24?"
    made = benchmarks.load(written_to(tmp_path / "sums.jsonl", SUMS))
    for split, count, problem_seed, said in (
        ("exam", None, 0, "no split 'exam'"),
        (None, 51, 0, "has 50 problems"),
        (None, 1, 0, "1 problems cannot"),
        (None, 5, 1, "no problem seed 1"),
    ):
        with pytest.raises(Usage, match=said):
            made.problems(split, count, problem_seed)


def test_a_prompt_of_the_registry(tmp_path: Path) -> None:
    path = written_to(tmp_path / "sums.jsonl", SUMS)
    (tmp_path / "registry.yaml").write_text(
        f"benchmarks: {{mine: {{id: {path}, prompt: 'Sum: {{problem}} ='}}, bad: {{id: {path}, prompt: boxd}}}}"
    )
    names = Registry(tmp_path)
    assert any(p.question == "Sum: 7+7 =" for p in benchmarks.load("mine", names).problems())
    with pytest.raises(Usage, match="no place for the problem"):
        benchmarks.load("bad", names).problems()


@pytest.mark.slow
def test_a_file_that_was_asked_here_is_read_again_for_the_page_and_no_other_file(again: Path, tmp_path: Path) -> None:
    rows = [{"problem": f"{i}+{i}=", "answer": str(2 * i)} for i in range(10)]
    file = written_to(tmp_path / "sums.jsonl", rows)
    settings = EvalSettings(benchmark=f"last-integer={file}", samples=1, seeds=1, new_tokens=40)
    document = run(again, settings)
    problems, tables = graded(document, Workspace.find(again))
    assert document.benchmark == "file-sums" and len(problems) == 10 and len(tables) == len(document.arms)
    with pytest.raises(NotFound, match="no file file-others was asked"):
        graded(msgspec.structs.replace(document, benchmark="file-others"), Workspace.find(again))
    Path(file).unlink()
    with pytest.raises(NotFound, match="or it is gone"):
        graded(document, Workspace.find(again))
