"""A dry run refuses what the run refuses, with the same words and the same exit code; its numbers are sane."""

import json
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.extraction.forecast import forecast
from resa_hub.extraction.plan import plan
from tests.conftest import QUICK
from tests.helpers.commands import out, resa_hub

NAME = "tina-tiny-feature-diff-l2"
EXTRACT, EVAL = ("extract", "--source", "tina-tiny"), ("eval", NAME, "--target", "tiny-r1")
MATRIX = ("matrix", "--sources", NAME, "--targets", "tiny-r1")
SWEEP, ATTACH = ("sweep", "--source", "tina-tiny", "--layers", "1"), ("attach", NAME, "--target", "tiny-r1")
HARNESS = ("eval", "harness", NAME, "--target", "tiny-r1")
USAGE, NOT_FOUND, DOES_NOT_FIT, NO_EFFECT, FAILED = 2, 3, 4, 9, 1
DIFF = (*EXTRACT, "--method", "feature-diff")

MISTAKES: list[tuple[int, tuple[str, ...], str]] = [
    (USAGE, (*EXTRACT, "--layer", "99"), "layers.99 does not exist"),
    (USAGE, (*EXTRACT, "--layer", "3"), "no layer lies behind layers.3"),
    (USAGE, (*DIFF, "--features", "99999"), "features is 99,999, but the SAE has 1,024 latents"),
    (USAGE, (*EXTRACT, "--method", "pca-diff", "--features", "65"), "64 directions"),
    (USAGE, (*EXTRACT, "--method", "random-features", "--features", "400"), "400"),
    (USAGE, (*EXTRACT, "--set", "sae.k=99999"), "sae.k is 99,999"),
    (USAGE, (*EXTRACT, "--set", "sae.mode=finetuned"), "needs an SAE to start from"),
    (NOT_FOUND, (*EXTRACT, "--set", "sae.mode=pretrained", "--set", "sae.origin=./none"), "none"),
    (USAGE, (*EXTRACT, "--set", "lora.rank=100"), "lora.rank is 100"),
    (DOES_NOT_FIT, (*EXTRACT, "--set", "lora.modules=[dense]"), "dense"),
    (USAGE, (*EXTRACT, "--set", "training.learning_rate=0"), "training.learning_rate is 0"),
    (USAGE, (*EXTRACT, "--set", "training.max_tokens=1"), "training.max_tokens is 1"),
    (FAILED, (*EXTRACT, "--set", "training.chunk_tokens=100000"), "do not fill one chunk"),
    (USAGE, (*EXTRACT, "--set", "trigger.rows=2000000"), "trigger.rows is 2,000,000"),
    (USAGE, (*DIFF, "--scale", "-1"), "scale is -1"),
    (USAGE, (*DIFF, "--set", "hookpoint=layers.2.mlp"), "layer-output hookpoint"),
    (NO_EFFECT, ("extract", "--recipe", "tiny-feature-diff", "--source", "tiny-r1"), "source and target at once"),
    (NOT_FOUND, (*EXTRACT, "--target", "tiny-r9"), "'tiny-r9'"),
    (NOT_FOUND, (*EXTRACT, "--trigger", "./none.jsonl"), "none.jsonl"),
    (NOT_FOUND, (*EXTRACT, "--resume"), "no interrupted extraction"),
    (USAGE, (*DIFF, "--layer", "auto", "--set", "rollouts.count=2048"), "development rollouts"),
    (DOES_NOT_FIT, (*EXTRACT, "--target", "r1-distill-1.5b"), "other shapes"),
    (NOT_FOUND, (*EVAL[:3], "tiny-r9"), "'tiny-r9'"),
    (NOT_FOUND, ("eval", "none", *EVAL[2:]), "'none'"),
    (DOES_NOT_FIT, (*EVAL[:3], "r1-distill-1.5b", "--benchmark", "math500"), "does not fit"),
    (USAGE, (*EVAL[:3], "r1-distill-1.5b"), "no benchmark is named"),
    (USAGE, ("matrix", "--sources", NAME, "--targets", "tiny-r1,r1-distill-1.5b"), "no benchmark is named"),
    (USAGE, (*SWEEP[:3], "--layers", "1", "--target", "r1-distill-1.5b"), "no benchmark is named"),
    (USAGE, (*EVAL, "--engine", "vlm"), "'vlm'"),
    (USAGE, (*EVAL, "--dtype", "float65"), "'float65'"),
    (USAGE, (*EVAL, "--lora", "mergd"), "'mergd'"),
    (USAGE, (*EVAL, "--tensor-parallel", "4"), "--tensor-parallel has no effect"),
    (USAGE, (*EVAL, "--arms", "sorce"), "'sorce'"),
    (USAGE, (*EVAL, "--samples", "100000000"), "--samples is 100,000,000"),
    (USAGE, (*EVAL, "--controls", "1000"), "--controls is 1,000"),
    (USAGE, (*EVAL, "--problems", "6000"), "6000 problems"),
    (USAGE, (*EVAL, "--split", "tset"), "'tset'"),
    (NOT_FOUND, (*EVAL, "--benchmark", "tiny-chian"), "'tiny-chian'"),
    (USAGE, ("eval", NAME, "--target", "r1-distill-1.5b", "--benchmark", "math500", "--split", "x"), "no split 'x'"),
    (NOT_FOUND, (*MATRIX[:3], "--targets", "tiny-r9"), "'tiny-r9'"),
    (NOT_FOUND, ("matrix", "--sources", "none", *MATRIX[3:]), "'none'"),
    (NOT_FOUND, (*MATRIX, "--benchmarks", "none"), "'none'"),
    (USAGE, (*MATRIX, "--executor", "rey"), "'rey'"),
    (USAGE, (*MATRIX, "--engine", "none"), "'none'"),
    (USAGE, (*MATRIX, "--split", "none"), "'none'"),
    (USAGE, (*MATRIX[:3], "--targets", ","), "targets and benchmarks"),
    (USAGE, (*SWEEP[:3], "--layers", "99"), "layers.99"),
    (NOT_FOUND, (*SWEEP, "--benchmark", "none"), "'none'"),
    (USAGE, (*SWEEP, "--executor", "rey"), "'rey'"),
    (USAGE, (*SWEEP, "--split", "none"), "'none'"),
    (USAGE, (*SWEEP, "--seeds", "1000"), "seeds"),
    (USAGE, (*SWEEP, "--method", "none"), "'none'"),
    (USAGE, (*SWEEP, "--set", "sae.k=99999"), "sae.k"),
    (NOT_FOUND, (*ATTACH[:3], "tiny-r9"), "'tiny-r9'"),
    (NOT_FOUND, ("attach", "none", *ATTACH[2:]), "'none'"),
    (DOES_NOT_FIT, (*ATTACH[:3], "r1-distill-1.5b"), "does not fit"),
    (USAGE, (*ATTACH[:3], "tina-tiny"), "tina-tiny"),
    (USAGE, (*ATTACH, "--merge", "adapters"), "adapters exists"),
    (USAGE, (*ATTACH, "--prompt", "1+1=", "--new-tokens", "10000000"), "10,000,000"),
    (NOT_FOUND, ("push", "none", "--to", "folder:x"), "'none'"),
    (USAGE, ("push", NAME, "--to", "ftp:x"), "'ftp:x'"),
    (USAGE, ("push", NAME, "--to", "folder:x", "--public"), "--public has no effect"),
    (NOT_FOUND, ("push", NAME, "--to", "folder:x", "--sign", "none.pem"), "none.pem"),
    (USAGE, ("push", NAME, "--to", "folder:x", "--sae-repo", "a/b"), "another repository of the Hub"),
    (USAGE, (*EVAL, "--benchmark", "./own.jsonl"), "which the tokenizer does not know"),
    (DOES_NOT_FIT, (*EVAL, "--new-tokens", "5000"), "has a context of 256 tokens"),
    (DOES_NOT_FIT, (*EVAL, "--benchmark", "answer-tag=./own.jsonl"), "has a context of 256 tokens"),
    (DOES_NOT_FIT, (*MATRIX, "--new-tokens", "5000"), "has a context of 256 tokens"),
    (USAGE, (*ATTACH, "--prompt", "What is 17 * 23?"), "which the tokenizer does not know"),
    (FAILED, (*ATTACH, "--merge", "own.jsonl/x"), "own.jsonl is a file"),
    (FAILED, ("push", NAME, "--to", "folder:own.jsonl"), "own.jsonl is a file"),
    (USAGE, (*HARNESS, "--tool", "lm-evl", "--tasks", "gsm8k"), "'lm-evl'"),
    (USAGE, (*HARNESS[:2], NAME, "--tool", "lm-eval"), "--target is missing"),
]


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a workspace with one adapter, and no network."""
    monkeypatch.delenv("RESA_HUB_WORKSPACE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workspace / "config"))
    monkeypatch.chdir(workspace)
    rows = [{"question": f"{one}+1=", "answer": str(one + 1)} for one in range(1, 9)]
    (workspace / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workspace


@pytest.mark.parametrize(
    ("code", "arguments", "said"), MISTAKES, ids=[" ".join(arguments) for _, arguments, _ in MISTAKES]
)
def test_a_dry_run_refuses_what_the_run_refuses(
    here: Path, capsys: pytest.CaptureFixture[str], code: int, arguments: tuple[str, ...], said: str
) -> None:
    told = []
    for more in (["--dry-run"], []):
        assert run([*arguments, *more]) == code, capsys.readouterr()
        printed = capsys.readouterr()
        assert printed.out == ""
        told.append(printed.err.splitlines()[-2:])
    assert told[0] == told[1] and said in told[0][0]
    assert Workspace(here).store.names() == [NAME]


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers_in(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


PLANS = [
    EXTRACT,
    (*EXTRACT, "--method", "sft"),
    (*DIFF, "--layer", "0", "--features", "1"),
    (*DIFF, "--set", "rollouts.count=1", "--set", "rollouts.new_tokens=1", "--set", "elicit.rows=1"),
    (*EXTRACT, "--set", "trigger.rows=1", "--set", "elicit.rows=1", "--set", "training.batch_rows=4096"),
    (*EXTRACT, "--method", "random"),
    ("extract", "--source", "tina-still"),
    EVAL,
    (*EVAL, "--problems", "2", "--samples", "1", "--controls", "0", "--no-greedy", "--new-tokens", "1"),
    MATRIX,
    SWEEP,
]


@pytest.mark.parametrize("arguments", PLANS, ids=" ".join)
def test_the_numbers_of_a_plan_are_sane(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    document = json.loads(out(capsys, *arguments, "--dry-run", "--json", "--rate", "2"))
    estimate = document["estimate"]
    assert min(numbers_in(estimate)) >= 0
    assert estimate["bytes"] > 0 and [offer for offer in estimate["offers"] if offer["usd"] is not None]
    assert estimate["offers"][-1]["machine"].startswith("this machine") and estimate["offers"][-1]["hours"] is not None
    downloads = [download["id"] for download in estimate["downloads"]]
    assert bool(downloads) == ("tina-still" in arguments)
    assert bool(document["checked_when_fetched"]) == ("tina-still" in arguments)
    assert not (here / "hf").exists() and not (here / ".resa-hub/samples.sqlite").exists()


def test_what_is_there_is_not_counted_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--problems", "4", "--samples", "1", "--no-greedy", "--arms", "source")
    planned = (*EVAL, *sizes, "--dry-run", "--json")
    assert sum(json.loads(out(capsys, *planned))["missing"].values()) == 12
    out(capsys, *EVAL, *sizes, "-q")
    assert sum(json.loads(out(capsys, *planned))["missing"].values()) == 0


def test_a_plan_says_that_it_was_made_before(here: Path) -> None:
    opened = Workspace(here)
    made = plan("tina-tiny", method="feature-diff", settings=QUICK, registry=opened.registry)
    assert forecast(made, opened).present == f"{NAME}@0.1.0"
    other = plan("tina-tiny", method="feature-diff", settings=QUICK, seed=7, registry=opened.registry)
    assert forecast(other, opened).present == ""


def test_a_plan_of_a_model_that_is_not_here_fetches_nothing(here: Path) -> None:
    (here / "registry.yaml").write_text("models:\n  far: {id: some/model, config: " + sizes_of_tiny() + "}\n")
    done = resa_hub("eval", NAME, "--target", "far", "--benchmark", "math500", "--dry-run", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "some/model" in done.stdout and "HuggingFaceH4/MATH-500" in done.stdout
    assert f"checked when fetched: whether {NAME} fit far; the problems of math500" in done.stdout
    assert not (here / "hf").exists()


def sizes_of_tiny() -> str:
    from resa_hub.data import tiny

    config = json.loads((tiny.WEIGHTS / "tiny-r1/config.json").read_text())
    keys = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    return json.dumps({key: config[key] for key in (*keys, "vocab_size")})
