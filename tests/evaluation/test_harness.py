"""`eval --harness`: what the tools are told, arms that are kept, runs that fail, and (slow) the tools themselves on the
tiny family, without network.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.layout import CARD
from resa_hub.adapter.recorded import load_evaluations
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import DoesNotFit, MissingExtra, NotFound, RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.data.tiny import task
from resa_hub.evaluation.harness import checks, commands
from resa_hub.evaluation.harness.commands import HarnessConfig, Tool, inspect, lm_eval
from resa_hub.evaluation.harness.run import evaluate, plan
from resa_hub.evaluation.reports import ReportQuery, collect_report
from resa_hub.evaluation.sampling.engines import Engines
from resa_hub.report.write_report import rendered
from tests.evaluation.test_tool_logs import CHAIN
from tests.helpers import needs
from tests.helpers.adapters import make_adapter
from tests.helpers.models import tiny

QUIET = Progress(quiet=True)
SUMS = """
import json
from pathlib import Path
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate

@task
def sums():
    rows = [json.loads(line) for line in Path(ROWS).read_text().splitlines()]
    samples = [Sample(id=row["problem"], input=row["problem"], target=row["answer"]) for row in rows]
    return Task(dataset=samples, solver=generate(), scorer=pattern("<answer>([0-9])</answer>"))
"""
PRETEND = """
import json, sys
from pathlib import Path
out, arm, rows = Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
with open(out.parent / "runs.txt", "a") as file:
    print(arm, file=file)
if arm not in rows:
    sys.exit(f"Traceback\\nValueError: no rows for {arm}")
for task in ("one", "two_b"):
    lines = [{"doc_id": i, "doc_hash": str(i), "metrics": ["acc"], "acc": value} for i, value in enumerate(rows[arm])]
    (out / f"samples_{task}_2026-01-01T00-00-00.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
"""


def told(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_what_lm_eval_is_told() -> None:
    base, adapter = tiny("tiny-r1"), Path("/store/a,b")
    asked = HarnessConfig(("gsm8k", "/t/chain.yaml"), 50, 4, 7, 256, Engines("transformers", "bfloat16"))
    command = lm_eval(asked, base, adapter, None, Path("/out"))
    assert (
        command[:2] == ["lm_eval", "run"]
        and told(command, "--model") == "hf"
        and "--log_samples" in command
        and "--apply_chat_template" in command
    )
    assert json.loads(told(command, "--model_args")) == {
        "pretrained": str(base.folder),
        "dtype": "bfloat16",
        "peft": "/store/a,b",
    }
    flags = {
        "--tasks": "gsm8k,/t/chain.yaml",
        "--limit": "50",
        "--seed": "7",
        "--output_path": "/out",
        "--gen_kwargs": "max_gen_toks=256",
    }
    assert {flag: told(command, flag) for flag in flags} == flags
    plain = lm_eval(asked._replace(limit=None, new_tokens=None), base, None, None, Path("/out"))
    assert "peft" not in told(plain, "--model_args") and "--limit" not in plain and "--gen_kwargs" not in plain


def test_vllm_in_lm_eval_is_told_the_rank() -> None:
    asked = HarnessConfig(("gsm8k",), engines=Engines("vllm", "float32", tensor_parallel=2))
    command = lm_eval(asked, tiny("tiny-r1"), Path("/a"), 64, Path("/out"))
    expected = {"lora_local_path": "/a", "max_lora_rank": 64, "enable_lora": True, "tensor_parallel_size": 2}
    assert told(command, "--model") == "vllm" and json.loads(told(command, "--model_args")).items() >= expected.items()
    assert "lora" not in told(lm_eval(asked, tiny("tiny-r1"), None, None, Path("/out")), "--model_args")


def test_what_inspect_is_told() -> None:
    base = tiny("tiny-r1")
    asked = HarnessConfig(("/t/sums.py@sums",), 5, 3, 7, 99, Engines("transformers", "float32"))
    command = inspect(asked, base, Path("/a"), None, Path("/out"))
    assert command[:3] == ["inspect_ai", "eval", "/t/sums.py@sums"] and told(command, "--model") == "hf/tiny-r1"
    assert {"model_path=/out/adapter", f"tokenizer_path={base.folder}", "dtype=float32"} <= set(command)
    flags = {
        "--limit": "5",
        "--epochs": "3",
        "--seed": "7",
        "--max-tokens": "99",
        "--log-dir": "/out",
        "--log-format": "json",
    }
    assert {flag: told(command, flag) for flag in flags} == flags
    assert f"model_path={base.folder}" in inspect(asked, base, None, None, Path("/out"))
    with pytest.raises(Usage, match="commas"):
        inspect(asked, base, Path("/a"), None, Path("/o,ut"))


@pytest.fixture
def pretended(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool that logs what a file says, in the shape of lm-eval's logs; the file that it reads."""
    rows = workspace / "rows.json"
    (workspace / "pretend_tool.py").write_text(PRETEND)
    monkeypatch.setenv("PYTHONPATH", str(workspace))

    def command(asked: HarnessConfig, base: Any, adapter: Path | None, rank: int | None, folder: Path) -> list[str]:
        name = (
            "base"
            if adapter is None
            else "random"
            if "random" in adapter.name
            else "source"
            if "tina" in adapter.name
            else "adapter"
        )
        return ["pretend_tool", str(folder), name, str(rows)]

    monkeypatch.setitem(
        commands.TOOLS, "lm-eval", Tool("pytest", "pytest", command, "**/samples_*.jsonl", ("transformers",), "a note")
    )
    return rows


@pytest.mark.slow
def test_a_failed_arm_is_named_and_finished_arms_are_kept(pretended: Path, workspace: Path) -> None:
    arms = {"base": [0, 1] * 50, "source": [1] * 100, "adapter": [1] * 95 + [0] * 5}
    pretended.write_text(json.dumps(arms))
    home, name = Workspace(workspace), "tina-tiny-feature-diff-l2"

    def made() -> Any:
        return plan(name, "tiny-r1", "lm-eval", HarnessConfig(("one", "two")), home, controls=2)

    with pytest.raises(RunFailed, match="failed on the arm 'random-1': ValueError: no rows for random") as caught:
        evaluate(made(), "tiny-r1", QUIET)
    failed = Path(caught.value.hint.removeprefix("all that it said: ").partition(";")[0])
    assert "Traceback" in (failed / "stderr.txt").read_text()
    pretended.write_text(json.dumps(arms | {"random": [0, 1] * 50}))
    found = evaluate(made(), "tiny-r1", QUIET)
    assert [(r.task, r.judged.verdict.word, r.harness, r.fit, r.dtype) for r in found] == [
        (name, "transferred", "lm-eval", "exact", "float32") for name in ("one", "two_b")
    ]
    assert [(arm.name, arm.score) for arm in found[0].judged.arms] == [
        ("base", 50),
        ("source", 100),
        ("adapter", 95),
        ("random-1", 50),
        ("random-2", 50),
    ]
    assert "a note" in found[0].judged.notes and Path(found[0].logs["random-2"]).is_file()
    assert evaluate(made(), "tiny-r1", QUIET) == found
    runs = (home.cache / "harness" / "runs.txt").read_text().split()
    assert runs == ["base", "source", "adapter", "random", "random", "random"]  # each once, but for the one that failed


@pytest.mark.slow
def test_the_verdict_is_kept_beside_the_adapter_and_names_the_tool(
    pretended: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`show`, the card and the page have it like our own, and what the tool does not tell is no number."""
    pretended.write_text(
        json.dumps({"base": [0, 1] * 50, "source": [1] * 100, "adapter": [1] * 95 + [0] * 5, "random": [0, 1] * 50})
    )
    home, name = Workspace(workspace), "tina-tiny-feature-diff-l2"
    evaluate(plan(name, "tiny-r1", "lm-eval", HarnessConfig(("one", "two")), home, controls=1), "tiny-r1", QUIET)
    adapter = home.store.get(AdapterRef(name))
    first, second = load_evaluations(adapter)
    assert [(e["benchmark"], e["split"], e["verdict"], e["purpose"]) for e in (first, second)] == [
        (task, "lm-eval", "transferred", "test") for task in ("one", "two_b")
    ]
    assert (
        first["harness"].startswith("lm-eval ") and first["temperature"] is None and first["gain"] == pytest.approx(45)
    )
    assert [(arm["name"], arm["role"], arm["score"], arm["tokens"]) for arm in first["arms"]] == [
        ("base", "base", 50, None),
        ("source", "source", 100, None),
        (f"{name}@0.1.0", "adapter", 95, None),
        (f"{name}@0.1.0 random-1", "random", 50, None),
    ]
    verify_folder(adapter.folder)  # its files have names that an adapter may hold
    assert run(
        ["show", name, "--workspace", str(workspace)]
    ) == 0 and "transferred on tiny-r1, one (lm-eval)" in " ".join(capsys.readouterr().out.split())
    card = (adapter.folder / CARD).read_text()
    assert "drawn and graded by lm-eval" in card and "two_b (lm-eval)" in card and "at T=" not in card
    page = rendered(collect_report(ReportQuery([name]), workspace), ".html")
    assert (
        page.count('<p class="word">Transferred.</p>') == 2
        and "drawn and graded by lm-eval" in page
        and "in the logs of lm-eval" in page
    )


@pytest.mark.slow
def test_the_command_line_prints_the_verdict_and_what_it_would_run(
    pretended: Path, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended.write_text(json.dumps({"base": [0, 1] * 50, "adapter": [1] * 100}))
    words = [
        "eval",
        "tina-tiny-feature-diff-l2",
        "--target",
        "tiny-r1",
        "--harness",
        "lm-eval",
        "--workspace",
        str(workspace),
        "--arms",
        "none",
    ]
    assert run([*words, "--tasks", "one", "--dry-run", "--json"]) == 0
    assert (
        list(json.loads(capsys.readouterr().out)["commands"]) == ["base", "adapter"]
        and not (workspace / ".resa-hub" / "harness").exists()
    )
    assert run([*words, "--tasks", "one", "-q"]) == 0
    assert capsys.readouterr().out.split("\n") == ["not distinguishable from controls"] * 2 + [""]
    pretended.write_text("{}")
    shutil.rmtree(workspace / ".resa-hub")
    assert run([*words, "--tasks", "one"]) == 1
    assert run([*words, "--tasks", "one", "--benchmark", "math500"]) == 2
    assert run(words) == 2
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    capsys.readouterr()
    assert run([*words, "--tasks", "one"]) == 8
    assert "pip install 'lm-eval>=" in capsys.readouterr().err


def test_what_cannot_be_run(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: True)
    monkeypatch.setattr(checks, "_installed", lambda package: False)
    home, name = Workspace(workspace), "tina-tiny-feature-diff-l2"
    small = make_adapter(workspace / "adapters")
    wrong: list[tuple[str, str, HarnessConfig, type[Exception], str]] = [
        (name, "lmeval", HarnessConfig(("a",)), Usage, "no harness is called 'lmeval'"),
        (name, "lm-eval", HarnessConfig(()), Usage, "no task"),
        (name, "lm-eval", HarnessConfig(("none.yaml",)), NotFound, "does not exist"),
        ("nobody", "lm-eval", HarnessConfig(("a",)), NotFound, "nobody"),
        (name, "inspect", HarnessConfig(("a",), engines=Engines("vllm")), Usage, "transformers only, not vllm"),
        (name, "lm-eval", HarnessConfig(("a",), engines=Engines("vllm")), MissingExtra, "vllm"),
        (small.parent.name, "lm-eval", HarnessConfig(("a",)), DoesNotFit, "tiny-r1"),
    ]
    for adapter, tool, asked, error, said in wrong:
        with pytest.raises(error, match=said):
            plan(adapter, "tiny-r1", tool, asked, home)
    with pytest.raises(Usage, match="not negated"):
        plan(name, "tiny-r1", "lm-eval", HarnessConfig(("a",)), home, arms=("negated",))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve problems in a file, and no network for the tools."""
    for variable, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(variable, value)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"problem": p.text, "answer": p.answer}) + "\n" for p in task.problems(12, "test", 0))
    )
    return rows


def judged(workspace: Path, name: str, tool: str, asked: HarnessConfig) -> Any:
    made = plan(name, "tiny-r1", tool, asked, Workspace(workspace), arms=())
    (found,) = evaluate(made, "tiny-r1", QUIET)
    assert (found.judged.problems, found.harness, list(found.logs)) == (12, tool, ["base", "adapter"])
    assert found.judged.verdict.word in ("not distinguishable from controls", "underpowered")
    return found


@pytest.mark.slow
def test_lm_eval_runs_base_and_adapter(workspace: Path, offline: Path) -> None:
    """The real tool on the tiny model; the adapter's texts are others than the base's, so it was on."""
    needs.package("lm_eval", "lm-eval")
    file = workspace / "chain.yaml"
    file.write_text(CHAIN.replace("rows.jsonl", str(offline)))
    found = judged(workspace, "tina-tiny-feature-diff-l2", "lm-eval", HarnessConfig((str(file),)))
    texts = {
        name: [json.loads(line)["resps"] for line in Path(path).read_text().splitlines()]
        for name, path in found.logs.items()
    }
    assert (
        found.task == "chain"
        and found.judged.samples == 1
        and texts["base"] != texts["adapter"]
        and found.judged.arms[0].metric == "exact_match"
    )


@pytest.mark.slow
def test_inspect_runs_base_and_adapter(workspace: Path, offline: Path) -> None:
    needs.package("inspect_ai", "inspect")
    file = workspace / "sums.py"
    file.write_text(SUMS.replace("ROWS", repr(str(offline))))
    found = judged(
        workspace, "tina-tiny-feature-diff-l2", "inspect", HarnessConfig((str(file),), samples=2, new_tokens=72)
    )
    answers = {
        name: [s["output"]["completion"] for s in json.loads(Path(path).read_text())["samples"]]
        for name, path in found.logs.items()
    }
    assert (
        found.task == "sums"
        and found.judged.samples == 2
        and answers["base"] != answers["adapter"]
        and found.judged.arms[0].metric == "pattern"
    )
