"""What only reads or plans loads nothing heavy, and answers at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import RUN, environment, least_cpu, stocked

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "sae_lens",
    "vllm",
    "datasets",
    "huggingface_hub",
    "numpy",
    "scipy",
    "statsmodels",
    "pandas",
    "matplotlib",
    "rich",
    "jinja2",
    "pydantic",
)
GUARD = f"""
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit("loaded: " + ", ".join(loaded) if loaded else 0)
"""
BUDGETS = {"--help": 0.25, "list": 0.30, "show": 0.30}
"""Seconds of CPU, as `least_cpu` measures them."""


def guarded(code: str, *allowed: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, which fails when something heavy was loaded."""
    let = f"[sys.modules.pop(name, None) for name in {allowed!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{let}{GUARD}"], env=environment(), capture_output=True, text=True
    )


def command(*arguments: str) -> str:
    return f"from resa_hub.cli.main import run\nassert run({list(arguments)!r}) == 0"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with three adapters."""
    return stocked(tmp_path_factory.mktemp("home"))


LIGHT = [
    ("--help",),
    ("extract", "--help"),
    ("--version",),
    ("list",),
    ("show", "demo-1"),
    ("show", "demo-1", "--json"),
    ("registry",),
    ("recipe", "show", "resa-still-v1"),
    ("push", "demo-1", "--to", "folder:remote", "--dry-run"),
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_command_loads_nothing_heavy(home: Path, arguments: tuple[str, ...]) -> None:
    takes_workspace = not {"--help", "--version"} & set(arguments)
    done = guarded(command(*arguments, *(["--workspace", str(home)] if takes_workspace else [])))
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("source", ["tina-tiny", "tina-still"])
def test_a_plan_measures_this_machine_with_numpy_and_loads_nothing_else(home: Path, source: str) -> None:
    """Typer reads numbers with pydantic."""
    line = command("extract", "--source", source, "--dry-run", "--workspace", str(home))
    done = guarded(line, "numpy", "pydantic")
    assert done.returncode == 0, done.stderr
    assert "this machine" in done.stdout


def test_a_dry_run_of_attach_is_light(home: Path) -> None:
    line = command("attach", "demo-1", "--target", "r1-distill-1.5b", "--dry-run", "--workspace", str(home))
    assert guarded(line, "pydantic").returncode == 0


def test_guard_can_fail() -> None:
    """Each of two heavy modules, loaded before or by a command, trips it."""
    for code in (f"{command('--help')}\nimport numpy", "import huggingface_hub", "sys.modules['torch'] = sys"):
        done = guarded(code)
        assert done.returncode == 1 and "loaded: " in done.stderr


def test_importing_the_package_is_light() -> None:
    done = guarded("import resa_hub\nassert not [name for name in sys.modules if name.startswith('resa_hub.')]")
    assert done.returncode == 0, done.stderr


def test_importing_the_verbs_is_light() -> None:
    done = guarded("from resa_hub import extract, attach, evaluate, push, pull")
    assert done.returncode == 0, done.stderr


ORDERS = {
    "functions first": "from resa_hub import extract, attach, evaluate, push, pull",
    "modules first": """
import resa_hub.extraction.extract, resa_hub.inference.attach, resa_hub.evaluation.evaluate, resa_hub.hub.sharing
from resa_hub import extract, attach, evaluate, push, pull""",
    "modules by name": """
import importlib
[importlib.import_module(f"resa_hub.{name}") for name in ("evaluation.evaluate", "extraction.extract")]
from resa_hub import extract, attach, evaluate, push, pull""",
    "modules afterwards": """
from resa_hub import extract, attach, evaluate, push, pull
import resa_hub.extraction.extract, resa_hub.evaluation.evaluate
from resa_hub import extract, evaluate""",
    "by a star": "from resa_hub import *",
}


@pytest.mark.parametrize("order", ORDERS)
def test_library_gives_functions_whatever_was_imported_before(order: str) -> None:
    check = """
for name, module in resa_hub.PLACES.items():
    function = getattr(resa_hub, name)
    assert callable(function) and function is getattr(sys.modules["resa_hub." + module], name), name
assert (extract, attach, evaluate) == (resa_hub.extract, resa_hub.attach, resa_hub.evaluate)
"""
    done = guarded(f"{ORDERS[order]}\nimport resa_hub\n{check}")
    assert done.returncode == 0, done.stderr


def test_no_module_at_the_top_bears_the_name_of_a_public_function() -> None:
    """Its import would hide the function: the package needs no trick against that."""
    import resa_hub

    assert resa_hub.__file__
    entries = {path.stem for path in Path(resa_hub.__file__).parent.iterdir()}
    assert entries & set(resa_hub.__all__) == set()
    assert set(resa_hub.__all__) == set(resa_hub.PLACES)


def test_unknown_name_of_the_library_is_an_attribute_error() -> None:
    import resa_hub

    with pytest.raises(AttributeError, match="extrakt"):
        _ = resa_hub.extrakt  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_light_commands_take_little_cpu_time(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(home)]
    least = {words[0]: least_cpu(*words) for words in (["--help"], ["list", *there], ["show", "demo-1", *there])}
    with capsys.disabled():
        print("\nCPU seconds: " + ", ".join(f"{name} {seconds:.3f}" for name, seconds in least.items()))
    assert {name: seconds for name, seconds in least.items() if seconds > BUDGETS[name]} == {}


@pytest.mark.slow
def test_a_heavy_module_breaks_the_budget() -> None:
    assert least_cpu("--help", code=f"import huggingface_hub.hf_api\n{RUN}") > BUDGETS["--help"]
