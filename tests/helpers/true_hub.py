"""What the literal commands of the README name, small and under the real ids, as repositories of the test Hub.

Architecture, tokenizer class, file names, folders and schemas are the true ones; layers, widths, vocabulary and rows
are fewer. `python -m bench real_size` has the true shapes.
"""

import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from tests.helpers import benchmarks
from tests.helpers.hub_server import dataset_routes
from tests.helpers.hub_server.server import HubServer

BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
SIBLINGS = ("Qwen/Qwen2.5-Math-1.5B", "Qwen/Qwen2.5-1.5B")
TINA = "Tina-Yi/R1-Distill-Qwen-1.5B-STILL"
SAE = "EleutherAI/sae-DeepSeek-R1-Distill-Qwen-1.5B-65k"
STILL = "RUC-AIBOX/STILL-3-Preview-RL-Data"
MATH500 = "HuggingFaceH4/MATH-500"

MODELS_BY_NAME = (
    "Tina-Yi/R1-Distill-Qwen-1.5B-DeepScaleR",
    "Tina-Yi/R1-Distill-Qwen-1.5B-OpenR1",
    "RUC-AIBOX/STILL-3-1.5B-preview",
    "agentica-org/DeepScaleR-1.5B-Preview",
)
DATA_BY_NAME = (
    "agentica-org/DeepScaleR-Preview-Dataset",
    "knoveleng/open-s1",
    "knoveleng/open-rs",
    "Intelligent-Internet/II-Thought-RL-v0-Math-50K",
    "open-r1/OpenR1-Math-220k",
)
"""What the registry names besides: there, and empty."""

PRIVATE_BASE = "/home/someone/ckpts/models/base/DeepSeek-R1-Distill-Qwen-1.5B"
"""What Tina's adapter_config.json names as its base: a path of its makers."""
RESOLVED = re.compile(r"/(?:datasets/)?([\w.-]+/[\w.-]+)/resolve/[^/]+/([^?]+)(?:\?.*)?")
LATENTS = 65_536
SHARE = 0.1
"""How much of a state a latent of an SAE gives back: the 32 nearest of so many random directions make a whole of it."""


class Sizes(NamedTuple):
    config: dict[str, Any]
    """Of the models' config.json."""
    words: int
    """Ids before the special tokens; as in the true model the embedding has more rows than the tokenizer has ids."""
    checkpoints: tuple[int, ...]
    """Steps of RL that are published."""
    sae_layers: tuple[int, ...]
    siblings: tuple[str, ...] = SIBLINGS


SMALL = Sizes(
    config={
        "hidden_size": 48,
        "num_hidden_layers": 16,
        "intermediate_size": 96,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 8_192,
    },
    words=8_000,
    checkpoints=(500, 1000, 1500, 2000),
    sae_layers=(10, 12, 13),
)
"""Fewer layers, ids and widths: so that commands take seconds."""
SPECIAL = {
    "<｜end▁of▁sentence｜>": True,
    "<｜User｜>": False,
    "<｜Assistant｜>": False,
    "<｜begin▁of▁sentence｜>": True,
    "<|EOT|>": False,
    "<think>": False,
    "</think>": False,
}
"""From id `words` on -> does decoding leave it out."""
EOS, _, _, BOS, *_ = SPECIAL
TEMPLATE = (
    "{{bos_token}}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{m['content']}}{% else %}"
    "<｜Assistant｜>{{m['content']}}{{eos_token}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
TRAINER_FILES = (
    "optimizer.pt",
    "scheduler.pt",
    "rng_state_0.pth",
    "rng_state_1.pth",
    "training_args.bin",
    "trainer_state.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
)
"""What a trainer leaves in a checkpoint's folder beside config and weights."""


REGISTRY = f"""
models:
  r1-distill-1.5b:
    {{id: {BASE}, template: r1, default_adapter: resa-still-v1, config: &small {json.dumps(SMALL.config)}}}
  qwen-math-1.5b: {{id: {SIBLINGS[0]}, template: r1, config: *small}}
  qwen-1.5b: {{id: {SIBLINGS[1]}, template: r1, config: *small}}
"""
"""A layer over the built-in registry, whose `config` are the sizes of the true models."""


def publish(hub: HubServer, folder: Path, sizes: Sizes = SMALL) -> None:
    """Every repository; folder: where models are made."""
    base = _base(folder / "base", sizes)
    _repository(hub, BASE, _files(base))
    for seed, name in enumerate(sizes.siblings, 1):
        _repository(hub, name, _files(_base(folder / f"sibling-{seed}", sizes, seed)))
    _repository(hub, TINA, _tina(base, folder / "tina", sizes))
    _repository(hub, SAE, _saes(sizes))
    _data_set(hub, STILL, [_still(number) for number in range(1, 65)])
    for name in MODELS_BY_NAME:
        _repository(hub, name, {"README.md": b""})
    for name in DATA_BY_NAME:
        dataset_routes.publish(hub.storage, name, {"README.md": b""})
    for name in benchmarks.ROWS:
        dataset_routes.publish(hub.storage, name, benchmarks.files_of(name), gated="gpqa" in name)


def fetched(hub: HubServer, since: int = 0) -> dict[str, set[str]]:
    """Repository -> its files whose content was sent, from the exchange `since` on."""
    sent: dict[str, set[str]] = {}
    for exchange in hub.log[since:]:
        match = RESOLVED.fullmatch(exchange.path)
        if match and exchange.method == "GET" and exchange.status in (200, 206):
            sent.setdefault(match[1], set()).add(match[2])
    return sent


def _repository(hub: HubServer, name: str, files: dict[str, bytes]) -> None:
    hub.storage.create(name, name.partition("/")[0], private=False)
    hub.storage.advance(name, dict(files))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _base(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """A Qwen2 of R1-Distill's depth, heads and vocabulary, in bfloat16, with its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        **sizes.config,
        max_position_embeddings=131_072,
        bos_token_id=sizes.words,
        eos_token_id=sizes.words,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    model = Qwen2ForCausalLM(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters() if seed else ():
            parameter += 0.05 * parameter.std().nan_to_num() * torch.randn_like(parameter)
    model.to(torch.bfloat16).save_pretrained(folder)  # pyright: ignore[reportArgumentType]
    generation = {
        "bos_token_id": sizes.words + 3,
        "eos_token_id": sizes.words,
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
    }
    (folder / "generation_config.json").write_text(json.dumps({"_from_model_config": True} | generation))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "figures").mkdir()
    (folder / "figures" / "benchmark.json").write_text("{}")
    return _tokenizer(folder, sizes.words)


def _tokenizer(folder: Path, words: int) -> Path:
    """A byte-level BPE with more ids than are ever merged from anything."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learnt.train_from_iterator([_still(number)["question"] for number in range(40)], trainer)
    state = json.loads(learnt.to_str())["model"]
    vocabulary = state["vocab"] | {f"word{number}": number for number in range(len(state["vocab"]), words)}
    merges = [tuple(merge) for merge in state["merges"]]
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    raw.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    for token, special in SPECIAL.items():
        add = raw.add_special_tokens if special else raw.add_tokens
        add([AddedToken(token, special=special, normalized=False)])
    raw.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, raw.token_to_id(BOS))])  # pyright: ignore[reportAttributeAccessIssue]
    raw.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "unk_token": None,
        "model_max_length": 16_384,
        "legacy": True,
        "tokenizer_class": "LlamaTokenizerFast",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _tina(base: Path, folder: Path, sizes: Sizes) -> dict[str, bytes]:
    """A LoRA of RL a checkpoint, with all that the trainer left beside it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    settings = LoraConfig(r=32, lora_alpha=128, lora_dropout=0.05, target_modules=modules, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    model.peft_config["default"].base_model_name_or_path = PRIVATE_BASE
    torch.manual_seed(0)
    for step in sizes.checkpoints:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.normal_(0.0, 0.02)
        checkpoint = folder / f"checkpoint-{step}"
        model.save_pretrained(str(checkpoint), save_embedding_layers=False)
        for name in TRAINER_FILES:
            (checkpoint / name).write_text(f"{name} of a trainer")
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    return _files(folder)


def _saes(sizes: Sizes) -> dict[str, bytes]:
    """A folder of cfg.json and sae.safetensors a layer, as sparsify writes them."""
    import torch
    from safetensors.torch import save

    width = sizes.config["hidden_size"]
    files = {"README.md": b"---\nlicense: mit\n---\n", "config.json": b'{"transcode": false}'}
    config = {
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": LATENTS,
        "k": 32,
        "multi_topk": False,
        "skip_connection": False,
        "d_in": width,
    }
    for layer in sizes.sae_layers:
        drawn = torch.Generator().manual_seed(layer)
        decoder = torch.nn.functional.normalize(torch.randn(LATENTS, width, generator=drawn), dim=1)
        tensors = {
            "encoder.weight": SHARE * decoder,
            "encoder.bias": torch.zeros(LATENTS),
            "W_dec": decoder,
            "b_dec": torch.zeros(width),
        }
        files[f"layers.{layer}.mlp/cfg.json"] = json.dumps(config).encode()
        files[f"layers.{layer}.mlp/sae.safetensors"] = save(tensors)
    return files


def _still(number: int) -> dict[str, Any]:
    question = f"Let $x$ and $y$ be whole numbers with $x+{number}=2y$ and $y={number}+5$. Find the value of $x$."
    return {"question": question, "answer": str(number + 10)}


def _data_set(hub: HubServer, name: str, rows: list[dict[str, Any]]) -> None:
    buffer = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(buffer)
    files = {"data/train-00000-of-00001.parquet": buffer.getvalue(), "README.md": b"---\nlicense: mit\n---\n"}
    dataset_routes.publish(hub.storage, name, files)
