"""LoRA folders: the same bytes every time, loadable by plain PEFT, and refused when they would change nothing."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from resa_hub.adapter.fit import assess_fit, read_lora, require_fit
from resa_hub.adapter.layout import CONFIG, WEIGHTS
from resa_hub.core.errors import HubError, Integrity, NoEffect, RunFailed
from resa_hub.engine.model.controls import negated, random_like
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import load_lora, merge, new_lora, product_norm, save_lora, state_of
from resa_hub.engine.model.probe import effect
from tests.helpers.commands import HANG
from tests.helpers.models import LORA, random_ids, tiny, write_lora

WRITE = """
import sys
from pathlib import Path
from tests.helpers.models import write_lora
write_lora(Path(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "lora")


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def edit_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.slow
def test_the_folder_has_the_same_bytes_under_other_hash_seeds(tmp_path: Path) -> None:
    digests = []
    for seed in ("0", "12345"):
        out = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", WRITE, str(out)], check=True, env=os.environ | {"PYTHONHASHSEED": seed}, timeout=HANG
        )
        digests.append([hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (CONFIG, WEIGHTS)])
    assert digests[0] == digests[1]


def test_the_config_does_not_depend_on_the_order_in_which_modules_are_named(tmp_path: Path) -> None:
    texts = []
    for modules in (("q_proj", "v_proj"), ("v_proj", "q_proj")):
        settings = type(LORA)(rank=4, alpha=8, dropout=0.0, modules=modules)
        texts.append((write_lora(tmp_path / modules[0], settings, [2, 1]) / CONFIG).read_bytes())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["layers_to_transform"] == [1, 2]


def test_a_fresh_lora_is_a_function_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    model, before = load_base(tiny("tiny-r1")), torch.get_rng_state()
    first, again, other = (state_of(new_lora(load_base(tiny("tiny-r1")), LORA, None, seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    name = next(name for name in first if ".lora_A." in name)
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])
    ids = random_ids()
    assert torch.equal(logits(new_lora(load_base(tiny("tiny-r1")), LORA, None, 1), ids), logits(model, ids))


@pytest.mark.parametrize("layers", [None, [3], [0, 2]])
def test_plain_peft_load_lora_and_merge_agree(tmp_path: Path, layers: list[int] | None) -> None:
    folder, ids = write_lora(tmp_path / "lora", layers=layers), random_ids()
    plain = logits(PeftModel.from_pretrained(load_base(tiny("tiny-r1")), folder).eval(), ids)
    ours = logits(load_lora(load_base(tiny("tiny-r1")), folder), ids)
    merged = logits(merge(load_base(tiny("tiny-r1")), folder), ids)
    base = logits(load_base(tiny("tiny-r1")), ids)
    assert torch.equal(plain, ours)
    assert (merged - ours).abs().max() < 1e-5 * ours.abs().max()
    assert (ours - base).abs().max() > 0.01


def renamed(folder: Path) -> None:
    edit_tensors(folder, lambda state: {name.replace("self_attn", "attention"): t for name, t in state.items()})


def one_renamed(folder: Path) -> None:
    edit_tensors(
        folder,
        lambda state: {name.replace("layers.3.mlp.up_proj", "layers.3.mlp.upp_proj"): t for name, t in state.items()},
    )


def a_pair_missing(folder: Path) -> None:
    edit_tensors(folder, lambda state: {name: t for name, t in state.items() if "layers.1.mlp.up_proj" not in name})


def a_b_missing(folder: Path) -> None:
    edit_tensors(
        folder, lambda state: {name: t for name, t in state.items() if "layers.1.mlp.up_proj.lora_B" not in name}
    )


def layer_beyond(folder: Path) -> None:
    edit_tensors(folder, lambda state: {name.replace("layers.3.", "layers.7."): t for name, t in state.items()})


def other_layers_in_config(folder: Path) -> None:
    edit_config(folder, layers_to_transform=[0])


def unknown_modules(folder: Path) -> None:
    edit_config(folder, target_modules=["c_attn"])


@pytest.mark.parametrize(
    "damage", [renamed, one_renamed, a_pair_missing, a_b_missing, layer_beyond, other_layers_in_config, unknown_modules]
)
def test_loading_refuses_unless_every_tensor_reaches_the_model(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(NoEffect) as caught:
        load_lora(load_base(tiny("tiny-r1")), folder)
    assert caught.value.exit_code == 9 and caught.value.hint


def zero_b(folder: Path) -> None:
    edit_tensors(
        folder, lambda state: {name: torch.zeros_like(t) if ".lora_B." in name else t for name, t in state.items()}
    )


def zero_a(folder: Path) -> None:
    edit_tensors(
        folder, lambda state: {name: torch.zeros_like(t) if ".lora_A." in name else t for name, t in state.items()}
    )


def halves_zero(folder: Path) -> None:
    """In each pair one of the two is zero, though neither every A nor every B is."""

    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(t) if (".lora_A." in name) == ("mlp" in name) else t for name, t in state.items()
        }

    edit_tensors(folder, change)


def alpha_zero(folder: Path) -> None:
    edit_config(folder, lora_alpha=0)


def other_key_scheme(folder: Path) -> None:
    edit_tensors(folder, lambda state: {name.removeprefix("base_model."): t for name, t in state.items()})


def no_tensors(folder: Path) -> None:
    edit_tensors(folder, lambda state: {})


def underflow(folder: Path) -> None:
    """B so small that the product is 0 in float32."""
    edit_tensors(
        folder, lambda state: {name: t * 1e-44 if ".lora_B." in name else t * 1e-10 for name, t in state.items()}
    )


@pytest.mark.parametrize("damage", [zero_b, zero_a, halves_zero, alpha_zero, other_key_scheme, no_tensors])
def test_reading_refuses_what_could_change_nothing(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(NoEffect) as caught:
        read_lora(folder)
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("damage", [renamed, layer_beyond])
def test_a_pair_that_the_target_lacks_is_refused_before_loading(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    fit = assess_fit(None, read_lora(folder), tiny("tiny-r1"))
    with pytest.raises(HubError) as caught:
        require_fit(fit, "demo", "tiny-r1", force=True)
    assert caught.value.exit_code in (4, 9) and "has no module" in caught.value.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["A", "B"])
def test_numbers_that_are_not_finite_are_refused(folder: Path, value: float, part: str) -> None:
    def spoil(state: dict[str, Tensor]) -> dict[str, Tensor]:
        name = next(name for name in state if f".lora_{part}." in name)
        state[name][0, 0] = value
        return state

    edit_tensors(folder, spoil)
    with pytest.raises(Integrity, match="NaN or infinite"):
        read_lora(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"r": 0},
        {"r": "4"},
        {"r": True},
        {"lora_alpha": "8"},
        {"peft_type": "IA3"},
        {"auto_mapping": {"base_model_class": "x"}},
        {"r": 8},
    ],
    ids=lambda v: next(iter(v)) + "=" + str(next(iter(v.values())))[:5],
)
def test_a_config_that_contradicts_the_tensors_is_refused(folder: Path, values: dict[str, object]) -> None:
    edit_config(folder, **values)
    with pytest.raises(Integrity):
        read_lora(folder)


def test_infinite_alpha_is_refused(folder: Path) -> None:
    text = (folder / CONFIG).read_text().replace('"lora_alpha": 8', '"lora_alpha": 1e999')
    (folder / CONFIG).write_text(text)
    with pytest.raises(Integrity):
        read_lora(folder)


def test_the_effect_of_underflowing_matrices_is_identical_to_base(folder: Path) -> None:
    underflow(folder)
    assert effect(tiny("tiny-r1"), folder, ["1+1="]).identical


def test_rank_and_scale_are_read(folder: Path) -> None:
    found = read_lora(folder)
    assert (found.rank, found.scaling, len(found.modules)) == (4, 2.0, 28)
    edit_config(folder, use_rslora=True)
    assert read_lora(folder).scaling == 4.0


def test_random_control_has_the_norm_of_every_module_and_depends_on_the_seed(folder: Path, tmp_path: Path) -> None:
    controls = [tmp_path / "controls" / str(i) for i in range(3)]
    for control, seed in zip(controls, (1, 1, 2), strict=True):
        random_like(folder, seed, control)
    own, first, again, other = (load_file(f / WEIGHTS) for f in (folder, *controls))
    assert own.keys() == first.keys()
    for name in own:
        assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])
        if ".lora_A." in name:
            b = name.replace(".lora_A.", ".lora_B.")
            wanted, got = torch.linalg.norm(own[b] @ own[name]), torch.linalg.norm(first[b] @ first[name])
            assert torch.allclose(got, wanted, rtol=1e-4)
            assert torch.allclose(product_norm(own[b], own[name]), wanted, rtol=1e-4)
    assert load_lora(load_base(tiny("tiny-r1")), controls[0])
    assert not list((tmp_path / "controls").glob("*.new"))


def test_a_control_that_exists_is_kept(folder: Path, tmp_path: Path) -> None:
    random_like(folder, 1, tmp_path / "control")
    before = (tmp_path / "control" / WEIGHTS).stat().st_mtime_ns
    random_like(folder, 1, tmp_path / "control")
    assert (tmp_path / "control" / WEIGHTS).stat().st_mtime_ns == before


def test_a_module_whose_pair_is_zero_stays_zero_in_the_control(folder: Path, tmp_path: Path) -> None:
    edit_tensors(
        folder,
        lambda state: {
            name: torch.zeros_like(t) if "layers.0.mlp.up_proj.lora_B" in name else t for name, t in state.items()
        },
    )
    random_like(folder, 1, tmp_path / "control")
    control = load_file(tmp_path / "control" / WEIGHTS)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    assert not control[name].any() and all(t.isfinite().all() for t in control.values())


def test_a_negated_adapter_moves_every_weight_the_other_way(folder: Path, tmp_path: Path) -> None:
    negated(folder, tmp_path / "controls/negated")
    base = load_base(tiny("tiny-r1")).state_dict()
    up, down = (merge(load_base(tiny("tiny-r1")), f).state_dict() for f in (folder, tmp_path / "controls/negated"))
    moved = [name for name in base if not torch.equal(up[name], base[name])]
    assert len(moved) == 28
    for name in moved:
        assert torch.allclose(up[name] - base[name], base[name] - down[name], atol=1e-6)


def test_a_lora_on_another_class_of_layers_trains_only_those(tmp_path: Path) -> None:
    state = load_file(write_lora(tmp_path / "lora", layers=[3]) / WEIGHTS)
    assert state and all(".layers.3." in name for name in state)
    shutil.rmtree(tmp_path / "lora")


def test_unknown_modules_in_a_recipe_get_one_clear_error() -> None:
    settings = type(LORA)(rank=4, alpha=8, dropout=0.0, modules=("dense",))
    with pytest.raises((RunFailed, HubError)) as caught:
        new_lora(load_base(tiny("tiny-r1")), settings, None, 0)
    assert "dense" in caught.value.message


def test_saved_state_is_float32_and_sorted(tmp_path: Path) -> None:
    model = load_base(tiny("tiny-r1"), "bfloat16")
    state = state_of(new_lora(model, LORA, None, 0))
    assert {t.dtype for t in state.values()} == {torch.float32} and list(state) == sorted(state)
    save_lora(state, LORA, tmp_path, "resa-hub/tiny-r1", None, None)
    assert load_file(tmp_path / WEIGHTS).keys() == state.keys()
