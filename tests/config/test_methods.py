"""The table of methods: what follows from it, and that nothing else says it again."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from resa_hub.config.methods import ARMS, HELP, METHODS, PATCHING, SCREENED
from resa_hub.config.recipe import Recipe
from resa_hub.config.registry import Registry
from resa_hub.core import plugins
from resa_hub.evaluation import arms
from resa_hub.extraction.describe import runnable
from resa_hub.extraction.plan import plan
from tests.helpers.commands import ROOT


@pytest.mark.parametrize("name", METHODS)
def test_every_row_names_functions_that_are_there(name: str) -> None:
    spec = METHODS[name]
    for place in filter(None, (spec.run, spec.prepare, spec.sae_texts)):
        assert callable(plugins.resolve(place, "resa_hub.engine.methods"))


def test_a_recipe_takes_the_names_of_the_table() -> None:
    assert get_args(get_type_hints(Recipe)["method"]) == tuple(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_recipe_list_says_whether_a_method_trains_an_sae(name: str, tmp_path: Path) -> None:
    recipe = {"like": "tiny-feature-diff", "method": name}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"recipes": {"mine": recipe}}))
    row = next(row for row in runnable(Registry(tmp_path)) if row["recipe"] == "mine")
    assert row["SAE"] == ("scratch" if METHODS[name].sae else "-")
    labels = [label for label, _ in plan(recipe="mine", registry=Registry(tmp_path)).lines()]
    assert ("SAE" in labels) == METHODS[name].sae and ("patch" in labels) == (name in PATCHING)
    assert ("hookpoint" in labels) != METHODS[name].supervised


def test_what_a_row_implies() -> None:
    for name, spec in METHODS.items():
        assert not (spec.splices and spec.supervised), name
        assert spec.teacher or spec.supervised or spec.trains_on is None, name
        assert not spec.patches or spec.trains_on == "rollouts", name
    assert set(SCREENED) <= set(PATCHING)
    assert set(ARMS) < set(arms.CHOICES)


def test_readme_and_help_name_every_method() -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`([a-z-]+)`", readme))
    assert set(METHODS) <= named
    assert all((name in HELP.replace(",", " ").split()) != spec.control for name, spec in METHODS.items())
