"""Logs of other tools: those the tools themselves write (slow), their shapes (quick), and what cannot be judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resa_hub.core.errors import HubError, NotFound, RunFailed, Usage
from resa_hub.data.tiny import WEIGHTS, task
from resa_hub.evaluation.harness import tool_logs
from resa_hub.evaluation.harness.imported import judge_logs
from tests.helpers import needs
from tests.helpers.commands import HANG, resa_hub

INSPECT = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import solver

@solver
def fixed():
    async def solve(state, generate):
        number = int(str(state.sample_id)[1:])
        state.output = ModelOutput.from_content("fixed", str(2 * number if (number + state.epoch) % 3 else 7))
        return state
    return solve

rows = [Sample(id=f"q{i}", input=f"{i}+{i}", target=str(2 * i)) for i in range(6)]
task = Task(dataset=rows, solver=fixed(), scorer=match(), name="sums")
for kind in ("eval", "json"):
    eval(task, model=None, log_dir=f"{sys.argv[1]}/{kind}", log_format=kind, epochs=2, display="none")
"""
CHAIN = """
task: chain
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{problem}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["?"], max_gen_toks: 72, do_sample: false}
filter_list:
  - {name: tag, filter: [{function: regex, regex_pattern: "<answer>([0-9])</answer>"}, {function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def tool(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_inspects_own_logs(tmp_path: Path) -> None:
    needs.package("inspect_ai", "inspect")
    tool(tmp_path, "-c", INSPECT, str(tmp_path))
    for kind in ("eval", "json"):
        (path,) = (tmp_path / kind).glob(f"*.{kind}")
        found = tool_logs.read(path)
        expected = {f"q{i}": [int((i + epoch) % 3 != 0 or 2 * i == 7) for epoch in (1, 2)] for i in range(6)}
        assert (found.tool, found.metric, found.results, found.dropped) == ("inspect", "match", expected, 0)


@pytest.mark.slow
def test_lm_evals_own_logs(tmp_path: Path) -> None:
    """On the real tiny model: the same problems are right as our own grading finds in its answers."""
    needs.package("lm_eval", "lm-eval")
    rows = [{"problem": p.text, "answer": p.answer} for p in task.problems(12, "test", 0)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "chain.yaml").write_text(CHAIN)
    model = f"pretrained={WEIGHTS / 'tiny-r1'},dtype=float32"
    arguments = (
        "--tasks",
        "chain",
        "--include_path",
        ".",
        "--log_samples",
        "--output_path",
        "out",
        "--device",
        "cpu",
        "--batch_size",
        "12",
    )
    tool(tmp_path, "-m", "lm_eval", "--model", "hf", "--model_args", model, *arguments)
    (path,) = (tmp_path / "out").rglob("samples_chain_*.jsonl")
    found = tool_logs.read(path)
    right = [
        f"<answer>{line['target']}</answer>" in line["resps"][0][0]
        for line in map(json.loads, path.read_text().splitlines())
    ]
    assert (
        found.tool == "lm-eval"
        and [row == [1] for row in found.results.values()] == right
        and len(right) == 12
        and 0 < sum(right) < 12
    )


def lm_eval_log(path: Path, right: list[int], filters: tuple[str, ...] = ("none",), first: int = 0) -> Path:
    lines = [
        {
            "doc_id": i,
            "doc_hash": f"h{first + i}",
            "target": "1",
            "resps": [["x"]],
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": float(value),
        }
        for i, value in enumerate(right)
        for name in filters
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.slow
def test_our_verdict_on_logs_of_lm_eval(tmp_path: Path) -> None:
    arms = {
        "base": [0, 1] * 50,
        "adapter": [1] * 95 + [0] * 5,
        "source": [1] * 100,
        "random-1": [0, 1] * 50,
        "random-2": [1, 0] * 50,
    }
    files = [f"{name}={lm_eval_log(tmp_path / f'samples_{name}.jsonl', right)}" for name, right in arms.items()]
    found = judge_logs(files)
    assert (found.problems, found.samples, found.verdict.word) == (100, 1, "transferred")
    assert {arm.name: arm.score for arm in found.arms} == {
        "base": 50,
        "adapter": 95,
        "source": 100,
        "random-1": 50,
        "random-2": 50,
    }
    assert judge_logs(files[:2]).verdict.word == "not distinguishable from controls"
    done = resa_hub("eval", *(part for file in files for part in ("--import", file)), cwd=tmp_path)
    assert done.returncode == 0 and "verdict: TRANSFERRED" in done.stdout and "random numbers" in done.stdout
    assert (
        json.loads(resa_hub("eval", "--json", "--import", files[0], "--import", files[1]).stdout)["verdict"]["word"]
        == "not distinguishable from controls"
    )


def test_one_of_several_filters(tmp_path: Path) -> None:
    path = lm_eval_log(tmp_path / "s.jsonl", [1, 0, 1], ("strict-match", "flexible-extract"))
    assert tool_logs.read(path).metric == "exact_match,flexible-extract"
    found = tool_logs.read(path, "exact_match,strict-match")
    assert list(found.results.values()) == [[1], [0], [1]]


def test_details_of_lighteval_as_documented(tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(
        {
            "doc": [{"id": str(i // 2), "query": f"q{i // 2}"} for i in range(6)],
            "model_response": [{"text": ["a"]}] * 6,
            "metric": [{"extractive_match": float(i % 3 == 0)} for i in range(6)],
        }
    )
    frame.to_parquet(tmp_path / "details.parquet")
    found = tool_logs.read(tmp_path / "details.parquet")
    assert (found.tool, found.metric, found.results) == (
        "lighteval",
        "extractive_match",
        {"0": [1, 0], "1": [0, 1], "2": [0, 0]},
    )


def test_results_that_are_neither_right_nor_wrong_are_counted(tmp_path: Path) -> None:
    samples = [
        {"id": i, "epoch": 1, "scores": {"match": {"value": value}}}
        for i, value in enumerate(["C", "I", "P", 0.5, None])
    ]
    (tmp_path / "log.json").write_text(
        json.dumps({"status": "success", "samples": [*samples, {"id": 9, "epoch": 1, "scores": {}}]})
    )
    found = tool_logs.read(tmp_path / "log.json")
    assert found.dropped == 4 and found.results == {"0": [1], "1": [0], "2": [0], "3": [0], "4": [0], "9": [0]}


def test_logs_that_cannot_be_judged(tmp_path: Path) -> None:
    one, other = lm_eval_log(tmp_path / "a.jsonl", [1, 0, 1]), lm_eval_log(tmp_path / "b.jsonl", [1, 0, 1], first=2)
    for name, content in (
        ("c.jsonl", "{"),
        ("d.json", "{}"),
        ("e.parquet", "x"),
        ("f.eval", "x"),
        ("g.jsonl", ""),
        ("h.txt", "x"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises((RunFailed, Usage)) as caught:
            tool_logs.read(tmp_path / name)
        assert name in caught.value.message and caught.value.hint
    failed = tmp_path / "failed.json"
    failed.write_text(
        json.dumps({"status": "error", "error": {"message": "no connection"}, "samples": [{"id": 1, "scores": {}}]})
    )
    wrong: list[tuple[list[str], type[HubError], str]] = [
        ([f"base={one}"], Usage, "no log for adapter"),
        ([f"base={one}", f"adapter={other}"], Usage, "different problems: 4"),
        ([f"base={one}", "adapter=none.jsonl"], NotFound, "does not exist"),
        ([str(one)], Usage, "names no arm"),
        ([f"base={one}", f"adapter={one}", f"base={one}"], Usage, "twice"),
        ([f"base={failed}", f"adapter={one}"], RunFailed, "did not finish: no connection"),
    ]
    for files, error, said in wrong:
        with pytest.raises(error, match=said):
            judge_logs(files)
    with pytest.raises(Usage, match="no metric acc"):
        tool_logs.read(one, "acc")
    assert resa_hub("eval").returncode == 2
