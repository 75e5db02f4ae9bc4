"""The network cut at a hookpoint: the halves make the whole, gradient stays behind the cut, and SAE-Tuning on them
equals the plain algorithm.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from resa_hub.config.registry import Registry
from resa_hub.core.errors import DoesNotFit, Usage
from resa_hub.core.progress import Progress
from resa_hub.data import datasets
from resa_hub.data.snapshots import locate
from resa_hub.engine.cost_tracker import CostTracker
from resa_hub.engine.methods import method
from resa_hub.engine.methods.context import ExtractionContext
from resa_hub.engine.methods.inputs import MethodInputs, RunResources
from resa_hub.engine.model.loading import Source, load_base
from resa_hub.engine.model.lora import State, new_lora, state_of
from resa_hub.engine.model.partial_forward import (
    check_layer,
    decoder_layers,
    hook_module,
    last_hidden_state,
    lm_head,
    run_from_layer,
    run_to_layer,
    spliced,
)
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae.topk import SparseTopKTrainingSAE, reconstruct
from resa_hub.extraction.plan import plan
from tests.helpers.models import LORA, random_ids, random_model, tiny
from tests.helpers.plain_sft import plain_tuning

FAMILIES = ("tiny-r1", "llama", "qwen3", "mistral", "gemma2", "gemma3", "phi3", "gpt_neox")


def model_of(family: str) -> PreTrainedModel:
    return load_base(tiny(family)) if family.startswith("tiny") else random_model(family)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_prefix_and_suffix_make_the_plain_forward_bit_for_bit(family: str) -> None:
    model, ids = model_of(family), random_ids()
    whole = last_hidden_state(model, ids)
    for layer in range(len(decoder_layers(model))):
        state = run_to_layer(model, ids, f"layers.{layer}")
        assert torch.equal(run_from_layer(model, ids, state, layer), whole)
        moved = run_from_layer(model, ids, state + 0.5 * torch.randn_like(state), layer)
        assert not torch.allclose(moved, whole, atol=1e-3)
    assert torch.equal(last_hidden_state(model, ids), whole)  # nothing is left patched


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_head_gives_the_models_own_logits(family: str) -> None:
    model, ids = model_of(family), random_ids()
    logits = model(input_ids=ids, use_cache=False).logits
    assert torch.equal(lm_head(model)(last_hidden_state(model, ids)), logits)
    if family == "gemma2":
        assert logits.abs().max() < 3.0 and logits.abs().max() > 2.0  # the cap of 3 is there and bites


def test_the_sliding_window_of_the_test_model_matters() -> None:
    """Otherwise the Gemma row above would prove nothing about windows."""
    model = random_model("gemma2")
    ids = random_ids(1, 12)
    windowed = run_to_layer(model, ids, "layers.0")
    other = ids.clone()
    other[0, 0] = (ids[0, 0] + 1) % 32
    assert torch.equal(run_to_layer(model, other, "layers.0")[:, 6:], windowed[:, 6:])
    assert not torch.equal(run_to_layer(model, other, "layers.1")[:, 6:], run_to_layer(model, ids, "layers.1")[:, 6:])


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gradient_reaches_only_layers_behind_the_hookpoint(layer: int) -> None:
    model, ids = random_model("llama", tie_word_embeddings=False).requires_grad_(True), random_ids()
    run_from_layer(model, ids, run_to_layer(model, ids, f"layers.{layer}"), layer).pow(2).sum().backward()
    for number, module in enumerate(decoder_layers(model)):
        grads = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()]
        assert all(grads) if number > layer else not any(grads)
    assert model.get_input_embeddings().weight.grad is None  # pyright: ignore[reportOptionalMemberAccess]


def test_gradient_reaches_the_given_state() -> None:
    model, ids = random_model("llama"), random_ids()
    state = run_to_layer(model, ids, "layers.0").clone().requires_grad_(True)
    run_from_layer(model, ids, state, 0)[:, 4].sum().backward()
    assert state.grad is not None and state.grad[:, :5].abs().sum(-1).min() > 0 and not state.grad[:, 5:].any()


@pytest.mark.parametrize("hookpoint", ["layers.1", "layers.1.mlp"])
@torch.no_grad()
def test_spliced_replaces_the_output_at_the_hookpoint_and_only_inside(hookpoint: str) -> None:
    model, ids, seen = random_model("llama"), random_ids(), []
    plain = last_hidden_state(model, ids)

    def replace(state: Tensor) -> Tensor:
        seen.append(state)
        return state * 0

    with spliced(model, hookpoint, lambda state: state):
        assert torch.equal(last_hidden_state(model, ids), plain)
    with spliced(model, hookpoint, replace):
        assert not torch.allclose(last_hidden_state(model, ids), plain)
    assert torch.equal(last_hidden_state(model, ids), plain)
    assert torch.equal(seen[0], run_to_layer(model, ids, hookpoint))


def test_an_error_inside_leaves_no_patch_behind() -> None:
    model, ids = random_model("llama"), random_ids()
    before = last_hidden_state(model, ids)
    with pytest.raises(RuntimeError):
        run_from_layer(model, ids, torch.zeros(3, 12, 7), 0)
    assert torch.equal(last_hidden_state(model, ids), before)
    assert not any("forward" in vars(layer) or layer._forward_hooks for layer in decoder_layers(model))


def test_layers_are_found_by_structure_and_missing_ones_told() -> None:
    model = random_model("phi3")
    assert len(decoder_layers(model)) == 3 and check_layer(model, "layers.2.mlp") == 2
    assert hook_module(model, "layers.2.mlp") is decoder_layers(model)[2].mlp
    with pytest.raises(Usage, match=r"layers\.3 does not exist"):
        check_layer(model, "layers.3")
    with pytest.raises(DoesNotFit):
        decoder_layers(torch.nn.Linear(2, 2))


SETTINGS = [
    "sae.steps=10",
    "sae.latents=128",
    "trigger.rows=96",
    "elicit.rows=96",
    "training.learning_rate=1e-4",
    "lora.rank=4",
    "lora.alpha=8",
]


def context_of(settings: list[str]) -> ExtractionContext:
    chosen = plan("tina-tiny", method="sae-tuning", settings=SETTINGS + settings, registry=Registry())
    base, adapter = (
        locate(chosen.source.base),
        locate(chosen.source.adapter, "adapter") if chosen.source.adapter else None,
    )
    rows = datasets.load(chosen.recipe.trigger, chosen.trigger)
    inputs = MethodInputs(Source(base, adapter), Source(locate(chosen.target.base)), rows, rows)
    return ExtractionContext(chosen.recipe, inputs, RunResources(Progress(quiet=True), CostTracker()))


def plain_algorithm(
    made: ExtractionContext, sae: SparseTopKTrainingSAE, batches: list[Batch], layers: list[int] | None
) -> State:
    """The adapter that `tests.helpers.plain_sft` makes with this SAE, its first position kept."""
    recipe, target = made.recipe, tiny("tiny-r1")
    student = new_lora(load_base(target), recipe.lora, layers, recipe.seed)

    def damage(state: Tensor) -> Tensor:
        return torch.cat([state[:, :1], reconstruct(sae, state)[:, 1:]], dim=1)

    plain_tuning(
        load_base(target), student, recipe.hookpoint, damage, [batch.ids for batch in batches], recipe.training
    )
    return state_of(student)


CHUNKS, COSINE = ["training.chunk_tokens=48", "training.batch_rows=8"], ["training.schedule=cosine"]
REVERSE, MEAN = ["training.kl=student-teacher"], ["training.reduction=mean", "training.learning_rate=1e-3"]
FIDELITY = [
    ["hookpoint=layers.0"],
    ["hookpoint=layers.1"],
    ["hookpoint=layers.2"],
    ["hookpoint=layers.0.mlp"],
    ["hookpoint=layers.1.mlp"],
    ["hookpoint=layers.3.mlp"],
    CHUNKS,
    [*CHUNKS, *REVERSE],
    [*CHUNKS, *COSINE],
    [*REVERSE, *MEAN, *COSINE],
    ["hookpoint=layers.1.mlp", *CHUNKS, *REVERSE, *MEAN, *COSINE],
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", FIDELITY, ids=" ".join)
def test_sae_tuning_on_the_split_network_is_the_plain_algorithm_bit_for_bit(settings: list[str]) -> None:
    made = context_of(settings)
    result = method("sae-tuning")(made)
    assert result.sae is not None
    plain = plain_algorithm(made, result.sae.sae, made.texts.of_data(made.inputs.elicit), result.layers)
    fresh = state_of(new_lora(load_base(tiny("tiny-r1")), made.recipe.lora, result.layers, made.recipe.seed))
    assert plain.keys() == result.state.keys()
    moved = max(float((plain[name] - fresh[name]).abs().max()) for name in plain)
    apart = max(float((plain[name] - result.state[name]).abs().max()) for name in plain)
    assert moved > 5e-4
    # Products of a chunk of rows and of all rows round alike in MKL on x86, elsewhere they need not.
    assert apart == 0 if torch.backends.mkl.is_available() else apart < 1e-6


@pytest.mark.slow
def test_a_layer_output_hookpoint_tunes_the_layers_behind_and_an_mlp_one_all(tmp_path: Path) -> None:
    behind, everywhere = (method("sae-tuning")(context_of([f"hookpoint={h}"])) for h in ("layers.1", "layers.1.mlp"))
    layers_of = [
        {int(name.split(".layers.")[1].split(".")[0]) for name, t in r.state.items() if ".lora_B." in name and t.any()}
        for r in (behind, everywhere)
    ]
    assert layers_of == [{2, 3}, {0, 1, 2, 3}]
    assert (behind.layers, everywhere.layers) == ([2, 3], None)


@pytest.mark.slow
def test_with_lora_everywhere_the_plain_algorithm_too_moves_only_the_layers_behind() -> None:
    """Why the prefix may be frozen: the splice under no_grad cuts the gradient there."""
    made = context_of(["hookpoint=layers.1"])
    sae = method("sae-tuning")(made).sae
    assert sae is not None
    state = plain_algorithm(made, sae.sae, made.texts.of_data(made.inputs.elicit)[:2], None)
    moved = {
        int(name.split(".layers.")[1].split(".")[0]) for name, t in state.items() if ".lora_B." in name and t.any()
    }
    assert moved == {2, 3}


def test_new_lora_default_covers_seven_modules_a_layer() -> None:
    assert len(state_of(new_lora(random_model("llama"), LORA, None, 0))) == 3 * 7 * 2
