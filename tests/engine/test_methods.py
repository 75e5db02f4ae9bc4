"""The methods that patch: siblings, several hookpoints, selection and rounds; and the controls random and gaussian."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from resa_hub.adapter.layout import CONFIG
from resa_hub.adapter.verify import verify_folder
from resa_hub.core.errors import DoesNotFit, NotFound, Usage
from resa_hub.engine.methods import feature_diff, screen, selection
from resa_hub.engine.methods.activation_patching import patched_hidden_state, states
from resa_hub.engine.methods.context import ExtractionContext
from resa_hub.engine.methods.gaussian import noisy
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import new_lora, norms, share_lora
from resa_hub.engine.model.partial_forward import last_hidden_state, run_to_layer
from resa_hub.engine.sae.topk import reconstruct
from tests.helpers.models import tiny
from tests.helpers.patching import context_of, planned, quick, whole


def test_the_whole_difference_at_the_last_layer_makes_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of()
    batch = context.texts.training_rollouts()[0]
    taught, source = (
        patched_hidden_state(context, batch, {"layers.3": whole}),
        last_hidden_state(context.source, batch.ids),
    )
    assert torch.allclose(taught[:, 1:], source[:, 1:], atol=1e-4) and not torch.allclose(
        last_hidden_state(context.target, batch.ids), source, atol=1e-2
    )
    assert torch.equal(
        taught[:, 0], last_hidden_state(context.target, batch.ids)[:, 0]
    )  # the first position is never patched


def test_a_second_hookpoint_adds_only_what_the_first_left() -> None:
    context = context_of()
    batch = context.texts.training_rollouts()[0]
    seen: list[torch.Tensor] = []

    def noted(other: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        seen.append(other - own)
        return other - own

    both = patched_hidden_state(context, batch, {"layers.1": noted, "layers.3": noted})
    assert len(seen) == 2 and torch.allclose(
        both[:, 1:], last_hidden_state(context.source, batch.ids)[:, 1:], atol=1e-4
    )
    moved = states(context, batch, "layers.3", {"layers.1": whole})
    assert torch.allclose(moved[0] - moved[1], seen[1], atol=1e-5)
    plain = run_to_layer(context.source, batch.ids, "layers.3") - run_to_layer(context.target, batch.ids, "layers.3")
    assert (moved[0] - moved[1])[:, 1:].norm() < plain[:, 1:].norm()


@pytest.mark.slow
def test_several_hookpoints_make_one_adapter_with_an_sae_each(tmp_path: Path) -> None:
    adapter = quick(tmp_path, "hookpoints=[layers.1,layers.2]", "features=8")
    assert (
        verify_folder(adapter.folder).hookpoint == "layers.1"
        and adapter.manifest.name == "tina-tiny-feature-diff-l1-l2"
    )
    assert sorted(p.name for p in (adapter.folder / "sae").iterdir()) == ["layers.1", "layers.2"]
    found = adapter.manifest.run.findings
    assert (
        set(found["saes"]) == {"layers.1", "layers.2"}
        and len(found["features"]) == len(found["further"][0]["features"]) == 8
    )


def test_siblings_write_an_equal_part_and_are_moved_by_what_moves_the_target() -> None:
    context = context_of("rollouts.siblings=[tiny-r1b]")
    own = context.texts.training_rollouts()
    rows = {writer: sum(len(b.ids) for b in own if b.writer == writer) for writer in ("", "tiny-r1b")}
    assert rows == {"": 24, "tiny-r1b": 24}
    batch = next(b for b in own if b.writer)
    sibling, patch = context.models.named("tiny-r1b"), {"layers.2": whole}
    move = run_to_layer(context.source, batch.ids, "layers.2") - run_to_layer(context.target, batch.ids, "layers.2")
    moved = patched_hidden_state(context, batch, {"layers.2": lambda other, state: move})
    assert torch.equal(patched_hidden_state(context, batch, patch), moved)
    assert not torch.allclose(moved, last_hidden_state(sibling, batch.ids), atol=1e-2)
    other = context_of("rollouts.siblings=[tiny-r1b]", "rollouts.difference=sibling")
    assert not torch.allclose(patched_hidden_state(other, batch, patch), moved, atol=1e-2)
    assert torch.equal(states(other, batch, "layers.2")[1], run_to_layer(sibling, batch.ids, "layers.2"))


def test_the_source_writes_its_share_and_the_target_is_moved_along_it() -> None:
    context = context_of("rollouts.source_share=0.5", "rollouts.siblings=[tiny-r1b]")
    assert {name: len(asked) for name, asked in context.texts.questions_by_writer.items()} == {
        "source": 24,
        "target": 12,
        "tiny-r1b": 12,
    }
    written = {
        bytes(row.numpy().tobytes())
        for batch in context.texts.rollouts("source", context.texts.questions_by_writer["source"])
        for row in batch.ids
    }
    batch = next(b for b in context.texts.training_rollouts() if bytes(b.ids[0].numpy().tobytes()) in written)
    assert context.rollout_model(batch) is context.target
    assert torch.equal(
        patched_hidden_state(context, batch, {"layers.2": lambda other, own: 0 * own})[:, 1:],
        last_hidden_state(context.target, batch.ids)[:, 1:],
    )
    assert list(context_of("rollouts.source_share=1.0").texts.questions_by_writer) == ["source"] and list(
        context_of().texts.questions_by_writer
    ) == ["target"]


@pytest.mark.slow
def test_one_lora_learns_on_the_target_and_on_a_sibling_at_once(tmp_path: Path) -> None:
    base = load_base(tiny("tiny-r1"))
    settings = planned().recipe.lora
    student = new_lora(base, settings, None, 0)
    other = share_lora(student, load_base(tiny("tiny-r1b")), settings).train()
    batch = context_of().texts.training_rollouts()[0]
    last_hidden_state(other.get_base_model(), batch.ids).square().sum().backward()  # pyright: ignore[reportArgumentType]
    taught = [p for n, p in student.named_parameters() if ".lora_B." in n]
    assert taught and all(p.grad is not None and bool(p.grad.any()) for p in taught)
    alone, together = (
        quick(tmp_path, "rollouts.siblings=[tiny-r1b]", f"rollouts.student={which}") for which in ("target", "writer")
    )
    assert (
        alone.manifest.content_hash != together.manifest.content_hash
        and together.manifest.probe
        and together.manifest.probe.kl > 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["feature-diff", "pca-diff", "logit-distill"])
def test_an_adapter_taught_by_siblings_is_another_recipe(tmp_path: Path, method: str) -> None:
    plain, with_sibling = quick(tmp_path, method=method), quick(tmp_path, "rollouts.siblings=[tiny-r1b]", method=method)
    assert (
        plain.manifest.recipe_digest != with_sibling.manifest.recipe_digest
        and plain.manifest.content_hash != with_sibling.manifest.content_hash
    )


def test_a_sibling_must_exist_and_be_kin(tmp_path: Path) -> None:
    from tests.adapter.test_fit import permuted

    permuted().save_pretrained(tmp_path / "permuted")
    with pytest.raises(NotFound, match="tiny-r9"):
        quick(tmp_path, "rollouts.siblings=[tiny-r9]")
    with pytest.raises(DoesNotFit, match="no sibling"):
        quick(tmp_path, f"rollouts.siblings=[{tmp_path}/permuted]")


@pytest.fixture(scope="module")
def prepared() -> tuple[ExtractionContext, Any]:
    context = context_of("sae.steps=120", "screen.rollouts=16")
    return context, feature_diff.prepare(context)


@pytest.mark.slow
def test_selections_agree_on_little_and_each_lowers_the_kl(prepared: tuple[ExtractionContext, Any]) -> None:
    context, made = prepared
    sae, judged = made.saes["layers.2"].sae, screen.DevelopmentSet(context)
    orders = {}
    for name in ("mean", "attribution", "logits"):
        context.update_recipe(selection=name)
        orders[name] = selection.rank(context, sae, made.batches, "layers.2", {}).order
    assert all(sorted(order.tolist()) == list(range(256)) for order in orders.values())
    closed = {
        name: judged.closed({"layers.2": selection.FeaturePatch(sae, order[:16])}) for name, order in orders.items()
    }
    last = judged.closed({"layers.2": selection.FeaturePatch(sae, orders["attribution"][-16:])})
    assert min(closed.values()) > 0.1 and last < min(closed.values())
    assert len({tuple(order[:16].tolist()) for order in orders.values()}) == 3
    context.update_recipe(selection="mean")


def test_attribution_is_the_slope_of_the_kl(prepared: tuple[ExtractionContext, Any]) -> None:
    """Finite differences: scaling one latent's patch by a little lowers the summed KL by that times its attribution."""
    from resa_hub.engine.model.kl import kl
    from resa_hub.engine.model.partial_forward import lm_head

    context, made = prepared
    sae, batches = made.saes["layers.2"].sae, made.batches[:1]
    score = selection.attribution(context, sae, selection.compare_states(context, batches, "layers.2", {}), "layers.2")
    latent = score.abs().argmax()
    patch, small, sums = selection.FeaturePatch(sae, latent[None]), 1e-2, []
    for step in (-small, small):
        with torch.no_grad():
            mask = batches[0].completion
            taught = patched_hidden_state(
                context, batches[0], {"layers.2": lambda other, own, step=step: step * patch(other, own)}
            )
            wanted = last_hidden_state(context.source, batches[0].ids)
            sums.append(
                kl(lm_head(context.source)(wanted[mask]), lm_head(context.target)(taught[mask]), "teacher-student")
                .double()
                .sum()
            )
    assert float(sums[0] - sums[1]) / (2 * small) == pytest.approx(float(score[latent]), rel=0.05)


def test_the_control_outside_the_top_is_as_long_as_the_true_patch(prepared: tuple[ExtractionContext, Any]) -> None:
    context, made = prepared
    trained, batch = made.saes["layers.2"], made.batches[0]
    ranking = selection.by_difference(context, trained.sae, made.batches, "layers.2", {})
    control = feature_diff.HookpointFeatures(trained, ranking, selection.next_outside, equal_norm=True, seed=0)
    assert control.chosen(8).tolist() == ranking.order[16:24].tolist()
    other, own = states(context, batch, "layers.2")
    true = selection.FeaturePatch(trained.sae, ranking.order[:8])
    wrong, right = control.patch(8)(other, own).norm(dim=-1), true(other, own).norm(dim=-1)
    there = wrong > 0
    assert there.any() and torch.allclose(wrong[there], right[there], rtol=1e-3)


@pytest.mark.slow
def test_a_second_round_trains_on_what_the_student_says(tmp_path: Path) -> None:
    first, second = (quick(tmp_path, f"rounds={number}", method="logit-distill") for number in (1, 2))
    assert first.manifest.content_hash != second.manifest.content_hash
    assert {"round_2", "kl_last"} <= set(second.manifest.run.findings) and "round_2" not in first.manifest.run.findings
    assert second.manifest.run.costs["adapter"].tokens > 1.5 * first.manifest.run.costs["adapter"].tokens


def test_random_has_the_norm_of_the_source_module_by_module(tmp_path: Path) -> None:
    adapter = quick(tmp_path, method="random")
    mine, source = norms(adapter.folder, 4.0), norms(tiny("tina-tiny").folder, 4.0)
    assert mine.keys() == source.keys() and all(mine[name] == pytest.approx(source[name], rel=1e-3) for name in mine)
    assert adapter.manifest.sae is None and adapter.manifest.run.findings["norm"] == pytest.approx(
        sum(v**2 for v in source.values()) ** 0.5, rel=1e-3
    )
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


def test_gaussian_noise_is_as_long_as_the_error_of_the_sae(prepared: tuple[ExtractionContext, Any]) -> None:
    context, made = prepared
    sae, batch = made.saes["layers.2"].sae, made.batches[0]
    state = run_to_layer(context.target, batch.ids, "layers.2")
    noise, error = noisy(sae, state, batch, 0) - state, reconstruct(sae, state) - state
    assert torch.allclose(noise[:, 1:].norm(dim=-1), error[:, 1:].norm(dim=-1), rtol=1e-3) and not noise[:, 0].any()
    assert torch.equal(noisy(sae, state, batch, 0) - state, noise) and not torch.equal(
        noisy(sae, state, batch, 1) - state, noise
    )
    assert torch.nn.functional.cosine_similarity(noise[:, 1:], error[:, 1:], dim=-1).mean().abs() < 0.05


@pytest.mark.slow
def test_gaussian_is_sae_tuning_with_other_bytes(tmp_path: Path) -> None:
    noise, paper = quick(tmp_path, method="gaussian"), quick(tmp_path, method="sae-tuning")
    assert noise.manifest.content_hash != paper.manifest.content_hash
    assert noise.manifest.sae == paper.manifest.sae and (noise.folder / "sae").is_dir()


@pytest.mark.slow
def test_interrupted_anywhere_all_of_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hookpoints, a sibling and two rounds: stopped in the second SAE and in the second round, no step is made
    twice or left out.
    """
    from resa_hub.engine.methods import trainer
    from resa_hub.engine.sae import training_loop

    monkeypatch.setenv("RESA_HUB_STATE_SECONDS", "0")
    options = (
        "hookpoints=[layers.1,layers.2]",
        "features=8",
        "rounds=2",
        "rollouts.siblings=[tiny-r1b]",
        "rollouts.count=24",
        "sae.steps=6",
    )
    calls, stops = 0, set()

    def stopping(plain: Any) -> Any:
        def step(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls in stops:
                raise KeyboardInterrupt
            return plain(*arguments)

        return step

    monkeypatch.setattr(training_loop.AdamTrainer, "step", stopping(training_loop.AdamTrainer.step))
    monkeypatch.setattr(trainer._TrainingRun, "update", stopping(trainer._TrainingRun.update))
    whole = quick(tmp_path / "whole", *options)
    steps = calls
    stops |= {steps + 9, 2 * steps}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path / "cut", *options)
    assert quick(tmp_path / "cut", *options).manifest.content_hash == whole.manifest.content_hash
    assert calls == 2 * steps + 2
