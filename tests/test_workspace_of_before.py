"""A workspace that resa-hub wrote before the package was rearranged (commit df29340): it is read, shown and used as
then.

`tests/fixtures/workspace-0.1.0.tar.gz` holds three adapters, two evaluations with their samples and controls, a label,
a folder remote, and in `expected/` what that program printed.
"""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.cli.main import run
from resa_hub.config.recipe import Recipe
from resa_hub.config.registry import Registry
from resa_hub.core.errors import Usage
from tests.helpers.commands import out
from tests.helpers.old_workspace import unpack


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("before"))


RENAMED = {"draw": "problem_seed", "detectable": "minimum_detectable_effect", "unfinished": "truncated"}
"""Fields of evaluations that have another name since."""
PURPOSES = {"choosing": "model-selection", "judging": "test"}


def expected(before: Path, name: str) -> Any:
    """What that program printed, in the words of this one; every number is left as it is."""
    return in_words_of_now(json.loads((before / "expected" / f"{name}.json").read_text()))


def in_words_of_now(value: Any) -> Any:
    if isinstance(value, list):
        return [in_words_of_now(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    renamed = {RENAMED.get(key, key): in_words_of_now(inner) for key, inner in value.items()}
    if "purpose" in renamed:
        renamed["purpose"] = PURPOSES[renamed["purpose"]]
    return renamed


def said(capsys: pytest.CaptureFixture[str], before: Path, *arguments: str) -> Any:
    return json.loads(out(capsys, *arguments, "--json", "--workspace", str(before)))


SAID = [
    ("list", ["list"]),
    ("show", ["show", "kept"]),
    ("diff", ["diff", "kept", "kept-paper"]),
    ("log", ["log", "kept"]),
]


@pytest.mark.parametrize(("name", "arguments"), SAID, ids=lambda value: value if isinstance(value, str) else "")
def test_the_commands_say_what_they_said(
    before: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    then, now = expected(before, name), said(capsys, before, *arguments)
    for answer in (then, now):
        answer.pop("folder", None)
    assert only_known(now, then) == then


def only_known(now: Any, then: Any) -> Any:
    """What is said now without keys that were not there then: some may be added, none may go. Sums differ by rounding
    from processor to processor.
    """
    if isinstance(now, float) and isinstance(then, float):
        return then if math.isclose(now, then, rel_tol=1e-9) else now
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: only_known(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [only_known(a, b) for a, b in zip(now, then, strict=True)]
    return now


def test_recipes_mean_what_they_meant(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    then = {row["recipe"]: row for row in expected(before, "recipes")["recipes"]}
    now = {row["recipe"]: row for row in said(capsys, before, "recipe", "list")["recipes"]}
    assert now == then


PUBLISHED = ("resa-", "still2", "sft-")


def without_later_settings(recipe: Recipe) -> Recipe:
    """The recipes of published systems have since come to say that the SAE's b_dec starts at the mean of the first
    batch, which the public code does and this program did not: they are other recipes, and have other digests.
    """
    return msgspec.structs.replace(recipe, sae=msgspec.structs.replace(recipe.sae, reset_bias=False))


def test_digests_of_the_recipes_are_equal(before: Path) -> None:
    registry, compared = Registry(None), 0
    for name, digest in expected(before, "digests").items():
        if digest.startswith("sha256:"):
            recipe = registry.recipe(name)
            assert without_later_settings(recipe).digest() == digest, name
            assert recipe.digest() == digest or name.startswith(PUBLISHED), name
            compared += 1
        else:
            with pytest.raises(Usage):
                registry.recipe(name)
    assert compared > 20


@pytest.mark.parametrize("name", ["kept", "kept-paper", "kept-control", "kept@best"])
def test_adapters_are_verified_and_attached(before: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert out(capsys, "verify", name, "--workspace", str(before))
    arguments = [name, "--target", "tiny-r1", "--prompt", "7*7-8+6-4="]
    assert said(capsys, before, "attach", *arguments)["fit"] == "exact"


def test_the_remote_is_pulled(before: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = json.loads(out(capsys, "pull", f"folder:{before}/remote#kept", "--workspace", str(tmp_path), "--json"))
    assert answer["content_hash"] == expected(before, "list")["adapters"][0]["content_hash"]


@pytest.mark.slow
def test_samples_are_found_and_judged_as_before(
    before: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is generated, and every number is the same."""
    monkeypatch.setattr(
        "resa_hub.engine.generation.base.open_engine", lambda *_, **__: pytest.fail("a model was loaded")
    )
    sizes = ["--problems", "40", "--samples", "2", "--controls", "2"]
    now = said(capsys, before, "eval", "kept", "--target", "tiny-r1", *sizes)
    then = expected(before, "eval")
    for answer in (then, now):
        answer.pop("created")
        answer.pop("seconds")
    assert now == then


def test_a_report_draws_what_it_drew(before: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    out(capsys, "report", "kept", "--target", "tiny-r1", "--out", str(path), "--workspace", str(before))
    then, now = expected(before, "report")["entries"][0], json.loads(path.read_text())["entries"][0]
    for entry in (then, now):
        entry["document"].pop("created")
        entry["document"].pop("seconds")
        entry["settings"].pop("created")
        entry["settings"].pop("seconds")
    for newer in ("p_over_cells", "use", "license"):
        now.pop(newer)
    now["warnings"] += now.pop("remarks")
    later = {"recipe.sae.reset_bias": False, "recipe.sae.accept_bad": False}  # settings of today, as they were then
    assert {key: now["making"].pop(key) for key in later} == later
    assert now == then


def test_the_archive_is_one_of_before(before: Path) -> None:
    """Guards the fixture: written by the old program, not made anew by this one."""
    manifest = json.loads((before / "adapters/kept/0.1.0/resa.json").read_text())
    assert manifest["run"]["created"].startswith("2026-11-27T07:")
    with sqlite3.connect(before / ".resa-hub/samples.sqlite") as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone()[0] > 500
    assert run(["show", "kept", "-q", "--workspace", str(before)]) == 0
