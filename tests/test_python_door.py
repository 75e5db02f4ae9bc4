"""`import resa_hub`: what a person finds there, whether it is what the command line has, and how results show."""

import importlib.metadata
import inspect
import pydoc
import rlcompleter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import resa_hub
from resa_hub.adapter.results import Evaluation
from resa_hub.api.choices import eval_settings
from resa_hub.api.given import given, knows_given
from resa_hub.cli import verbs
from resa_hub.cli.app import app
from resa_hub.core.errors import Usage
from resa_hub.core.progress import Progress
from resa_hub.evaluation.plan import EvalSettings
from tests.helpers.evaluations import NAME, numbers
from tests.helpers.evaluations import again as again

FUNCTIONS = {
    "extract": "extract",
    "sweep": "sweep",
    "reproduce": "reproduce",
    "import": "import_adapter",
    "attach": "attach",
    "export": "export",
    "eval judge": "evaluate",
    "eval logs": "judge_logs",
    "matrix": "matrix",
    "report": "write_report",
    "push": "push",
    "pull": "pull",
    "search": "search",
    "list": "adapters",
    "show": "load",
    "diff": "diff",
    "verify": "verify",
    "tag": "tag",
}
"""Verb of the command line -> function of the package."""
TERMINAL_ONLY = {
    "demo": "runs command lines",
    "recipe list": "the registry of a `Workspace` is read as values",
    "recipe show": "the registry of a `Workspace` is read as values",
    "registry list": "the registry of a `Workspace` is read as values",
    "registry pin": "writes a file that people keep",
    "eval plan": "`evaluation.power_analysis` gives it as a value",
    "eval harness": "runs the command lines of other tools",
    "log": "`adapters` and `evaluations` are its columns",
    "rm": "deleting is left to the command, which lists first and asks",
    "gc": "deleting is left to the command, which lists first and asks",
    "cache list": "about the machine",
    "cache free": "deleting is left to the command, which lists first and asks",
    "doctor": "about the machine",
}
"""Verb without a function -> why."""
NOT_KEYWORDS = {
    "as_json": "a function returns values",
    "quiet": "`progress=Progress(quiet=True)`",
    "debug": "an exception has its traceback",
    "yes": "a function asks nothing",
    "dry_run": "a forecast is a value: `extraction.forecast`, `evaluation.forecast`; `push` has the keyword",
    "page": "`write_report` writes it",
    "markdown": "`evaluation.matrix.markdown` makes it of the result",
    "extract screen": "`extraction.extract.screen` returns what was tried; layer, features and scale take `auto`",
    "import sae": "`import_sae` is a function of its own",
    "import hookpoint": "of `import_sae`",
    "eval logs more": "the same as `files`",
    "eval logs workspace": "not needed; the command takes it as all commands do",
    **{f"{verb} rate": "a price is part of a forecast" for verb in ("eval judge", "matrix", "sweep")},
    "eval judge rate": "prices what a dry run tells",
    "matrix rate": "prices what a dry run tells",
    "sweep rate": "prices what a dry run tells",
    "list target": "a fit is found by `attach`",
}
"""Option, or verb and option -> why no keyword has its name."""
WRITTEN = {
    "--prompt": "prompts",
    "--set": "settings",
    "--key": "keys",
    "--in": "where",
    "--out": "to",
    "--no-sae": "sae",
}
"""Option -> the keyword, where it is not the option's own name: of several values, a reserved word, a negation."""
REQUIRED = {("eval judge", "names"), ("eval judge", "target"), ("eval logs", "files")}
"""Arguments whose absence the command line tells in words of its own."""
ONLY_PYTHON = {
    "workspace": "an option of every verb, compared apart",
    "progress": "where progress is shown",
    "plan": "one that was resolved before",
    "settings": "the value that the keywords make",
    "judging": "the value that the keywords make",
    "record": "for comparisons that leave no trace",
}
"""Keyword -> what it is that a command line cannot say."""


class Choice(NamedTuple):
    """An option or argument as Python names it."""

    keyword: str
    default: Any


def commands() -> dict[str, Any]:
    """Every verb as the command line has it, those of nouns as `noun verb`."""
    found: dict[str, Any] = {}
    for name in verbs.COMMANDS:
        command = app.get_command(None, name)
        inner = verbs.COMMANDS[name].verbs
        found |= {f"{name} {verb}": command.get_command(None, verb) for verb in inner} if inner else {name: command}
    return found


def choices(verb: str) -> Iterator[Choice]:
    for param in commands()[verb].params:
        options = [option for option in param.opts if option.startswith("--")]
        keyword = WRITTEN.get(options[0], options[0].strip("-").replace("-", "_")) if options else param.name
        assert keyword
        if not {param.name, f"{verb} {param.name}"} & NOT_KEYWORDS.keys():
            default = not param.default if options[:1] == ["--no-sae"] else param.default
            yield Choice(keyword, "required" if param.required else default)


def plain_default(value: Any) -> Any:
    """Nothing is written in several ways."""
    if value is inspect.Parameter.empty:
        return "required"
    return None if value in (None, (), []) else str(value)


def test_every_verb_has_a_function_or_a_reason() -> None:
    assert set(FUNCTIONS) | set(TERMINAL_ONLY) == set(commands())
    assert set(FUNCTIONS) & set(TERMINAL_ONLY) == set()
    assert set(FUNCTIONS.values()) <= set(resa_hub.__all__)


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_keywords_are_the_options(verb: str) -> None:
    """Of the same names and defaults; what only one side has is listed above with its reason."""
    keywords = inspect.signature(getattr(resa_hub, FUNCTIONS[verb])).parameters
    told = list(choices(verb))
    for choice in told:
        assert choice.keyword in keywords, choice
        default = plain_default(keywords[choice.keyword].default)
        if (verb, choice.keyword) in REQUIRED:
            assert default == "required"
        else:
            assert default == plain_default(choice.default), choice
    extra = set(keywords) - {choice.keyword for choice in told}
    assert extra <= ONLY_PYTHON.keys() | {"dry_run"} if verb == "push" else extra <= ONLY_PYTHON.keys()


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "pull", "push")
    with pytest.raises(AssertionError):
        test_keywords_are_the_options("pull")


def test_dir_shows_the_functions_and_the_version() -> None:
    assert set(dir(resa_hub)) == {*resa_hub.__all__, "__version__"}
    assert resa_hub.__version__ == importlib.metadata.version("resa-hub")


def test_version_of_a_copy_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert resa_hub.__version__ == "0+unknown"


def test_a_shell_completes_the_functions() -> None:
    completer = rlcompleter.Completer({"resa_hub": resa_hub})
    found = [completer.complete("resa_hub.ev", number) for number in range(3)]
    assert [name.rstrip("()") for name in found if name] == ["resa_hub.evaluate", "resa_hub.evaluations"]


def test_help_tells_of_every_function() -> None:
    text = pydoc.plain(pydoc.render_doc(resa_hub))
    for name in resa_hub.__all__:
        first = (inspect.getdoc(getattr(resa_hub, name)) or "").partition("\n")[0]
        assert first and first in text, name


def test_what_is_written_is_known() -> None:
    @knows_given
    def inner(a: int = 1, b: int = 2) -> dict[str, int]:
        return given(locals(), ("a", "b"))

    @knows_given
    def outer(a: int = 1, b: int = 2) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        return given(locals(), ("a", "b")), inner(b=2), given(locals(), ("a", "b"))

    assert outer(a=1) == ({"a": 1}, {"b": 2}, {"a": 1})
    assert given({"a": 1}, ["a"]) == {}
    assert list(inspect.signature(outer).parameters) == ["a", "b"]


def test_keywords_change_settings_one_by_one() -> None:
    start = EvalSettings(samples=2, greedy=False)
    assert eval_settings(start, {}) == start
    chosen = eval_settings(start, {"controls": 1, "engine": "vllm", "arms": "source, random", "choosing": True})
    assert (chosen.samples, chosen.seeds, chosen.engines.name, chosen.greedy) == (2, 1, "vllm", False)
    assert chosen.arms == ("source", "random") and chosen.purpose == "model-selection"


def test_a_plan_and_choices_contradict() -> None:
    with pytest.raises(Usage, match="plan"):
        resa_hub.extract(plan=object(), layer=1)  # pyright: ignore[reportArgumentType]


def test_a_mistyped_keyword_hears_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'souce'; did you mean 'source'"):
        resa_hub.extract(souce="tina-tiny")  # pyright: ignore[reportCallIssue]


def test_keywords_and_settings_ask_the_same(again: Path) -> None:
    """All samples are there, so nothing is generated."""
    run: dict[str, Any] = {"target": "tiny-r1", "workspace": again, "progress": Progress(quiet=True)}
    flat = resa_hub.evaluate(NAME, problems=40, samples=2, controls=2, **run)
    whole = resa_hub.evaluate([NAME], settings=EvalSettings(problems=40, samples=4, seeds=2), samples=2, **run)
    assert numbers(flat[0]) == numbers(whole[0])
    latest = resa_hub.evaluations(resa_hub.load(NAME, workspace=again), workspace=again)[-1]
    assert isinstance(latest, Evaluation) and numbers(latest) == numbers(flat[0])
    assert repr(flat).startswith(f"[<Evaluation {NAME}@0.1.0 on tiny-r1, tiny-chain: ")
    assert resa_hub.write_report(flat[0].adapter, to=again / "page.html", workspace=again).stat().st_size > 1000


HOSTILE = '<script>alert("1")</script>\u202e\n<img src=x onerror=alert(1)>'
