"""The training-free screen: what it tries, what it chooses, what it leaves alone."""

from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.verify import verify_folder
from resa_hub.core.errors import Usage
from resa_hub.engine.methods import feature_diff, pca_diff, screen
from resa_hub.extraction.extract import extract
from resa_hub.extraction.extract import screen as screening
from tests.helpers.patching import QUIET, context_of, planned


@pytest.mark.slow
def test_the_screen_chooses_layer_number_and_scale_on_rollouts_of_its_own(tmp_path: Path) -> None:
    made = planned("screen.rollouts=16", "screen.features=[4,16]", "screen.scales=[0.5,1.5]", layer="auto")
    rows = screening(made, workspace=tmp_path, progress=QUIET)
    layers, numbers = rows[:6], rows[6:]
    assert [row["hookpoint"] for row in layers[::2]] == ["layers.0", "layers.1", "layers.2"] and len(numbers) == 4
    assert sum(row["chosen"] for row in layers) == sum(row["chosen"] for row in numbers) == 1
    assert all(row["closed"] <= 1 for row in rows) and max(row["closed"] for row in rows) > 0.2
    adapter, _ = extract(plan=made, workspace=tmp_path, progress=QUIET)
    assert adapter.manifest.run.findings["screen"] == rows and "sae" in adapter.manifest.run.costs
    best = next(row for row in numbers if row["chosen"])
    assert adapter.manifest.hookpoint == best["hookpoint"] and len(adapter.manifest.run.findings["features"]) == int(
        best["patch"].split()[0]
    )
    recipe = verify_folder(adapter.folder).recipe
    assert recipe and recipe.hookpoint == "auto" and (adapter.folder / "sae" / best["hookpoint"]).is_dir()


def test_development_rollouts_are_not_trained_on() -> None:
    context = context_of("screen.rollouts=16")
    fresh, own = context.texts.dev_rollouts(16), context.texts.training_rollouts()
    assert sum(len(b.ids) for b in fresh) == 16
    prompts = {tuple(row.tolist()) for b in own for row in b.ids}
    assert not prompts & {tuple(row.tolist()) for b in fresh for row in b.ids}
    with pytest.raises(Usage, match="only 16 questions"):
        context.texts.dev_rollouts(17)


@pytest.mark.slow
def test_more_features_are_taken_only_where_they_help() -> None:
    context = context_of("screen.rollouts=16", "screen.features=[1,8,64]", "screen.scales=[1]", "sae.steps=120")
    rows = feature_diff.prepare(context).findings["screen"]
    closed = [row["closed"] for row in rows]
    chosen = next(number for number, row in enumerate(rows) if row["chosen"])
    assert all(value < screen.SUFFICIENT_SHARE * max(closed) for value in closed[:chosen]) and closed[
        chosen
    ] >= screen.SUFFICIENT_SHARE * max(closed)


@pytest.mark.slow
def test_principal_directions_have_a_screen_too() -> None:
    context = context_of("screen.rollouts=16", "screen.features=[1,2]", layer="auto", method="pca-diff")
    rows = pca_diff.prepare(context).findings["screen"]
    assert [row["patch"] for row in rows[-2:]] == ["1 directions", "2 directions"] and context.recipe.hookpoint in (
        "layers.0",
        "layers.1",
        "layers.2",
    )


@pytest.mark.parametrize(
    ("choices", "settings", "said"),
    [
        ({"layer": "auto", "method": "random-features"}, [], "no screen"),
        ({"method": "sae-tuning"}, ["screen.scales=[1]"], "no screen"),
        ({"method": "sae-tuning"}, ["hookpoints=[layers.1,layers.2]"], "one hookpoint"),
        ({}, ["hookpoints=[layers.2,layers.1]"], "not in order"),
        ({}, ["hookpoints=[layers.1,layers.1]"], "not in order"),
        ({}, ["hookpoints=[layers.x]"], "hookpoint"),
        ({"layer": "many"}, [], "--layer"),
        ({"features": "few"}, [], "--features"),
        ({"scale": "big"}, [], "--scale"),
        ({}, ["rounds=0"], "rounds"),
        ({}, ["selection=best"], "selection"),
    ],
)
def test_choices_that_cannot_be_are_refused_in_the_plan(
    choices: dict[str, Any], settings: list[str], said: str
) -> None:
    with pytest.raises(Usage) as caught:
        planned(*settings, **choices)
    assert said in caught.value.message and caught.value.hint


def test_auto_leaves_open_what_it_names_and_nothing_more() -> None:
    assert planned(features="16").recipe.features == 16 and planned(features="16").recipe.screen is None
    scaled = planned(scale="auto").recipe
    assert (
        scaled.screen
        and scaled.screen.scales == (1.0, 1.5, 2.0, 3.0)
        and scaled.screen.features == ()
        and scaled.hookpoint == "layers.2"
    )
    every = planned(screen=True).recipe
    assert every.hookpoint == "auto" and every.screen and every.screen.features == (4, 16, 64)
    assert planned(screen=True, layer="2", features=8).recipe.hookpoint == "layers.2"
    with pytest.raises(Usage, match="leaves nothing open"):
        screening(planned("screen.rollouts=8"), progress=QUIET)
