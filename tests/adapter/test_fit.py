"""Fit before loading: exact, kin, distant, foreign; other shapes and absent modules are refused whatever is forced."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from resa_hub.adapter import fit as fit_module
from resa_hub.adapter.fit import Fit, LoraFile, assess_fit, read_lora, require_fit
from resa_hub.adapter.layout import WEIGHTS
from resa_hub.adapter.manifest import Base, Sketch
from resa_hub.adapter.weight_fingerprint import correlation, describe_base, shapes, sketch
from resa_hub.config.refs import Repo
from resa_hub.core.errors import DoesNotFit, Integrity, NoEffect
from resa_hub.core.tensors import safetensors_header
from resa_hub.data.snapshots import Files, locate
from resa_hub.engine.model.loading import load_base
from tests.helpers.commands import HANG
from tests.helpers.models import random_ids, random_model, tiny, write_lora


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> LoraFile:
    return read_lora(write_lora(tmp_path_factory.mktemp("compat") / "lora"))


@pytest.fixture(scope="module")
def base() -> Base:
    return describe_base(tiny("tiny-r1"))


def saved(model: PreTrainedModel, folder: Path, **options: str) -> Files:
    model.save_pretrained(folder, **options)  # pyright: ignore[reportArgumentType]
    return locate(Repo(str(folder)))


def permuted() -> PreTrainedModel:
    """tiny-r1 with heads exchanged and MLP neurons shuffled: the same function in another basis."""
    model = load_base(tiny("tiny-r1"))
    width = model.config.hidden_size // model.config.num_attention_heads
    generator = torch.Generator().manual_seed(0)
    for layer in model.model.layers:  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
        heads = torch.arange(model.config.hidden_size).view(-1, width).flip(0).flatten()
        neurons = torch.randperm(model.config.intermediate_size, generator=generator)
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            part.weight.data, part.bias.data = part.weight.data[heads], part.bias.data[heads]
        layer.self_attn.o_proj.weight.data = layer.self_attn.o_proj.weight.data[:, heads]
        layer.mlp.gate_proj.weight.data, layer.mlp.up_proj.weight.data = (
            layer.mlp.gate_proj.weight.data[neurons],
            layer.mlp.up_proj.weight.data[neurons],
        )
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, neurons]
    return model


def test_the_own_base_is_exact(base: Base, lora: LoraFile) -> None:
    assert assess_fit(base, lora, tiny("tiny-r1"))[:2] == ("exact", 1.0)


@pytest.mark.parametrize(
    ("name", "level", "low", "high"),
    [("tiny-r1b", "kin", 0.98, 0.9999), ("tiny-math", "distant", 0.5, 0.98), ("tiny-base", "distant", 0.5, 0.98)],
)
def test_relatives_are_told_by_the_correlation_of_weights(
    base: Base, lora: LoraFile, name: str, level: str, low: float, high: float
) -> None:
    fit = assess_fit(base, lora, tiny(name))
    assert fit.level == level and fit.correlation is not None and low <= fit.correlation < high
    require_fit(fit, "demo", name)


def test_kinship_falls_with_the_distance_in_the_family(base: Base, lora: LoraFile) -> None:
    near, far, farther = (
        assess_fit(base, lora, tiny(name)).correlation for name in ("tiny-r1b", "tiny-math", "tiny-base")
    )
    assert near is not None and far is not None and farther is not None and near > far > farther


def test_the_same_function_in_another_basis_is_foreign(base: Base, lora: LoraFile, tmp_path: Path) -> None:
    model, ids = permuted(), random_ids(8, 30)
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, load_base(tiny("tiny-r1"))(ids).logits, atol=1e-4)
    fit = assess_fit(base, lora, saved(model, tmp_path))
    assert fit.level == "foreign" and not fit.obstacle and abs(fit.correlation or 0) < 0.2
    with pytest.raises(DoesNotFit, match="unrelated weights") as caught:
        require_fit(fit, "demo", "permuted")
    assert caught.value.exit_code == 4 and "--force" in caught.value.hint
    require_fit(fit, "demo", "permuted", force=True)


def test_a_random_model_of_the_same_shapes_is_foreign(base: Base, lora: LoraFile, tmp_path: Path) -> None:
    same = load_base(tiny("tiny-r1")).config
    fit = assess_fit(base, lora, saved(type(load_base(tiny("tiny-r1")))(same), tmp_path))
    assert fit.level == "foreign" and abs(fit.correlation or 0) < 0.2


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": 48}, {"num_hidden_layers": 5}, {"intermediate_size": 128}, {"num_key_value_heads": 1}],
    ids=str,
)
def test_other_shapes_do_not_fit_and_cannot_be_forced(
    base: Base, lora: LoraFile, tmp_path: Path, changes: dict[str, int]
) -> None:
    like_r1 = {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
    }
    target = saved(random_model("qwen2", **(like_r1 | changes)), tmp_path)
    fit = assess_fit(base, lora, target)
    assert fit.obstacle == "shapes" and next(iter(changes)) in fit.reason
    with pytest.raises(DoesNotFit) as caught:
        require_fit(fit, "demo", "other", force=True)
    assert caught.value.exit_code == 4 and "--force" not in caught.value.hint
    fit = assess_fit(
        None, lora, target
    )  # without a manifest the tensors themselves tell, except for what no tensor shows
    assert fit.obstacle == "shapes" or changes == {"num_hidden_layers": 5}


def test_another_vocabulary_alone_is_no_obstacle(base: Base, lora: LoraFile, tmp_path: Path) -> None:
    model = load_base(tiny("tiny-r1"))
    model.resize_token_embeddings(40)
    assert assess_fit(base, lora, saved(model, tmp_path)).level == "kin"


def test_an_adapter_without_a_manifest_is_distant(lora: LoraFile) -> None:
    fit = assess_fit(None, lora, tiny("tiny-r1"))
    assert fit.level == "distant" and fit.correlation is None and fit.usable


def moved_up(folder: Path, by: int) -> LoraFile:
    """The adapter of `folder` on layers `by` higher."""
    state = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        before, _, rest = name.partition(".layers.")
        number, _, tail = rest.partition(".")
        state[f"{before}.layers.{int(number) + by}.{tail}"] = tensor
    save_file(state, folder / WEIGHTS)
    return read_lora(folder)


@pytest.mark.parametrize("forced", [False, True])
def test_layers_that_the_target_lacks_have_no_effect(base: Base, tmp_path: Path, forced: bool) -> None:
    absent = moved_up(write_lora(tmp_path / "lora"), by=4)
    fit = assess_fit(base, absent, tiny("tiny-r1"))
    assert fit.obstacle == "disjoint"
    with pytest.raises(NoEffect) as caught:
        require_fit(fit, "demo", "tiny-r1", force=forced)
    assert caught.value.exit_code == 9


def test_some_layers_missing_is_a_matter_of_shapes(base: Base, tmp_path: Path) -> None:
    fit = assess_fit(base, moved_up(write_lora(tmp_path / "lora"), by=1), tiny("tiny-r1"))
    with pytest.raises(DoesNotFit, match=r"7 of 28 are missing"):
        require_fit(fit, "demo", "tiny-r1", force=True)


def test_module_names_of_another_architecture_have_no_effect(base: Base, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "lora")
    save_file(
        {
            name.replace(".self_attn.", ".attention.").replace(".mlp.", ".ffn."): t
            for name, t in load_file(folder / WEIGHTS).items()
        },
        folder / WEIGHTS,
    )
    with pytest.raises(NoEffect, match="would change nothing"):
        require_fit(assess_fit(base, read_lora(folder), tiny("tiny-r1")), "demo", "tiny-r1", force=True)


def test_bfloat16_weights_are_sketched(base: Base, lora: LoraFile, tmp_path: Path) -> None:
    target = saved(load_base(tiny("tiny-r1"), "bfloat16"), tmp_path)
    assert {info.dtype for info in safetensors_header(target.weights[0]).values()} == {"BF16"}
    fit = assess_fit(base, lora, target)
    assert fit.level == "kin" and fit.correlation is not None and fit.correlation > 0.9999
    assert correlation(sketch(target.weights), tiny("tiny-r1").weights) > 0.9999


def test_sharded_weights_are_sketched_like_whole_ones(base: Base, lora: LoraFile, tmp_path: Path) -> None:
    target = saved(load_base(tiny("tiny-r1")), tmp_path, max_shard_size="200KB")
    assert len(target.weights) > 2
    assert sketch(target.weights) == base.sketch
    assert assess_fit(base, lora, target)[:2] == ("kin", pytest.approx(1.0, abs=1e-4))


def test_the_sketch_is_small_and_its_damage_is_told(base: Base) -> None:
    assert len(base.sketch.values) < 16_384 and base.sketch.tensors == 28
    with pytest.raises(Integrity):
        correlation(Sketch(28, base.sketch.values[:-3] + "!!!"), tiny("tiny-r1").weights)
    assert correlation(Sketch(28, ""), tiny("tiny-r1").weights) == 0.0


def test_shapes_name_what_decides(base: Base) -> None:
    assert base.shapes == shapes(tiny("tiny-r1b").config)
    assert base.shapes["hidden_size"] == 64 and base.shapes["num_hidden_layers"] == 4


@pytest.mark.parametrize("r", [float("nan"), -1.0, 0.49])
def test_no_number_that_is_no_kinship_passes(
    base: Base, lora: LoraFile, r: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "correlation", lambda *_: r)
    assert assess_fit(base, lora, tiny("tiny-r1b")).level == "foreign"


def test_a_fit_forced_is_still_called_foreign() -> None:
    fit = Fit("foreign", 0.0, "unrelated")
    require_fit(fit, "a", "b", force=True)
    assert not fit.usable


ASSESS = """
import json, sys
from pathlib import Path
from resa_hub.adapter.fit import assess_fit, read_lora
from resa_hub.adapter.weight_fingerprint import describe_base
from resa_hub.config.refs import Repo
from resa_hub.data.snapshots import locate
target = locate(Repo("resa-hub/tiny-r1b"))
fit = assess_fit(describe_base(locate(Repo("resa-hub/tiny-r1"))), read_lora(Path(sys.argv[1])), target)
if len(sys.argv) > 2: import torch
heavy = {"torch", "transformers", "peft", "sae_lens", "safetensors"}
print(json.dumps([fit.level, sorted(heavy & sys.modules.keys())]))
"""


@pytest.mark.parametrize("heavy", [False, True])
def test_nothing_heavy_is_imported_to_assess(tmp_path: Path, heavy: bool) -> None:
    """With `heavy` the program imports torch on purpose: the guard can fail."""
    folder = write_lora(tmp_path / "lora")
    arguments = [sys.executable, "-c", ASSESS, str(folder), *(["heavy"] if heavy else [])]
    level, imported = json.loads(
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=HANG).stdout
    )
    assert level == "kin" and imported == (["torch"] if heavy else [])
