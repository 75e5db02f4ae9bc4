"""The methods that patch: siblings, several hookpoints, selection, screen and rounds; and the controls random and gaussian."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from resa_hub import datasets
from resa_hub.adapter.files import CONFIG
from resa_hub.adapter.store import Adapter
from resa_hub.adapter.verify import verify
from resa_hub.engine.lora import new_lora, norms, share_lora
from resa_hub.engine.models import Source, load_base
from resa_hub.engine.sae.codes import reconstruct
from resa_hub.engine.split import final_state, prefix
from resa_hub.engine.tune import feature_diff, pca_diff, screen, selection
from resa_hub.engine.tune.gaussian import noisy
from resa_hub.engine.tune.patched import final, states
from resa_hub.engine.tune.session import Session
from resa_hub.errors import DoesNotFit, NotFound, Usage
from resa_hub.extract import extract
from resa_hub.extract import screen as screening
from resa_hub.plan import Plan, plan
from resa_hub.progress import Progress
from resa_hub.registry import Registry
from resa_hub.sources import locate
from tests.conftest import QUICK
from tests.models import tiny

SMALL = [*QUICK, "rollouts.count=48", "elicit.rows=64"]
QUIET = Progress(quiet=True)


def planned(*settings: str, **choices: Any) -> Plan:
    choices = {"method": "feature-diff"} | choices
    return plan("tina-tiny", registry=Registry(), settings=[*SMALL, *settings], **choices)


def session(*settings: str, **choices: Any) -> Session:
    made = planned(*settings, **choices)
    base, adapter = locate(made.source.base), made.source.adapter
    assert adapter
    siblings = {name: Source(locate(ref.base)) for name, ref in made.siblings.items()}
    data = datasets.load(made.recipe.trigger, made.trigger), datasets.load(made.recipe.elicit, made.elicit)
    return Session(made.recipe, Source(base, locate(adapter)), Source(locate(made.target.base)), None, *data, None, QUIET, siblings=siblings)


def whole(other: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return other - own


def quick(workspace: Path, *settings: str, **choices: Any) -> Adapter:
    choices = {"method": "feature-diff"} | choices
    return extract("tina-tiny", workspace=workspace, settings=[*SMALL, *settings], progress=QUIET, **choices)[0]


def test_the_whole_difference_at_the_last_layer_makes_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    one = session()
    batch = one.own()[0]
    taught, source = final(one, batch, {"layers.3": whole}), final_state(one.source, batch.ids)
    assert torch.allclose(taught[:, 1:], source[:, 1:], atol=1e-4) and not torch.allclose(final_state(one.target, batch.ids), source, atol=1e-2)
    assert torch.equal(taught[:, 0], final_state(one.target, batch.ids)[:, 0])  # the first position is never patched


def test_a_second_hookpoint_adds_only_what_the_first_left() -> None:
    one = session()
    batch = one.own()[0]
    seen: list[torch.Tensor] = []

    def noted(other: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        seen.append(other - own)
        return other - own

    both = final(one, batch, {"layers.1": noted, "layers.3": noted})
    assert len(seen) == 2 and torch.allclose(both[:, 1:], final_state(one.source, batch.ids)[:, 1:], atol=1e-4)
    moved = states(one, batch, "layers.3", {"layers.1": whole})
    assert torch.allclose(moved[0] - moved[1], seen[1], atol=1e-5)
    plain = prefix(one.source, batch.ids, "layers.3") - prefix(one.target, batch.ids, "layers.3")
    assert (moved[0] - moved[1])[:, 1:].norm() < plain[:, 1:].norm()


@pytest.mark.slow
def test_several_hookpoints_make_one_adapter_with_an_sae_each(tmp_path: Path) -> None:
    adapter = quick(tmp_path, "hookpoints=[layers.1,layers.2]", "features=8")
    assert verify(adapter.folder).hookpoint == "layers.1" and adapter.manifest.name == "tina-tiny-feature-diff-l1-l2"
    assert sorted(p.name for p in (adapter.folder / "sae").iterdir()) == ["layers.1", "layers.2"]
    found = adapter.manifest.run.findings
    assert set(found["saes"]) == {"layers.1", "layers.2"} and len(found["features"]) == len(found["further"][0]["features"]) == 8


def test_siblings_write_an_equal_part_and_are_moved_by_what_moves_the_target() -> None:
    one = session("rollouts.siblings=[tiny-r1b]")
    own = one.own()
    rows = {writer: sum(len(b.ids) for b in own if b.writer == writer) for writer in ("", "tiny-r1b")}
    assert rows == {"": 24, "tiny-r1b": 24}
    batch = next(b for b in own if b.writer)
    sibling, patch = one.model("tiny-r1b"), {"layers.2": whole}
    move = prefix(one.source, batch.ids, "layers.2") - prefix(one.target, batch.ids, "layers.2")
    moved = final(one, batch, {"layers.2": lambda other, state: move})
    assert torch.equal(final(one, batch, patch), moved)
    assert not torch.allclose(moved, final_state(sibling, batch.ids), atol=1e-2)
    other = session("rollouts.siblings=[tiny-r1b]", "rollouts.difference=sibling")
    assert not torch.allclose(final(other, batch, patch), moved, atol=1e-2)
    assert torch.equal(states(other, batch, "layers.2")[1], prefix(sibling, batch.ids, "layers.2"))


def test_the_source_writes_its_share_and_the_target_is_moved_along_it() -> None:
    one = session("rollouts.source_share=0.5", "rollouts.siblings=[tiny-r1b]")
    assert {name: len(asked) for name, asked in one.writers.items()} == {"source": 24, "target": 12, "tiny-r1b": 12}
    written = {bytes(row.numpy().tobytes()) for batch in one.rollouts("source", one.writers["source"]) for row in batch.ids}
    batch = next(b for b in one.own() if bytes(b.ids[0].numpy().tobytes()) in written)
    assert one.writer(batch) is one.target
    assert torch.equal(final(one, batch, {"layers.2": lambda other, own: 0 * own})[:, 1:], final_state(one.target, batch.ids)[:, 1:])
    assert list(session("rollouts.source_share=1.0").writers) == ["source"] and list(session().writers) == ["target"]


def test_one_lora_learns_on_the_target_and_on_a_sibling_at_once(tmp_path: Path) -> None:
    base = load_base(tiny("tiny-r1"))
    settings = planned().recipe.lora
    student = new_lora(base, settings, None, 0)
    other = share_lora(student, load_base(tiny("tiny-r1b")), settings).train()
    batch = session().own()[0]
    final_state(other.get_base_model(), batch.ids).square().sum().backward()  # pyright: ignore[reportArgumentType]
    taught = [p for n, p in student.named_parameters() if ".lora_B." in n]
    assert taught and all(p.grad is not None and bool(p.grad.any()) for p in taught)
    alone, together = (quick(tmp_path, "rollouts.siblings=[tiny-r1b]", f"rollouts.student={which}") for which in ("target", "writer"))
    assert alone.manifest.content_hash != together.manifest.content_hash and together.manifest.probe and together.manifest.probe.kl > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["feature-diff", "pca-diff", "logit-distill"])
def test_an_adapter_taught_by_siblings_is_another_recipe(tmp_path: Path, method: str) -> None:
    plain, with_sibling = quick(tmp_path, method=method), quick(tmp_path, "rollouts.siblings=[tiny-r1b]", method=method)
    assert plain.manifest.recipe_digest != with_sibling.manifest.recipe_digest and plain.manifest.content_hash != with_sibling.manifest.content_hash


def test_a_sibling_must_exist_and_be_kin(tmp_path: Path) -> None:
    from tests.test_compat import permuted

    permuted().save_pretrained(tmp_path / "permuted")
    with pytest.raises(NotFound, match="tiny-r9"):
        quick(tmp_path, "rollouts.siblings=[tiny-r9]")
    with pytest.raises(DoesNotFit, match="no sibling"):
        quick(tmp_path, f"rollouts.siblings=[{tmp_path}/permuted]")


@pytest.fixture(scope="module")
def prepared() -> tuple[Session, Any]:
    one = session("sae.steps=120", "screen.rollouts=16")
    return one, feature_diff.prepare(one)


def test_selections_agree_on_little_and_each_lowers_the_kl(prepared: tuple[Session, Any]) -> None:
    one, made = prepared
    sae, judged = made.saes["layers.2"].sae, screen.Development(one)
    orders = {}
    for name in ("mean", "attribution", "logits"):
        one.settle(selection=name)
        orders[name] = selection.rank(one, sae, made.batches, "layers.2", {}).order
    assert all(sorted(order.tolist()) == list(range(256)) for order in orders.values())
    closed = {name: judged.closed({"layers.2": selection.FeaturePatch(sae, order[:16])}) for name, order in orders.items()}
    last = judged.closed({"layers.2": selection.FeaturePatch(sae, orders["attribution"][-16:])})
    assert min(closed.values()) > 0.1 and last < min(closed.values())
    assert len({tuple(order[:16].tolist()) for order in orders.values()}) == 3
    one.settle(selection="mean")


def test_attribution_is_the_slope_of_the_kl(prepared: tuple[Session, Any]) -> None:
    """Finite differences: scaling one latent's patch by a little lowers the summed KL by that times its attribution."""
    from resa_hub.engine.kl import kl
    from resa_hub.engine.split import head

    one, made = prepared
    sae, batches = made.saes["layers.2"].sae, made.batches[:1]
    score = selection.attribution(one, sae, selection.compared(one, batches, "layers.2", {}), "layers.2")
    latent = score.abs().argmax()
    patch, small, sums = selection.FeaturePatch(sae, latent[None]), 1e-2, []
    for step in (-small, small):
        with torch.no_grad():
            mask = batches[0].completion
            taught = final(one, batches[0], {"layers.2": lambda other, own, step=step: step * patch(other, own)})
            wanted = final_state(one.source, batches[0].ids)
            sums.append(kl(head(one.source)(wanted[mask]), head(one.target)(taught[mask]), "teacher-student").double().sum())
    assert float(sums[0] - sums[1]) / (2 * small) == pytest.approx(float(score[latent]), rel=0.05)


def test_the_control_outside_the_top_is_as_long_as_the_true_patch(prepared: tuple[Session, Any]) -> None:
    one, made = prepared
    trained, batch = made.saes["layers.2"], made.batches[0]
    ranking = selection.by_difference(one, trained.sae, made.batches, "layers.2", {})
    control = feature_diff.Found(trained, ranking, selection.next_outside, equal_norm=True, seed=0)
    assert control.chosen(8).tolist() == ranking.order[16:24].tolist()
    other, own = states(one, batch, "layers.2")
    true = selection.FeaturePatch(trained.sae, ranking.order[:8])
    wrong, right = control.patch(8)(other, own).norm(dim=-1), true(other, own).norm(dim=-1)
    there = wrong > 0
    assert there.any() and torch.allclose(wrong[there], right[there], rtol=1e-3)


@pytest.mark.slow
def test_the_screen_chooses_layer_number_and_scale_on_rollouts_of_its_own(tmp_path: Path) -> None:
    made = planned("screen.rollouts=16", "screen.features=[4,16]", "screen.scales=[0.5,1.5]", layer="auto")
    rows = screening(made, workspace=tmp_path, progress=QUIET)
    layers, numbers = rows[:6], rows[6:]
    assert [row["hookpoint"] for row in layers[::2]] == ["layers.0", "layers.1", "layers.2"] and len(numbers) == 4
    assert sum(row["chosen"] for row in layers) == sum(row["chosen"] for row in numbers) == 1
    assert all(row["closed"] <= 1 for row in rows) and max(row["closed"] for row in rows) > 0.2
    adapter, _ = extract(made=made, workspace=tmp_path, progress=QUIET)
    assert adapter.manifest.run.findings["screen"] == rows and "sae" in adapter.manifest.run.costs
    best = next(row for row in numbers if row["chosen"])
    assert adapter.manifest.hookpoint == best["hookpoint"] and len(adapter.manifest.run.findings["features"]) == int(best["patch"].split()[0])
    assert verify(adapter.folder).recipe.hookpoint == "auto" and (adapter.folder / "sae" / best["hookpoint"]).is_dir()  # pyright: ignore


def test_development_rollouts_are_not_trained_on() -> None:
    one = session("screen.rollouts=16")
    fresh, own = one.fresh(16), one.own()
    assert sum(len(b.ids) for b in fresh) == 16
    prompts = {tuple(row.tolist()) for b in own for row in b.ids}
    assert not prompts & {tuple(row.tolist()) for b in fresh for row in b.ids}
    with pytest.raises(Usage, match="only 16 questions"):
        one.fresh(17)


@pytest.mark.slow
def test_more_features_are_taken_only_where_they_help() -> None:
    one = session("screen.rollouts=16", "screen.features=[1,8,64]", "screen.scales=[1]", "sae.steps=120")
    rows = feature_diff.prepare(one).findings["screen"]
    closed = [row["closed"] for row in rows]
    chosen = next(number for number, row in enumerate(rows) if row["chosen"])
    assert all(value < screen.NEARLY * max(closed) for value in closed[:chosen]) and closed[chosen] >= screen.NEARLY * max(closed)


@pytest.mark.slow
def test_principal_directions_have_a_screen_too() -> None:
    one = session("screen.rollouts=16", "screen.features=[1,2]", layer="auto", method="pca-diff")
    rows = pca_diff.prepare(one).findings["screen"]
    assert [row["patch"] for row in rows[-2:]] == ["1 directions", "2 directions"] and one.recipe.hookpoint in ("layers.0", "layers.1", "layers.2")


@pytest.mark.slow
def test_a_second_round_trains_on_what_the_student_says(tmp_path: Path) -> None:
    one, two = (quick(tmp_path, f"rounds={number}", method="logit-distill") for number in (1, 2))
    assert one.manifest.content_hash != two.manifest.content_hash
    assert {"round_2", "kl_last"} <= set(two.manifest.run.findings) and "round_2" not in one.manifest.run.findings
    assert two.manifest.run.costs["adapter"].tokens > 1.5 * one.manifest.run.costs["adapter"].tokens


def test_random_has_the_norm_of_the_source_module_by_module(tmp_path: Path) -> None:
    adapter = quick(tmp_path, method="random")
    mine, source = norms(adapter.folder, 4.0), norms(tiny("tina-tiny").folder, 4.0)
    assert mine.keys() == source.keys() and all(mine[name] == pytest.approx(source[name], rel=1e-3) for name in mine)
    assert adapter.manifest.sae is None and adapter.manifest.run.findings["norm"] == pytest.approx(sum(v**2 for v in source.values()) ** 0.5, rel=1e-3)
    other = quick(tmp_path, method="random", seed=1)
    assert other.manifest.content_hash != adapter.manifest.content_hash


@pytest.mark.slow
def test_random_takes_the_norm_of_a_named_adapter_or_a_number(tmp_path: Path) -> None:
    made = quick(tmp_path, "lora.rank=8", "lora.alpha=8", "norm=0.5", method="random", name="sized")
    assert all(value == pytest.approx(0.5, rel=1e-3) for value in norms(made.folder).values())
    again = quick(tmp_path, "norm_of=sized@0.1.0", method="random", name="copied")
    assert all(value == pytest.approx(0.5, rel=1e-3) for value in norms(again.folder, 4.0).values())
    assert json.loads((again.folder / CONFIG).read_text())["r"] == 32
    with pytest.raises(Usage, match="other modules"):
        quick(tmp_path, "norm_of=sized@0.1.0", "lora.modules=[q_proj]", method="random")
    with pytest.raises(NotFound):
        quick(tmp_path, "norm_of=nothing", method="random")


def test_gaussian_noise_is_as_long_as_the_error_of_the_sae(prepared: tuple[Session, Any]) -> None:
    one, made = prepared
    sae, batch = made.saes["layers.2"].sae, made.batches[0]
    state = prefix(one.target, batch.ids, "layers.2")
    noise, error = noisy(sae, state, batch, 0) - state, reconstruct(sae, state) - state
    assert torch.allclose(noise[:, 1:].norm(dim=-1), error[:, 1:].norm(dim=-1), rtol=1e-3) and not noise[:, 0].any()
    assert torch.equal(noisy(sae, state, batch, 0) - state, noise) and not torch.equal(noisy(sae, state, batch, 1) - state, noise)
    assert torch.nn.functional.cosine_similarity(noise[:, 1:], error[:, 1:], dim=-1).mean().abs() < 0.05


@pytest.mark.slow
def test_gaussian_is_sae_tuning_with_other_bytes(tmp_path: Path) -> None:
    noise, paper = quick(tmp_path, method="gaussian"), quick(tmp_path, method="sae-tuning")
    assert noise.manifest.content_hash != paper.manifest.content_hash
    assert noise.manifest.sae == paper.manifest.sae and (noise.folder / "sae").is_dir()


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
def test_choices_that_cannot_be_are_refused_in_the_plan(choices: dict[str, Any], settings: list[str], said: str) -> None:
    with pytest.raises(Usage) as caught:
        planned(*settings, **choices)
    assert said in caught.value.message and caught.value.hint


def test_auto_leaves_open_what_it_names_and_nothing_more() -> None:
    assert planned(features="16").recipe.features == 16 and planned(features="16").recipe.screen is None
    one = planned(scale="auto").recipe
    assert one.screen and one.screen.scales == (1.0, 1.5, 2.0, 3.0) and one.screen.features == () and one.hookpoint == "layers.2"
    every = planned(screen=True).recipe
    assert every.hookpoint == "auto" and every.screen and every.screen.features == (4, 16, 64)
    assert planned(screen=True, layer="2", features=8).recipe.hookpoint == "layers.2"
    with pytest.raises(Usage, match="leaves nothing open"):
        screening(planned("screen.rollouts=8"), progress=QUIET)


@pytest.mark.slow
def test_interrupted_anywhere_all_of_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hookpoints, a sibling and two rounds: stopped in the second SAE and in the second round, no step is made twice or left out."""
    from resa_hub.engine.sae import fit
    from resa_hub.engine.tune import trainer

    monkeypatch.setenv("RESA_HUB_STATE_SECONDS", "0")
    options = ("hookpoints=[layers.1,layers.2]", "features=8", "rounds=2", "rollouts.siblings=[tiny-r1b]", "rollouts.count=24", "sae.steps=6")
    calls, stops = 0, set()

    def stopping(plain: Any) -> Any:
        def step(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls in stops:
                raise KeyboardInterrupt
            return plain(*arguments)

        return step

    monkeypatch.setattr(fit.AdamTrainer, "step", stopping(fit.AdamTrainer.step))
    monkeypatch.setattr(trainer._Run, "update", stopping(trainer._Run.update))
    whole = quick(tmp_path / "whole", *options)
    steps = calls
    stops |= {steps + 9, 2 * steps}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path / "cut", *options)
    assert quick(tmp_path / "cut", *options).manifest.content_hash == whole.manifest.content_hash
    assert calls == 2 * steps + 2
