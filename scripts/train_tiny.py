"""Train the embedded family again: `python -m scripts.train_tiny --out weights`.

tiny-base -> tiny-math -> (strong) -> tiny-r1, tiny-r1b; tina-tiny is a LoRA on tiny-r1 by GRPO. The reinforcement
learning here undoes a habit that was planted (merged steps): elicitation by construction, a test bench and no evidence
about large models. One thread: for models this small two are slower.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from resa_hub.config.recipe import LoraSettings
from resa_hub.data.tiny import task, tokenizer
from resa_hub.engine.generation.sampling import generate, uniforms
from resa_hub.engine.model.lora import new_lora, save_lora, state_of

IGNORED = -100


class Stage(NamedTuple):
    name: str
    parent: str | None
    steps: int
    learning_rate: float
    seed: int
    mix: dict[str, float]
    merge: str = "none"
    merge_probability: float = 0.0
    on_prompt: bool = True
    """Loss on the problem too (language modelling), or on the completion only (SFT)."""
    batch: int = 64
    warmup: int = 20
    final_share: float = 0.05
    """Learning rate at the end of the cosine, as a share of the peak."""


STAGES = (
    Stage("facts", None, 900, 3e-3, 1, {"fact": 1.0}, batch=32, warmup=50, final_share=0.7),
    Stage(
        "tiny-base", "facts", 1600, 3e-3, 51, {"fact": 0.4, "direct": 0.15, "chain": 0.35, "answer": 0.1}, "pairs", 0.5
    ),
    Stage(
        "tiny-math",
        "tiny-base",
        700,
        2e-3,
        11,
        {"fact": 0.45, "direct": 0.1, "chain": 0.4, "answer": 0.05},
        "pairs",
        0.25,
    ),
    Stage("strong", "tiny-math", 900, 2e-3, 12, {"chain": 1.0}, on_prompt=False),
    Stage("tiny-r1", "strong", 240, 2e-3, 13, {"chain": 1.0}, "minus", 0.95, on_prompt=False),
    Stage("tiny-r1b", "strong", 240, 2e-3, 991, {"chain": 1.0}, "minus", 0.9, on_prompt=False),
)
TINA = LoraSettings(rank=32, alpha=128, dropout=0.0)
PUBLISHED = ("tiny-base", "tiny-math", "tiny-r1", "tiny-r1b")


def new_model(seed: int) -> Qwen2ForCausalLM:
    """Two heads of 32: vLLM's attention on CPU refuses a head of 16. Every matrix starts with std 0.1."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=tokenizer.SIZE,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.1,
    )
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    return model


def fact_row(rng: random.Random, long: bool) -> tuple[str, list[int]]:
    """Six single facts; the loss is on their results only. Returns the text and the positions of the results."""
    parts, results, length = [], [], 0
    for _ in range(6):
        value = rng.randint(0, 9)
        text = str(value)
        for _ in range(2 if long and rng.random() < 0.3 else 1):
            operator = rng.choices(task.OPERATORS, (0.4, 0.35, 0.25))[0]
            number = task.random_operand(rng, operator)
            value = task.apply(value, operator, number)
            text += operator + str(number)
        parts.append(f"{text}={value}")
        length += len(parts[-1]) + 1
        results.append(length - 2)
    return ";".join(parts), results


def example(rng: random.Random, kind: str, stage: Stage, encode) -> tuple[list[int], list[int]]:
    """(token ids, labels) of one training row, BOS and EOS included."""
    if kind == "fact":
        text, results = fact_row(rng, long=stage.parent is not None)
        ids = [*encode(text), 2]
        return ids, [token if position - 1 in set(results) else IGNORED for position, token in enumerate(ids)]
    problem = task.draw(rng, "train")
    merges = {"none": task.every_step, "pairs": task.merge_pairs(rng, stage.merge_probability)}
    merge = merges.get(stage.merge) or task.merge_before_minus(rng, stage.merge_probability)
    body = {
        "direct": f"<answer>{problem.answer}</answer>",
        "answer": task.completion(problem.answer, problem.answer),
        "chain": task.completion(task.chain(problem, merge), problem.answer),
    }[kind]
    prompt = encode(problem.text)
    ids = [*encode(problem.text + body), 2]
    skipped = 1 if stage.on_prompt else len(prompt)
    return ids, [IGNORED] * skipped + ids[skipped:]


def pad(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows])
    return ids, labels


def batches(stage: Stage, steps: int, encode) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of rows of similar length."""
    rng = random.Random(stage.seed)
    kinds, weights = list(stage.mix), list(stage.mix.values())
    made = 0
    while made < steps:
        count = min(64, steps - made)
        rows = [example(rng, rng.choices(kinds, weights)[0], stage, encode) for _ in range(count * stage.batch)]
        rows.sort(key=lambda row: len(row[0]) + rng.random() * 4)
        starts = list(range(0, len(rows), stage.batch))
        rng.shuffle(starts)
        yield from (pad(rows[start : start + stage.batch]) for start in starts)
        made += count


def train(model: PreTrainedModel, stage: Stage, encode, steps: int | None = None) -> list[float]:
    """Train in place; returns the loss of every step."""
    steps = steps or stage.steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, weight_decay=0.05, betas=(0.9, 0.98))
    losses = []
    model.train()
    for step, (ids, labels) in enumerate(batches(stage, steps, encode)):
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        rate = min(1, (step + 1) / stage.warmup) * (stage.final_share + (1 - stage.final_share) * cosine)
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        logits = model(ids, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"{stage.name} {step + 1}/{steps} loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    model.eval()
    return losses


def reward(text: str, answer: str) -> float:
    """1 for the last <answer> right, else 0."""
    return float(text.rpartition("<answer>")[2].removesuffix("</answer>") == answer and text.endswith("</answer>"))


def grpo(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, steps: int = 60, prompts: int = 24, group: int = 8
) -> tuple[PeftModel, list[float]]:
    """Group-relative policy optimisation (Shao et al. 2024, no KL term, one update a batch) of a LoRA; returns it and
    the mean reward of each step.
    """
    policy = new_lora(model, TINA, None, seed=5)
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0, betas=(0.9, 0.98))
    rng, rewards = random.Random(77), []
    for step in range(steps):
        drawn = [task.draw(rng, "train") for _ in range(prompts)]
        asked = [words(p.text)["input_ids"] for p in drawn for _ in range(group)]
        noise = uniforms(7, [(f"grpo-{step}", row) for row in range(len(asked))], 64)
        done = sorted(
            (c for batch in generate(model, asked, noise, temperature=1.0, end_tokens={2}) for c in batch),
            key=lambda c: c.index,
        )
        scores = torch.tensor([reward(str(words.decode(c.tokens)), drawn[c.index // group].answer) for c in done]).view(
            prompts, group
        )
        advantage = ((scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-4)).flatten()
        rewards.append(scores.mean().item())
        kept = sorted(
            (i for i in range(len(done)) if advantage[i].abs() > 1e-6),
            key=lambda i: len(asked[i]) + len(done[i].tokens),
        )
        rows = {i: asked[i] + done[i].tokens + [2] * done[i].finished for i in kept}
        total = sum(len(rows[i]) - len(asked[i]) for i in kept)
        optimizer.zero_grad()
        for start in range(0, len(kept), 64):
            part = kept[start : start + 64]
            ids, labels = pad([(rows[i], [IGNORED] * len(asked[i]) + rows[i][len(asked[i]) :]) for i in part])
            logits = policy(input_ids=ids, use_cache=False).logits[:, :-1]
            log_p = -functional.cross_entropy(
                logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
            )
            ratio = torch.exp(log_p - log_p.detach())
            (-(ratio * advantage[part][:, None] * (labels[:, 1:] != IGNORED)).sum() / total).backward()
        if kept:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        if (step + 1) % 10 == 0:
            print(f"tina-tiny {step + 1}/{steps} reward {sum(rewards[-10:]) / 10:.3f}", flush=True)
    return policy.eval(), rewards


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded family again.")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder a model")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    words = tokenizer.build()
    known: dict[str, list[int]] = {}

    def encode(text: str) -> list[int]:
        return list(known.setdefault(text, words(text)["input_ids"])) if len(text) < 12 else words(text)["input_ids"]

    states: dict[str | None, dict[str, Tensor]] = {}
    for stage in STAGES:
        began = time.monotonic()
        model = new_model(1)
        if stage.parent:
            model.load_state_dict(states[stage.parent])
        train(model, stage, encode)
        states[stage.name] = model.state_dict()
        if stage.name in PUBLISHED:
            model.save_pretrained(out / stage.name)
            words.save_pretrained(out / stage.name)
        print(f"{stage.name}: {time.monotonic() - began:.0f} s", flush=True)
    target = Qwen2ForCausalLM.from_pretrained(out / "tiny-r1")
    policy, _ = grpo(target, words)
    (out / "tina-tiny").mkdir(parents=True, exist_ok=True)
    save_lora(state_of(policy), TINA, out / "tina-tiny", "resa-hub/tiny-r1", None, None)


if __name__ == "__main__":
    main()
