"""An option that has no effect beside the others is an error, in a dry run too; what is written beats a preset."""

import json
from pathlib import Path

import pytest

from resa_hub.cli import combinations
from resa_hub.cli.app import app
from resa_hub.cli.ask import before_long_run
from resa_hub.cli.main import run
from resa_hub.cli.output import Output
from resa_hub.core.errors import Usage
from resa_hub.core.estimates import Estimate, offer_here
from tests.helpers.commands import out

NAME = "tina-tiny-feature-diff-l2"
EVAL, ATTACH = ("eval", NAME, "--target", "tiny-r1"), ("attach", NAME, "--target", "tiny-r1")
EXTRACT, MATRIX = ("extract", "--source", "tina-tiny"), ("matrix", "--sources", NAME, "--targets", "tiny-r1")

IGNORED: list[tuple[tuple[str, ...], str]] = [
    (("list", "--json", "-q"), "--quiet has no effect with --json"),
    ((*ATTACH, "--temperature", "1"), "--temperature has no effect without --prompt"),
    ((*ATTACH, "--new-tokens", "5"), "--new-tokens has no effect without --prompt"),
    ((*ATTACH, "--seed", "5"), "--seed has no effect without --prompt"),
    ((*ATTACH, "--prompt", "1+1=", "--seed", "5"), "--seed has no effect at temperature 0"),
    ((*EVAL, "--arms", "none", "--controls", "2"), "--controls has no effect without random adapters"),
    ((*EVAL, "--arms", "source,negated", "--controls", "2", "--dry-run"), "--controls has no effect without random"),
    ((*EVAL, "--tensor-parallel", "2"), "--tensor-parallel has no effect with the engine transformers"),
    ((*EVAL, "--problem-seed", "3", "--benchmark", "math500", "--dry-run"), "no problem seed"),
    (("eval", "plan", *EVAL[1:], "--seed", "3"), "--seed has no effect on a plan of sizes"),
    (("eval", "plan", *EVAL[1:], "--workers", "3"), "--workers has no effect on a plan of sizes"),
    (("eval", "harness", *EVAL[1:], "--tool", "lm-eval", "--samples", "3"), "--samples has no effect with lm-eval"),
    ((*MATRIX, "--markdown", "--json"), "--markdown has no effect with --json"),
    ((*MATRIX, "--markdown", "--dry-run"), "--markdown has no effect with --dry-run"),
    ((*EXTRACT, "--screen", "--again"), "--again has no effect with --screen"),
    ((*EXTRACT, "--features", "3"), "--features has no effect with sae-tuning"),
    ((*EXTRACT, "--scale", "3", "--dry-run"), "--scale has no effect with sae-tuning"),
    ((*EXTRACT, "--method", "sft", "--layer", "1", "--dry-run"), "--layer has no effect with sft"),
    ((*EXTRACT, "--method", "sft", "--set", "sae.k=3"), "--set sae.k has no effect with sft: it has no SAE"),
    ((*EXTRACT, "--set", "rollouts.count=3"), "--set rollouts.count has no effect with sae-tuning"),
    ((*EXTRACT, "--method", "sft", "--layer", "auto"), "sft has no screen"),
    ((*EXTRACT, "--method", "sft", "--disk-gb", "3"), "--disk-gb has no effect with sft"),
    ((*EXTRACT, "--method", "sft", "--cache-gb", "3"), "--cache-gb has no effect with sft"),
    ((*EXTRACT, "--seed", "1", "--set", "seed=2"), "--seed and --set seed set the same"),
    (("push", NAME, "--to", "folder:x", "--public"), "--public has no effect on folder:x"),
    (("push", NAME, "--to", "hf:a/b", "--sae-repo", "a/c", "--no-sae"), "--no-sae has no effect with --sae-repo"),
    (("import", "./x", "--hookpoint", "layers.1"), "--hookpoint has no effect without --sae"),
    (("export", NAME, "out", "--sae-format", "sparsify"), "--sae-format has no effect without --sae"),
    (("rm", f"{NAME}@0.1.0", "--all"), "--all has no effect with versions that are named"),
]


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a workspace with one adapter."""
    monkeypatch.delenv("RESA_HUB_WORKSPACE", raising=False)
    monkeypatch.chdir(workspace)
    return workspace


@pytest.mark.parametrize(("arguments", "said"), IGNORED, ids=[" ".join(arguments) for arguments, _ in IGNORED])
def test_an_option_without_effect_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and said in printed.err
    assert len(printed.err.splitlines()[-1].strip()) > 5 or "--json" in arguments


def test_rules_name_verbs_and_options_that_there_are() -> None:
    for verb, rules in combinations.RULES.items():
        noun, _, inner = verb.partition(" ")
        command = app.get_command(None, noun)
        command = command.get_command(None, inner) if inner else command
        names = {param.name for param in command.params}
        assert {rule.option for rule in rules} <= names, verb


def test_a_default_is_no_option_that_was_given() -> None:
    combinations.check("attach", {"prompts": None, "temperature": 0.0}, frozenset())
    with pytest.raises(Usage):
        combinations.check("attach", {"prompts": None, "temperature": 0.0}, frozenset({"temperature"}))


def test_what_is_written_beats_the_preset(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = json.loads(out(capsys, *EVAL, "--quick", "--dry-run", "--json"))
    assert preset["problems"] == 200 and preset["completions_per_arm"] == 400
    own = ("--problems", "50", "--samples", "3", "--controls", "2", "--greedy")
    mine = json.loads(out(capsys, *EVAL, "--quick", *own, "--dry-run", "--json"))
    assert mine["problems"] == 50 and mine["completions_per_arm"] == 200
    assert len([arm for arm in mine["arms"] if "random" in arm]) == 2
    rows = [{"problem": f"{n}+1=", "answer": str(n + 1)} for n in range(7)]
    (here / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = ("--benchmark", "answer-tag=./sums.jsonl", "--new-tokens", "72")
    few = json.loads(out(capsys, *EVAL, "--quick", *file, "--dry-run", "--json"))
    assert few["problems"] == 7


def test_a_dry_run_names_the_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "report: would be written to page.html" in out(capsys, *EVAL, "--page", "page.html", "--dry-run")
    assert not (here / "page.html").exists()


def of_hours(hours: float | None) -> Estimate:
    return Estimate(stages=[], memory={}, offers=[offer_here("CPU", hours, None)], notes=[])


def test_a_run_of_more_than_an_hour_is_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can answer it goes on; on a terminal it is asked, and a no ends it."""
    for hours in (None, 0.9):
        before_long_run(Output(), of_hours(hours), yes=False)
    assert capsys.readouterr().err == ""
    before_long_run(Output(), of_hours(5.0), yes=False)
    assert "about 5.0 h on this machine (CPU)" in capsys.readouterr().err
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    asked: list[str] = []

    def no(question: str, **_: object) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("typer.confirm", no)
    before_long_run(Output(), of_hours(5.0), yes=True)
    assert asked == []
    with pytest.raises(Usage, match="nothing was done"):
        before_long_run(Output(), of_hours(5.0), yes=False)
    assert asked == ["run for about 5.0 h?"]
