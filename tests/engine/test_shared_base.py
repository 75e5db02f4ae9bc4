"""Source, target and student on one copy of the base's weights: the same bits as with a copy each, in less memory."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from resa_hub.adapter.layout import WEIGHTS
from resa_hub.config.recipe import LoraSettings
from resa_hub.core.progress import Progress
from resa_hub.engine.methods.inputs import MethodInputs
from resa_hub.engine.methods.models import ExtractionModels
from resa_hub.engine.model import shared_base
from resa_hub.engine.model.loading import Source, load, load_base
from resa_hub.engine.model.lora import merge, new_lora, save_lora
from resa_hub.engine.model.shared_base import MergedLinear, merged_while_generating, twin, with_lora
from resa_hub.extraction.extract import extract
from tests.conftest import QUICK
from tests.helpers.commands import HANG
from tests.helpers.models import byte_tokenizer, random_ids, random_model, random_state, tiny

SETTINGS = LoraSettings(rank=4, alpha=8, dropout=0.0, modules=("all-linear",))


def places(model: torch.nn.Module) -> set[int]:
    return {p.data_ptr() for name, p in model.named_parameters() if ".lora_" not in name}


@torch.no_grad()
def outputs(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=random_ids(3, 17), use_cache=False).logits


def written(folder: Path, family: str, dtype: torch.dtype) -> Path:
    model = random_model(family).to(dtype)  # pyright: ignore[reportArgumentType]
    save_lora(random_state(model, SETTINGS, None), SETTINGS, folder, "x", None, None)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["qwen2", "gemma2", "phi3", "gpt_neox"])
def test_a_lora_merged_at_each_product_gives_the_bits_of_one_merged_for_good(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    folder = written(tmp_path, family, dtype)
    base, apart = (random_model(family).to(dtype) for _ in range(2))  # pyright: ignore[reportArgumentType]
    before = outputs(base)
    source = with_lora(base, folder)
    assert source is not None and any(isinstance(module, MergedLinear) for module in source.modules())
    wanted = outputs(merge(apart, folder))
    assert torch.equal(outputs(source), wanted) and not torch.equal(wanted, before)
    with merged_while_generating(source):
        assert all(m.kept is not None for m in source.modules() if isinstance(m, MergedLinear))
        assert torch.equal(outputs(source), wanted)
    assert all(m.kept is None for m in source.modules() if isinstance(m, MergedLinear))
    assert torch.equal(outputs(base), before) and places(source) == places(base)


def test_merged_weights_are_not_kept_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = with_lora(random_model("qwen2"), written(tmp_path, "qwen2", torch.float32))
    monkeypatch.setattr(shared_base, "free_memory", lambda: 1_000)
    assert source is not None
    with merged_while_generating(source):
        assert all(m.kept is None for m in source.modules() if isinstance(m, MergedLinear))


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}])
def test_an_adapter_that_needs_weights_of_its_own_shares_none(tmp_path: Path, changes: dict[str, object]) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, **changes)  # pyright: ignore
    get_peft_model(random_model("qwen2"), config).save_pretrained(str(tmp_path))
    base = random_model("qwen2")
    before = outputs(base)
    assert with_lora(base, tmp_path) is None and torch.equal(outputs(base), before)


def test_what_stands_on_one_twin_is_not_on_the_other() -> None:
    base = random_model("qwen2")
    before = outputs(base)
    student = new_lora(twin(base), SETTINGS, None, 0).train()
    for name, parameter in student.named_parameters():
        if ".lora_B." in name:
            parameter.data.fill_(0.1)
    assert not torch.equal(outputs(student), before) and torch.equal(outputs(base), before)
    assert places(student) == places(base) and not base.training


def models(source: Source, **siblings: Source) -> ExtractionModels:
    target = Source(tiny("tiny-r1"))
    return ExtractionModels(MethodInputs(source, target, None, None, siblings=siblings), "float32")  # pyright: ignore


def test_all_models_on_the_targets_base_share_its_weights() -> None:
    found = models(Source(tiny("tiny-r1"), tiny("tina-tiny")), other=Source(tiny("tiny-r1b")))
    own = places(found.target)
    assert places(found.source) == own == places(found.new_twin()) and found.new_twin() is not found.target
    assert not places(found.named("other")) & own and places(found.new_twin("other")) == places(found.named("other"))
    wanted = load(Source(tiny("tiny-r1"), tiny("tina-tiny")))
    assert torch.equal(outputs(found.source), outputs(wanted))


def test_a_source_that_is_a_whole_model_has_weights_of_its_own() -> None:
    found = models(Source(tiny("tiny-r1b")))
    assert not places(found.source) & places(found.target)
    assert torch.equal(outputs(found.source), outputs(load_base(tiny("tiny-r1b"))))


@pytest.fixture
def separately(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every model in memory by itself, as before they shared anything."""
    monkeypatch.setattr(ExtractionModels, "_on_target", lambda self, name: None)
    monkeypatch.setattr(ExtractionModels, "new_twin", lambda self, name="target": load(self.files[name], self.dtype))
    return monkeypatch


UNUSED: dict[str, tuple[str, ...]] = {
    "sae-tuning": ("rollouts", "features"),
    "logit-distill": ("sae", "features"),
    "sft": ("sae", "features", "rollouts"),
}
"""Settings that a method does not use."""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["sae-tuning", "feature-diff", "logit-distill", "sft"])
def test_an_adapter_has_the_bytes_that_separate_copies_make(
    tmp_path: Path, separately: pytest.MonkeyPatch, method: str, dtype: str
) -> None:
    settings = [setting for setting in QUICK if not setting.startswith(UNUSED.get(method, ("-",)))]
    settings.append(f"dtype={dtype}")
    if method == "feature-diff":
        settings += ["rollouts.siblings=[tiny-r1b]", "rollouts.student=writer", "rollouts.source_share=0.25"]
    digests = []
    for home in (tmp_path / "apart", tmp_path / "shared"):
        adapter, _ = extract(
            "tina-tiny", method=method, settings=settings, workspace=home, progress=Progress(quiet=True)
        )
        digests.append(hashlib.sha256((adapter.folder / WEIGHTS).read_bytes()).hexdigest())
        separately.undo()
    assert digests[0] == digests[1]


PEAK = """
import sys
from tests.engine import test_shared_base as t
if sys.argv[2] == "apart":
    t.ExtractionModels._on_target = lambda self, name: None
    t.ExtractionModels.new_twin = lambda self, name="target": t.load(self.files[name], self.dtype)
progress = t.Progress(quiet=True)
adapter, _ = t.extract("tuned", method="logit-distill", settings=t.STEPS, workspace=sys.argv[1], progress=progress)
print(adapter.manifest.run.costs["total"].memory)
"""
STEPS = [
    "dtype=float32",
    "rollouts.count=4",
    "rollouts.new_tokens=4",
    "training.epochs=1",
    "training.chunk_tokens=null",
]
STEPS += ["training.learning_rate=1e-3", "hookpoint=layers.2"]


@pytest.mark.slow
def test_the_peak_of_memory_falls_by_two_copies(tmp_path: Path) -> None:
    """A model of 260 MB; each way in a process of its own."""
    sizes = {"hidden_size": 768, "intermediate_size": 3_072, "num_hidden_layers": 7}
    config = Qwen2Config(**sizes, vocab_size=300, num_attention_heads=8, num_key_value_heads=8)  # pyright: ignore
    base = Qwen2ForCausalLM(config)
    weights = sum(p.nbytes for p in base.parameters())
    base.save_pretrained(str(tmp_path / "base"))
    byte_tokenizer().save_pretrained(tmp_path / "base")
    lora = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    lora.save_pretrained(str(tmp_path / "tuned"), save_embedding_layers=False)
    rows = [json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in range(4)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows) + "\n")
    peaks = {}
    for way in ("apart", "shared"):
        home = tmp_path / way
        home.mkdir()
        (home / "registry.yaml").write_text(
            f"models:\n  base: {{id: {tmp_path}/base, template: r1}}\n"
            f"  tuned: {{base: base, adapter: {{id: {tmp_path}/tuned}}, recipes: {{logit-distill: mine}}}}\n"
            f"datasets:\n  sums: {{id: {tmp_path}/data.jsonl, question: question, answer: answer}}\n"
            "recipes:\n  mine: {like: reference-code, method: logit-distill, source: tuned, target: base, "
            "trigger: {name: sums}, elicit: {name: sums}}\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(home), way], capture_output=True, text=True, timeout=HANG, check=True
        )
        peaks[way] = int(done.stdout)
    print({way: f"{peak / 1e6:.0f} MB" for way, peak in peaks.items()}, f"weights {weights / 1e6:.0f} MB")
    assert peaks["apart"] - peaks["shared"] > 1.8 * weights
