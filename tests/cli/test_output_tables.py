"""Tables and sentences at a real terminal of 80 and 120 columns, and in a pipe."""

import json
import os
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.adapter.manifest import FileEntry
from resa_hub.adapter.results import Evaluation, Sweep, SweepPoint, read_evaluation
from resa_hub.cli.main import run
from resa_hub.cli.output import Output, fail
from resa_hub.cli.render import grid, import_export, push_pull, screen_trials, swept, verdicts
from resa_hub.cli.render.words import VERDICTS
from resa_hub.cli.tables import Column, Table, colored, wrapped
from resa_hub.core import terminal
from resa_hub.core.tones import TONES
from resa_hub.evaluation.matrix import Cell, Matrix
from resa_hub.evaluation.verdict import Word
from resa_hub.extraction.reproduce import Reproduced
from resa_hub.hub.remote import PushResult, SearchHit
from tests.helpers.commands import children_cpu
from tests.helpers.old_workspace import unpack
from tests.helpers.reports import raw
from tests.helpers.terminal import at_terminal, shown_at, without_codes

GOLDEN = Path(__file__).parents[1] / "golden" / "tables.txt"
WIDTHS = (80, 120)
NAME = "deepseek-r1-distill-1.5b-still-feature-diff-l12"
ADAPTER = f"{NAME}@0.12.0"
TARGETS = ["deepseek-r1-distill-qwen-1.5b", "qwen2.5-math-1.5b-instruct"]
HASH = "sha256:469caccea04b053da3041e3a56f6f039ca8db5559d058e5abbb94095c3d82c43"
WORDS = [word for word in TONES if word != "does not fit"]


def judged() -> Evaluation:
    """The committed evaluation of the example adapter, under long names."""
    content = json.dumps(raw()).replace("tina-tiny-feature-diff-l2@0.1.0", ADAPTER).replace("tiny-r1", TARGETS[0])
    document = read_evaluation(json.loads(content), "test")
    assert isinstance(document, Evaluation)
    return document


def swept_layers() -> Sweep:
    points = [
        SweepPoint(layer, 42, f"{NAME}-l{layer}@0.1.0", 3.1 * layer, (-1.25, 10.5), word, (0.1, -10.2, 1.3))
        for layer, word in enumerate(WORDS)
    ]
    sentence = "Layers differ (p = 0.003 by permutation over 5 seeds): the best is 5, and 4 cannot be told from it."
    benchmark = {"benchmark": "math500", "split": "test", "problems": 500, "samples": 4}
    return Sweep(
        method="feature-diff",
        source="tina-still",
        target=TARGETS[0],
        **benchmark,
        places=points,
        sentence=sentence,
        plot="curve.png",
    )


def matrix() -> Matrix:
    adapters = [ADAPTER, "resa-still-v1@0.1.0", "random-control@0.1.0"]
    words = iter(TONES)
    cells = []
    for adapter, target in product(adapters, TARGETS):
        word = next(words)
        gain = None if word == "does not fit" else 12.3
        cells.append(
            Cell(adapter, target, "math500", "exact", word, "", gain, (1.5, 23.1) if gain else None, p_holm=0.01)
        )
    return Matrix(adapters, TARGETS, ["math500"], 4, cells, "/a/workspace/.resa-hub/matrices/1.json")


def trials() -> list[dict[str, Any]]:
    return [
        {
            "hookpoint": f"layers.{layer}",
            "patch": f"{64 << layer} features",
            "scale": 1.5,
            "closed": 0.1 * layer,
            "chosen": layer == 3,
        }
        for layer in range(5)
    ]


def hits() -> list[SearchHit]:
    told = tuple(f"{word} on {target}, math500" for word, target in zip(WORDS[:2], TARGETS, strict=True))
    base = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    return [SearchHit(f"hf:some-laboratory/{NAME}@v0.12.0", NAME, base, "feature-diff", (), told, "2026-01-01")]


def pushed() -> PushResult:
    files = tuple(FileEntry(path, 3_087_467_144, HASH) for path in ("adapter_model.safetensors", f"evals/{NAME}.json"))
    return PushResult(f"hf:some-laboratory/{NAME}@v0.12.0", files, True, ("sae/layers.12/sae_weights.safetensors",))


def again() -> Reproduced:
    verdicts = [{"target": TARGETS[0], "benchmark": "math500", "split": "test", "first": WORDS[0], "second": WORDS[3]}]
    causes = ["hardware: NVIDIA H100 80GB HBM3 then, NVIDIA GeForce RTX 4090 now", "torch 2.8.0 then, 2.9.1 now"]
    sentence = f"{ADAPTER} comes out with other bytes: cosine 0.9991, norm 1.0002 of the first one's."
    return Reproduced(ADAPTER, False, HASH, HASH[::-1], causes, 0.9991, 1.0002, (0.0509, 0.0511), verdicts, sentence)


RENDERED: dict[str, Callable[[Output], object]] = {
    "an evaluation": lambda out: verdicts.show(out, judged()),
    "a sweep": lambda out: swept.show(out, swept_layers()),
    "a matrix": lambda out: grid.show(out, matrix(), False, None),
    "a screen": lambda out: screen_trials.show(out, trials()),
    "a search": lambda out: push_pull.hits(out, hits()),
    "a push": lambda out: push_pull.pushed(out, [pushed()], True),
    "a second run": lambda out: import_export.reproduced(out, again()),
    "labels and values": lambda out: out.pairs([("name", NAME), ("identity", HASH), ("cause", again().sentence)]),
    "an error": lambda out: fail("not_found", f"no adapter is called {NAME!r}", f"known: {ADAPTER}", as_json=False),
}
VERBS = (
    "list",
    "show kept",
    "log kept",
    "diff kept kept-paper",
    "verify",
    "recipe list",
    "recipe show resa-still-v1",
    "registry",
    "registry recipe:resa-still-v1",
    "rm kept --dry-run",
    "cache",
    "cache list controls rollouts",
    "cache free --dry-run",
    "doctor --offline",
    pytest.param("eval kept --target tiny-r1 --dry-run", marks=pytest.mark.slow),
    pytest.param("extract --source tina-still --dry-run", marks=pytest.mark.slow),
    pytest.param("sweep --source tina-tiny --layers 1,2 --dry-run", marks=pytest.mark.slow),
    pytest.param("eval plan kept --target tiny-r1", marks=pytest.mark.slow),
    pytest.param(
        "eval kept --target tiny-r1 --problems 40 --samples 2 --controls 2 --no-greedy", marks=pytest.mark.slow
    ),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("old"))


def too_wide(shown: str, width: int) -> list[str]:
    """Lines that do not fit, but for a word, as a path, that would fit on no line."""
    lines = without_codes(shown).splitlines()
    return [line for line in lines if len(line) > width and len(line.split()) > 1]


def test_every_table_fits_the_window(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden; `UPDATE_GOLDEN=1 pytest tests/cli/test_output_tables.py` writes it anew."""
    monkeypatch.chdir(workspace)
    text = ""
    for width in WIDTHS:
        for name, show in RENDERED.items():
            shown = shown_at(width, lambda show=show: show(Output()), monkeypatch)
            assert not too_wide(shown, width), name
            text += f"{'-' * width}\n{name}\n\n{without_codes(shown)}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_no_line_of_a_verb_is_wider_than_the_window(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(workspace)
    for width in (80, 100, 120, 200):
        shown = shown_at(width, lambda: run(verb.split()), monkeypatch)
        assert shown.strip() and "error:" not in shown, shown
        assert not too_wide(shown, width), verb


def test_a_pipe_gets_all_columns_and_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["name", Column("MB", right=True, hide=1), Column("what", least=10)]
    Output().table(columns, [["a", "1.5", "w" * 300], ["b\nb", "10.5", "x y" * 90]])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading == "name    MB  what"
    assert (first, second) == (f"a      1.5  {'w' * 300}", f"b b   10.5  {'x y' * 90}")
    Output().text("long " * 60)
    Output().pairs([("label", "value " * 60)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_columns_are_hidden_before_text_is_squeezed(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [Column("name", whole=True), Column("often", hide=1), Column("seldom", hide=2), Column("text", least=30)]
    rows = [["n" * 20, "o" * 16, "s" * 16, "several words " * 5]]
    assert list(Table(columns, rows).fit(200)) == [0, 1, 2, 3]
    assert Table(columns, rows).fit(79) == {0: 20, 1: 16, 3: 39}
    assert Table(columns, rows).fit(60) == {0: 20, 3: 38}
    shown = without_codes(shown_at(60, lambda: Output().table(columns, rows), monkeypatch))
    assert shown.splitlines()[-1] == "hidden: often, seldom; wider window or --json"
    assert "hidden" not in shown_at(200, lambda: Output().table(columns, rows), monkeypatch)


@pytest.mark.parametrize("width", [1, 20, 33])
def test_a_window_too_narrow_for_anything_loses_no_character(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [Column("name", whole=True), Column("gain, points", right=True), "text"]
    shown = shown_at(width, lambda: Output().table(columns, [["q" * 60, "12.5", "several words"]]), monkeypatch)
    assert without_codes(shown).count("q") == 60
    many = [f"column {number}" for number in range(30)]
    assert shown_at(width, lambda: Output().table(many, [many]), monkeypatch)


def test_long_words_are_broken_at_their_signs() -> None:
    assert wrapped("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 24) == "deepseek-ai/DeepSeek-R1-\nDistill-Qwen-1.5B"
    assert wrapped("a word " + "x" * 12, 10) == "a word\nxxxxxxxxxx\nxx"
    assert wrapped("fits-as-it is", 13) == "fits-as-it is"


def test_every_verdict_has_a_tone() -> None:
    assert set(WORDS) == set(Word.__args__)
    assert set(VERDICTS) == set(TONES) and {"green", "red", "yellow"} <= set(VERDICTS.values())


def test_verdicts_are_coloured_by_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    column = Column("verdict", words=VERDICTS)
    for show in (
        lambda: Output().table([column], [["transferred on a; harmful on b"], ["not distinguishable from controls"]]),
        lambda: Output().text("TRANSFERRED, then harmful, then not distinguishable from controls", VERDICTS),
        lambda: Output().pairs([("verdict", "transferred; harmful; not distinguishable from controls")], VERDICTS),
    ):
        shown = shown_at(40, show, monkeypatch)
        assert re.search(r"\x1b\[32mtransferred\x1b", shown, re.IGNORECASE) and "\x1b[31mharmful\x1b" in shown
        assert re.search(r"\x1b\[33mnot", shown)


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        Output().table([Column("verdict", words=VERDICTS)], [["transferred"]])
        Output().text("transferred", VERDICTS)
        Output().hint("a hint")
        fail("usage", "wrong", "do it so", as_json=False)

    assert "\x1b" not in shown_at(80, show, monkeypatch, **changes)
    assert re.search(r"\x1b\[32mtransferred", shown_at(80, show, monkeypatch))


def test_colours_in_a_pipe_when_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    rows = (Column("verdict", words=VERDICTS),), [["transferred"]]
    Output().table(*rows)
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    Output().table(*rows)
    assert capsys.readouterr().out == "\x1b[1mverdict\x1b[0m\n\x1b[32mtransferred\x1b[0m\n"


def test_a_verdict_that_is_part_of_another_word_has_no_colour() -> None:
    assert colored("harmfully untransferred", VERDICTS) == "harmfully untransferred"


def test_an_error_is_red_and_its_hint_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_at(60, lambda: fail("x", "wrong " * 20, "use `resa-hub eval --quick`", as_json=False), monkeypatch)
    first, second, *_ = shown.splitlines()
    assert first.startswith("\x1b[31merror:\x1b[0m wrong") and second.startswith("  wrong")
    assert "\x1b[2m  use `resa-hub eval --quick`\x1b[0m" in shown


def test_commands_and_words_stay_whole() -> None:
    text = "and then run `resa-hub cache free --dry-run` to see it"
    assert terminal.fill(text, 40) == "and then run\n  `resa-hub cache free --dry-run` to see\n  it"
    assert terminal.fill("  indented " + "x" * 50, 20) == "  indented\n    " + "x" * 50
    assert terminal.fill("one\n\ntwo", 40) == "one\n\ntwo"


def test_what_a_model_wrote_is_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_at(40, lambda: Output().verbatim("so  many   words " * 9 + "\x1b[31m"), monkeypatch)
    assert "so  many   words " * 9 in shown and "\x1b" not in shown


def test_a_strangers_codes_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b[2Jname\u202e [red]markup[/red]"

    def show() -> None:
        Output().table(["name"], [[hostile]])
        Output().pairs([("name", hostile)])
        Output().text(hostile)

    shown = shown_at(80, show, monkeypatch)
    assert "\x1b[2J" not in shown and "\u202e" not in shown and shown.count("[red]markup[/red]") == 3


@pytest.mark.slow
def test_a_list_on_a_terminal_takes_little_cpu_time(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The least of five runs after one that writes the bytecode: rich is in it."""

    def seconds() -> float:
        before = children_cpu()
        shown = at_terminal("list", answer="", cwd=workspace)
        assert shown.code == 0 and "\x1b[1m" in shown.shown
        return children_cpu() - before

    least = min(seconds() for _ in range(6))
    with capsys.disabled():
        print(f"\nCPU seconds: list on a terminal {least:.3f}")
    assert least < 0.42  # 0.30 on an idle machine


def test_documents_round_trip() -> None:
    """Guards the cases above: they are what the program itself would read."""
    for value in (swept_layers(), matrix(), again()):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_a_value_longer_than_the_window_is_broken_beside_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "a = org/some-model-with-a-name-1.5b+org/some-adapter-with-a-name:checkpoint-2000"
    lines = shown_at(60, lambda: Output().pairs([("source", value)]), monkeypatch).splitlines()
    assert len(lines) == 2 and all(line.startswith(" " * 8) for line in lines[1:]) and max(map(len, lines)) <= 60
    assert "".join(line[8:] for line in lines).replace(" ", "") == value.replace(" ", "")
