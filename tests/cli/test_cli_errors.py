"""Bad input: one error of two lines that names the thing, the reason and the next step, a fitting exit code, nothing
half-written.
"""

import json
from pathlib import Path

import pytest

from resa_hub.cli.main import run
from tests.helpers.adapters import names_in
from tests.helpers.commands import resa_hub

NO_NETWORK = "http://127.0.0.1:9"
EXTRACT = ("extract", "--source", "tina-tiny")
USAGE, NOT_FOUND, DOES_NOT_FIT, NETWORK, FAILED = 2, 3, 4, 7, 1


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and no network."""
    monkeypatch.setenv("HF_ENDPOINT", NO_NETWORK)
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    return home


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> tuple[str, str]:
    """(what and why, next step) of a command that fails with this code. The last two lines say it; what is before them
    is the plan.
    """
    assert run(list(arguments)) == code
    printed = capsys.readouterr()
    return two_lines(printed.out, printed.err)


def two_lines(out: str, err: str) -> tuple[str, str]:
    lines = err.splitlines()
    assert out == "" and "Traceback" not in err
    assert [number for number, line in enumerate(lines) if line.startswith("error: ")] == [len(lines) - 2], err
    assert lines[-1].startswith("  ") and lines[-1].strip(), err
    return lines[-2].removeprefix("error: "), lines[-1].strip()


MISTAKES: list[tuple[int, tuple[str, ...], str, str]] = [
    (USAGE, ("lst",), "'lst'", "did you mean list?"),
    (USAGE, ("xyzzy",), "'xyzzy'", "resa-hub --help"),
    (USAGE, ("list", "--nope"), "--nope", "resa-hub list --help"),
    (USAGE, ("eval", "demo-1"), "--target", "resa-hub eval NAME --target TARGET"),
    (USAGE, ("eval", "demo-1", "--target", "tiny-r1", "--samples", "0"), "--samples", "--help"),
    (USAGE, ("eval", "demo-1", "--target", "tiny-r1", "--split", "tset", "--dry-run"), "'tset'", "test"),
    (USAGE, ("show", "../demo"), "'../demo'", "resa-hub import ../demo"),
    (USAGE, ("pull", "../share"), "'../share'", "folder:../share"),
    (USAGE, ("list", "--method", "foo"), "'foo'", "feature-diff"),
    (USAGE, ("list", "--verdict", "bad"), "'bad'", "transferred"),
    (NOT_FOUND, ("list", "--base", "nope"), "'nope'", "registry models"),
    (USAGE, (*EXTRACT, "--scale", "nan", "--dry-run"), "--scale is nan", "--scale 2"),
    (USAGE, (*EXTRACT, "--features", "0", "--dry-run"), "at least 1", "resa-hub recipe show"),
    (USAGE, (*EXTRACT, "--seed", "-1", "--dry-run"), "--seed", "--help"),
    (USAGE, ("eval", "demo-1", "--target", "tiny-r1", "--benchmark", "./a.txt"), "./a.txt", ".jsonl"),
    (USAGE, ("eval", "demo-1", "--target", "tiny-r1", "--page", "out.docx"), ".docx", "--page report.html"),
    (NOT_FOUND, ("show", "demo-9"), "'demo-9'", "did you mean demo-"),
    (NOT_FOUND, ("show", "demo-1@0.2.0"), "0.2.0", "0.1.0"),
    (NOT_FOUND, ("attach", "demo-9", "--target", "tiny-r1"), "'demo-9'", "did you mean demo-"),
    (NOT_FOUND, ("attach", "demo-1", "--target", "tiny-r11"), "'tiny-r11'", "did you mean tiny-r1"),
    (USAGE, ("attach", "demo-1", "--target", "tina-tiny"), "tina-tiny", "--target tiny-r1"),
    (DOES_NOT_FIT, ("attach", "demo-1", "--target", "tiny-r1"), "64 x 64", "resa-hub list --target tiny-r1"),
    (DOES_NOT_FIT, ("attach", "demo-1", "--target", "tiny-r1", "--force"), "64 x 64", "resa-hub list --target tiny-r1"),
    (NOT_FOUND, ("attach", "demo-1", "--target", "./nowhere"), "nowhere", "check the path"),
    (USAGE, ("extract",), "what to extract from", "--source"),
    (NOT_FOUND, ("extract", "--source", "tina-tinny"), "'tina-tinny'", "did you mean tina-tiny?"),
    (NOT_FOUND, (*EXTRACT, "--target", "tiny-r2"), "'tiny-r2'", "did you mean tiny-r1"),
    (NOT_FOUND, (*EXTRACT, "--trigger", "tiny-chian"), "'tiny-chian'", "did you mean tiny-chain?"),
    (NOT_FOUND, (*EXTRACT, "--trigger", "./rows.jsonl"), "rows.jsonl", "a file of .jsonl"),
    (USAGE, (*EXTRACT, "--method", "feature-dif"), "'feature-dif'", "did you mean feature-diff?"),
    (USAGE, (*EXTRACT, "--layer", "-1"), "-1", "0-based"),
    (USAGE, (*EXTRACT, "--layer", "99"), "layers.99", "layers.0 to layers.3"),
    (USAGE, (*EXTRACT, "--name", "No/Name"), "'No/Name'", "write it like"),
    (NOT_FOUND, ("extract", "--recipe", "tiny-sae"), "'tiny-sae'", "did you mean tiny-"),
    (NOT_FOUND, ("extract", "--recipe", "./none.yaml"), "none.yaml", "or a YAML file"),
    (USAGE, (*EXTRACT, "--set", "nonsense"), "'nonsense' is not key=value", "--set training"),
    (USAGE, (*EXTRACT, "--set", "traning.epochs=1"), "traning", "did you mean training.epochs?"),
    (USAGE, (*EXTRACT, "--set", "training.epochs=many"), "training.epochs", "resa-hub recipe show tiny-sae-tuning"),
    (USAGE, (*EXTRACT, "--set", "training.epochs=["), "training.epochs", "quote it"),
    (USAGE, ("registry", "modles"), "'modles'", "did you mean models?"),
    (NOT_FOUND, ("registry", "model:tiny-r9"), "'tiny-r9'", "did you mean tiny-r1"),
    (USAGE, ("push", "demo-1"), "no remote", "--to folder:PATH"),
    (USAGE, ("push", "demo-1", "--to", "ftp:x"), "'ftp:x'", "folder:PATH"),
    (NOT_FOUND, ("push", "demo-9", "--to", "folder:x"), "'demo-9'", "did you mean demo-"),
    (NOT_FOUND, ("pull", "folder:nowhere"), "nowhere", "check the path"),
    (NOT_FOUND, ("list", "--workspace", "registry.txt"), "registry.txt", "--workspace"),
    (FAILED, (*EXTRACT, "--workspace", "registry.txt/below"), "registry.txt/below", "choose another --workspace"),
    (FAILED, (*EXTRACT, "--workspace", "/proc/resa-hub"), "/proc/resa-hub", "choose another --workspace"),
]


@pytest.mark.parametrize(
    ("code", "arguments", "thing", "step"), MISTAKES, ids=[" ".join(arguments) for _, arguments, _, _ in MISTAKES]
)
def test_mistake_gets_one_clear_error(
    home: Path, capsys: pytest.CaptureFixture[str], code: int, arguments: tuple[str, ...], thing: str, step: str
) -> None:
    (home / "registry.txt").write_text("a regular file")
    message, hint = refused(capsys, code, *arguments)
    assert thing in message and step in hint, (message, hint)
    assert names_in(home) == ["demo-0", "demo-1", "demo-2"]


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("models:\n  tiny-r1: {id: [}\n", "line 2"),
        ("modles: {}\n", "'modles'"),
        ("models:\n  mine: {idd: a/b}\n", "models.mine"),
        ("recipes: [1]\n", "recipes"),
        ("\x00", "registry.yaml"),
    ],
)
def test_broken_registry_of_the_workspace(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, thing: str
) -> None:
    (home / "registry.yaml").write_text(text)
    for arguments in (["registry"], [*EXTRACT, "--dry-run"]):
        message, _ = refused(capsys, USAGE, *arguments)
        assert str(home / "registry.yaml") in message and thing in message


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("like: tiny-sae-tuning\nlora: {rnak: 2}\n", "rnak"),
        ("like: tiny-sae-tuning\nlora: {rank: [}\n", "line 2"),
        ("just a text\n", "mapping"),
        ("method: sae-tuning\n", "source is missing"),
    ],
)
def test_broken_recipe_file(home: Path, capsys: pytest.CaptureFixture[str], text: str, thing: str) -> None:
    (home / "mine.yaml").write_text(text)
    message, _ = refused(capsys, USAGE, "extract", "--recipe", "mine.yaml", "--dry-run")
    assert "mine" in message and thing in message


def test_extraction_on_a_target_of_other_shapes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from resa_hub.data import tiny

    config = json.loads((tiny.WEIGHTS / "tiny-r1/config.json").read_text())
    (home / "wide").mkdir()
    (home / "wide/config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    message, _ = refused(capsys, DOES_NOT_FIT, *EXTRACT, "--target", "./wide")
    assert "hidden_size 64 and 128" in message and names_in(home) == ["demo-0", "demo-1", "demo-2"]


def test_default_adapter_that_is_not_here(home: Path) -> None:
    """It says what the names resolve to before it says what is missing, and asks no network."""
    done = resa_hub("attach", "--target", "r1-distill-1.5b", cwd=home, HF_ENDPOINT=NO_NETWORK)
    message, hint = two_lines(done.stdout, done.stderr)
    assert done.returncode == NOT_FOUND
    assert "r1-distill-1.5b = deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B" in done.stderr
    assert "resa-still-v1" in message and "resa-hub extract --recipe resa-still-v1" in hint and "resa-hub pull" in hint


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("pull", "hf:alice/demo"),
        ("search", "demo"),
        ("push", "demo-1", "--to", "hf:alice/demo"),
        ("attach", "demo-1", "--target", "r1-distill-1.5b"),
        ("extract", "--source", "tina-still"),
        (*EXTRACT, "--trigger", "still"),
    ],
    ids=" ".join,
)
def test_no_network(home: Path, arguments: tuple[str, ...]) -> None:
    done = resa_hub(*arguments, cwd=home, HF_ENDPOINT=NO_NETWORK, HF_HOME=str(home / "hf"))
    message, hint = two_lines(done.stdout, done.stderr)
    assert done.returncode == NETWORK and "cannot be reached" in message and "HF_ENDPOINT" in hint
    assert "::" not in message
    assert names_in(home) == ["demo-0", "demo-1", "demo-2"]


@pytest.mark.parametrize(
    ("code", "kind", "arguments"),
    [
        (USAGE, "usage", ("list", "--nope")),
        (USAGE, "usage", (*EXTRACT, "--set", "nonsense")),
        (NOT_FOUND, "not found", ("show", "demo-9")),
        (NOT_FOUND, "not found", ("attach", "--target", "r1-distill-1.5b")),
        (DOES_NOT_FIT, "does not fit", ("attach", "demo-1", "--target", "tiny-r1")),
        (USAGE, "usage", (*EXTRACT, "--layer", "99")),
    ],
)
def test_error_as_json(
    home: Path, capsys: pytest.CaptureFixture[str], code: int, kind: str, arguments: tuple[str, ...]
) -> None:
    assert run([*arguments, "--json"]) == code
    printed = capsys.readouterr()
    error = json.loads(printed.err)["error"]
    assert printed.out == "" and error["kind"] == kind and error["message"] and error["hint"]


def test_unforeseen_error_is_two_lines_and_debug_shows_the_traceback(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resa_hub.adapter.store import Store

    def broken(_: Store) -> None:
        raise ZeroDivisionError("a defect\nof two lines")

    monkeypatch.setattr(Store, "readable", broken)
    message, hint = refused(capsys, FAILED, "list")
    assert message == "ZeroDivisionError: a defect" and "--debug" in hint
    with pytest.raises(ZeroDivisionError):
        run(["list", "--debug"])


def test_error_in_a_process_of_its_own(home: Path) -> None:
    """The exit code reaches the shell, and --debug a traceback."""
    done = resa_hub("show", "demo-9", cwd=home)
    assert done.returncode == NOT_FOUND and "'demo-9'" in two_lines(done.stdout, done.stderr)[0]
    assert "NotFound" in resa_hub("show", "demo-9", "--debug", cwd=home).stderr
