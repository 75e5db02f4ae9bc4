"""A sweep over layers on the embedded family: one adapter a layer, one curve, and a word on whether layers differ."""

import functools
import json
import os
import pickle
from pathlib import Path

import numpy
import pytest

from resa_hub.cli.main import run as cli
from resa_hub.config.registry import Registry
from resa_hub.config.schema import parse_numbers
from resa_hub.core.errors import MissingExtra, NotFound, Usage
from resa_hub.core.executors import run_tasks
from resa_hub.core.progress import Progress
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.extraction.layer_differences import differ
from resa_hub.extraction.run import ExtractionRun
from resa_hub.extraction.sweep import Sweep, named, planned, sweep
from tests.conftest import QUICK

JUDGE = EvalSettings(split="dev", problems=40, samples=1, seeds=1, greedy=False)


@pytest.mark.parametrize(
    ("text", "layers"), [("3", [3]), ("1-4", [1, 2, 3, 4]), ("5,0-2, 1", [0, 1, 2, 5]), ("26-26", [26])]
)
def test_layers_are_read(text: str, layers: list[int]) -> None:
    assert parse_numbers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1..3", "1,,2", "99999"])
def test_what_is_no_list_of_layers_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="list of numbers"):
        parse_numbers(text)


def test_a_sweep_by_name() -> None:
    known = Registry()
    assert named("resa-still-v1-layer", None, None, known) == (list(range(1, 27)), "resa-still-v1")
    assert named("resa-still-v1-layer", "3,5", None, known) == ([3, 5], "resa-still-v1")
    assert named(None, "1-2", "mine", known) == ([1, 2], "mine")
    for name, layers, recipe in (
        (None, None, None),
        ("resa-still-v1-step", None, None),
        ("resa-still-v1-layer", None, "mine"),
    ):
        with pytest.raises(Usage):
            named(name, layers, recipe, known)


def answers(means: list[float], seeds: int, seed: int, problems: int = 60, spread: float = 0.0) -> numpy.ndarray:
    """[layers, seeds, problems, 2]; `spread` is the standard deviation of the training seeds."""
    draw = numpy.random.default_rng(seed)
    shift = numpy.array(means)[:, None] + spread * draw.standard_normal((len(means), seeds))
    rate = numpy.clip(draw.random(problems) * 0.5 + shift[:, :, None], 0, 1)
    return (draw.random((*rate.shape, 2)) < rate[..., None]).astype(int)


def test_equal_layers_are_told_apart_about_as_often_as_the_level_says() -> None:
    """100 curves of pure noise at 5%: a binomial count above 12 has probability 0.2%."""
    found = [differ(answers([0.2] * 4, 1, seed).tolist(), resamples=199) for seed in range(100)]
    assert sum(d is not None and d.adapters <= 0.05 for d in found) <= 12


def test_layers_that_differ_are_seen_and_the_spread_of_seeds_is_no_layer() -> None:
    real = differ(answers([0.0, 0.2, 0.4], 3, 0).tolist(), resamples=499)
    assert real and real.adapters <= 0.01 and real.layers is not None and real.layers < 0.01
    training = differ(answers([0.2] * 3, 3, 1, problems=200, spread=0.15).tolist(), resamples=499)
    assert training and training.adapters <= 0.01 and training.layers is not None and training.layers > 0.05
    assert (one := differ(answers([0.0, 0.4], 1, 2).tolist(), resamples=499)) and one.layers is None
    assert differ(answers([0.2], 2, 0).tolist()) is None


def test_equal_answers_do_not_differ() -> None:
    same = numpy.ones((3, 2, 10, 1), dtype=int).tolist()
    assert differ(same) == (1.0, 1.0)


def raising(error: Exception) -> None:
    raise error


def test_executors_refuse_the_unknown_and_pass_our_errors_on() -> None:
    with pytest.raises(Usage, match="executor"):
        run_tasks([], "slurm")
    with pytest.raises(NotFound, match="gone"):
        list(run_tasks([lambda: 1, lambda: raising(NotFound("gone"))]))
    assert list(run_tasks([lambda: "a", lambda: "b"])) == [(0, "a"), (1, "b")]


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match="Ray"):
        list(run_tasks([lambda: 1], "ray"))


@pytest.mark.slow
def test_workers_of_ray_are_no_nicer_than_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own habit is 15 more: beside other load they would get 2% of a core."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    assert list(run_tasks([functools.partial(os.nice, 0)], "ray")) == [(0, os.nice(0))]


def test_the_adapters_of_a_family_bear_the_names_of_its_recipes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the recipe's own seed on, the seeds as versions of one name; what is changed is another recipe and no more
    called so.
    """
    (tmp_path / "registry.yaml").write_text(
        "sweeps: {mine-layer: {recipe: tiny-feature-diff, vary: hookpoint, value: 'layers.{N}', over: 0-2}}\n"
    )
    known = Registry(tmp_path)
    plans = planned(
        layers=[1, 26],
        seeds=2,
        family="resa-still-v1-layer",
        recipe="resa-still-v1",
        registry=known,
        method=None,
        settings=None,
    )
    assert list(plans) == [(1, 42), (1, 43), (26, 42), (26, 43)]
    assert [p.name for p in plans.values()] == ["resa-still-v1-layer1"] * 2 + ["resa-still-v1-layer26"] * 2
    *_, one, another = plans.values()
    assert one.recipe == known.recipe("resa-still-v1-layer26") and another.recipe.seed == 43
    assert pickle.loads(pickle.dumps(plans)) == plans  # the tasks of Ray
    changed = planned(
        layers=[1], family="resa-still-v1-layer", recipe="resa-still-v1", registry=known, settings=["lora.rank=8"]
    )
    beyond = planned(layers=[0], family="resa-still-v1-layer", recipe="resa-still-v1", registry=known, seed=3)
    assert [(seed, p.name) for (_, seed), p in [*changed.items(), *beyond.items()]] == [
        (42, "resa-still-v1-l1-changed"),
        (3, "resa-still-v1-l0"),
    ]
    for layers, wanted in (([], [0, 1, 2]), (["--layers", "1-2"], [1, 2])):
        assert cli(["sweep", "mine-layer", *layers, "--dry-run", "--json", "--workspace", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out)["adapters"] == [f"mine-layer{layer}" for layer in wanted]


QUIET = Progress(quiet=True)


def made(workspace: Path, executor: str = "local") -> Sweep:
    choices = {"method": "feature-diff", "settings": [*QUICK, "rollouts.count=64"]}
    return sweep(
        "tina-tiny",
        layers=[0, 2],
        seeds=2,
        judging=JUDGE,
        executor=executor,
        workspace=workspace,
        progress=QUIET,
        **choices,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweep]:
    workspace = tmp_path_factory.mktemp("sweep")
    return workspace, made(workspace)


@pytest.mark.slow
def test_one_adapter_a_layer_and_seed_on_development_problems(swept: tuple[Path, Sweep]) -> None:
    workspace, found = swept
    assert [(p.layer, p.seed) for p in found.places] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert len({p.adapter for p in found.places}) == 4 and found.split == "dev" and found.problems == 40
    assert all(len(p.controls) == 1 and p.gain_ci[0] <= p.gain <= p.gain_ci[1] for p in found.places)
    assert found.p_adapters is not None and found.p_layers is not None and "p = " in found.sentence
    kept = json.loads(next((workspace / ".resa-hub/sweeps").glob("*.json")).read_text())
    assert [p["adapter"] for p in kept["places"]] == [p.adapter for p in found.places]
    assert Path(found.plot).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_finished_sweep_is_read_not_run_again(swept: tuple[Path, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:

    workspace, found = swept
    monkeypatch.setattr(ExtractionRun, "into", lambda *_: pytest.fail("was run again"))
    monkeypatch.setattr(
        "resa_hub.engine.generation.base.open_engine", lambda *_, **__: pytest.fail("was sampled again")
    )
    assert made(workspace).places == found.places


@pytest.mark.slow
def test_ray_gives_the_same_adapters(
    swept: tuple[Path, Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local cluster; the processes work in one store at once."""
    from resa_hub.adapter.store import Store

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    assert [(p.layer, p.seed, p.gain) for p in made(tmp_path, "ray").places] == [
        (p.layer, p.seed, p.gain) for p in swept[1].places
    ]
    hashes = [
        sorted(a.manifest.content_hash for a in Store(folder / "adapters").readable()[0])
        for folder in (tmp_path, swept[0])
    ]
    assert hashes[0] == hashes[1]


def test_a_small_benchmark_is_asked_whole_unless_a_number_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'{{"question": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(150)))
    line = ["sweep", "--source", "tina-tiny", "--layers", "1", "--dry-run"]
    line += ["--benchmark", f"last-integer={file}", "--new-tokens", "40", "--workspace", str(tmp_path)]
    assert cli(line) == 0
    capsys.readouterr()
    assert cli([*line, "--problems", "200"]) == 2
    assert "200 problems cannot be judged" in capsys.readouterr().err
