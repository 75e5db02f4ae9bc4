"""`import resa_hub`: what a person finds there, whether it is what the command line has, and how results show."""

import importlib.metadata
import inspect
import pydoc
import rlcompleter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import resa_hub
from resa_hub.adapter.results import ArmResult, Evaluation, Sweep, SweepPoint
from resa_hub.adapter.store import Adapter, Store
from resa_hub.api.choices import eval_settings
from resa_hub.api.given import given, knows_given
from resa_hub.cli import verbs
from resa_hub.cli.app import app
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import Usage
from resa_hub.core.notebook import LONGEST, Listing
from resa_hub.core.progress import Progress
from resa_hub.evaluation.matrix import Cell, Matrix
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.hub.remote import PushResult, SearchHit
from resa_hub.hub.resolve import PullResult
from tests.helpers import needs
from tests.helpers.adapters import make_adapter
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


class Seen(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(text: str = "tiny-r1", verdict: str = "transferred") -> Evaluation:
    arms = [ArmResult(name=name, role=name, score=50.0, score_ci=(45.0, 55.0)) for name in ("base", "adapter")]
    return Evaluation(
        adapter=f"demo-1@0.1.0{'' if text == 'tiny-r1' else text}",
        target=text,
        benchmark=text,
        split=text,
        problems=40,
        samples=2,
        verdict=verdict,
        sentence=text,
        gain=12.0,
        gain_ci=(8.0, 16.0),
        margin=2.0,
        arms=arms,
        notes=[text],
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    document = msgspec.to_builtins(evaluation())
    make_adapter(tmp_path / "adapters", "demo-1", evals={"a.json": document})
    return Store(tmp_path / "adapters").get(AdapterRef("demo-1"))


def test_an_adapter_is_a_line(adapter: Adapter, tmp_path: Path) -> None:
    manifest = adapter.manifest
    assert repr(adapter) == "<Adapter demo-1@0.1.0 logit-distill on tiny-r1, 655 bytes, transferred on tiny-r1>"
    assert repr(resa_hub.adapters(workspace=tmp_path)) == f"[{adapter!r}]"
    assert resa_hub.adapters(verdict="harmful", workspace=tmp_path) == []
    assert resa_hub.adapters(verdict="transferred", method=manifest.method, workspace=tmp_path) == [adapter]


def test_an_adapter_whose_evaluations_are_broken_still_shows(adapter: Adapter) -> None:
    for path in (adapter.folder / "evals").iterdir():
        path.unlink()
        path.write_text("{")
    assert repr(adapter).endswith("not judged>") and "demo-1" in adapter._repr_html_()


def shown(adapter: Adapter, text: str) -> list[Any]:
    """One of everything that a notebook shows, with this text wherever a stranger's may stand."""
    point = SweepPoint(layer=1, seed=0, adapter=text, gain=1.0, gain_ci=(0.0, 2.0), verdict=text)
    sweep = Sweep(
        method=text, source=text, target=text, benchmark=text, split=text, problems=2, samples=2, places=[point],
        sentence=text,
    )  # fmt: skip
    cell = Cell(text, text, text, fit="exact", verdict=text, sentence=text, gain=1.0, gain_ci=(0.0, 2.0))
    base = msgspec.structs.replace(adapter.manifest.base, id=text)
    mine = Adapter(msgspec.structs.replace(adapter.manifest, base=base, source=text, method=text), Path(text))
    hit = SearchHit(text, text, text, text, (text,), (text,), text)
    return [
        mine,
        Listing([mine, mine]),
        evaluation(text, text),
        Listing([evaluation(text, text)]),
        sweep,
        Listing(sweep.places),
        Matrix([text], [text], [text], 2, [cell], text),
        Listing([cell]),
        Listing([hit]),
        PushResult(text, adapter.manifest.files, True, (text,)),
        PullResult(mine, text, True),
    ]


def test_texts_of_strangers_stay_texts(adapter: Adapter) -> None:
    for value in shown(adapter, HOSTILE):
        html = value._repr_html_()
        seen = Seen(html)
        assert seen.tags <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "span", "br"}, type(value)
        assert seen.attributes <= {"style", "title"} and "\u202e" not in html
        assert "<script>alert" in seen.text
        assert repr(value).count("\n") == (len(value) - 1 if isinstance(value, Listing) else 0)


def test_nothing_of_a_page_is_loaded_from_elsewhere(adapter: Adapter) -> None:
    for value in shown(adapter, "tiny"):
        assert "url(" not in value._repr_html_() and "http" not in value._repr_html_()


def test_a_long_text_is_cut_and_whole_in_its_title() -> None:
    html = evaluation("x" * (LONGEST + 50))._repr_html_()
    assert f"{'x' * LONGEST}…<" in html and f'title="{"x" * (LONGEST + 50)}"' in html


def test_a_list_is_a_table_with_a_row_each(adapter: Adapter) -> None:
    listing = Listing([adapter, adapter])
    assert listing._repr_html_().count("<tr>") == 3 and repr(listing).count("\n") == 1
    assert Seen(Listing([1, "a"])._repr_html_()).text == "1'a'"
    assert Listing([])._repr_html_() == "<em>nothing</em>"


@pytest.mark.parametrize("dark", [False, True])
def test_a_notebook_can_be_read_in_both_schemes(adapter: Adapter, tmp_path: Path, dark: bool) -> None:
    needs.program("chromium")
    from tests.helpers.browser import CONTRAST, chromium

    words = ("transferred", "harmful", "underpowered", "identical to base", "not distinguishable from controls")
    html = "".join(value._repr_html_() for word in words for value in shown(adapter, word))
    page = tmp_path / "page.html"
    colours = "background:#111;color:#eee" if dark else "background:#fff;color:#111"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="{colours}">{html}')
    with chromium() as browser:
        browser.open(page, dark=dark)
        seen, poor = browser.js(CONTRAST)
    assert seen > 100 and poor == []
