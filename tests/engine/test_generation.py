"""Generation: common random numbers, independence of a row from its neighbours, and greedy answers equal to
transformers' own.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from resa_hub.engine.generation.sampling import Completion, choose, generate, uniforms
from resa_hub.engine.model.loading import end_tokens, load_base, load_tokenizer
from tests.helpers.models import random_model, tiny

PROMPTS = [
    [1, 8],
    [1, 14, 19, 14, 20],
    [1, 9, 17, 9, 17, 9, 20],
    [1, 10, 18, 11, 20],
    [1, 12, 19, 10, 17, 8, 18, 9, 20],
    [1, 9],
]
KEYS = [(f"problem-{i}", i % 2) for i in range(len(PROMPTS))]
FAMILIES = ("tiny-r1", "llama", "gemma2", "qwen3")


def model_of(family: str) -> PreTrainedModel:
    return load_base(tiny(family)) if family.startswith("tiny") else random_model(family)


def run(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    noise: Tensor,
    temperature: float,
    batch_size: int = 256,
    ends: set[int] | None = None,
) -> list[Completion]:
    done = [
        c
        for batch in generate(
            model,
            prompts,
            noise,
            temperature=temperature,
            end_tokens={2} if ends is None else ends,
            batch_size=batch_size,
        )
        for c in batch
    ]
    assert sorted(c.index for c in done) == list(range(len(prompts)))
    return sorted(done, key=lambda c: c.index)


@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_does_not_depend_on_its_neighbours_or_the_batch_size(family: str, temperature: float) -> None:
    model, noise = model_of(family), uniforms(3, KEYS, 16)
    together = run(model, PROMPTS, noise, temperature)
    for size in (1, 4):
        assert run(model, PROMPTS, noise, temperature, size) == together
    order = [4, 0, 5, 2, 1, 3]
    shuffled = run(model, [PROMPTS[i] for i in order], noise[order], temperature)
    assert [(c.tokens, c.finished) for c in shuffled] == [(together[i].tokens, together[i].finished) for i in order]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_own(family: str) -> None:
    model = model_of(family)
    for prompt, completion in zip(PROMPTS, run(model, PROMPTS, torch.zeros(len(PROMPTS), 20), 0.0), strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=2, pad_token_id=0
        )  # pyright: ignore
        expected = out[0, len(prompt) :].tolist()
        assert completion.finished == (2 in expected)
        assert completion.tokens == (expected[: expected.index(2)] if 2 in expected else expected)


def test_equal_noise_gives_equal_completions_and_other_noise_others() -> None:
    model = random_model("llama")
    same = run(model, [[1, 8]] * 3, uniforms(0, [("a", 0), ("a", 0), ("a", 1)], 30), 1.0, ends=set())
    assert same[0].tokens == same[1].tokens != same[2].tokens


def test_uniforms_depend_on_seed_and_key_alone() -> None:
    alone, among = uniforms(1, [("p", 2)], 40), uniforms(1, [("q", 0), ("p", 2), ("p", 3)], 40)
    assert torch.equal(alone[0], among[1])
    assert torch.equal(uniforms(1, [("p", 2)], 9)[0], alone[0, :9])  # a longer budget goes on where the shorter ended
    for other in (
        uniforms(2, [("p", 2)], 40),
        uniforms(1, [("p", 3)], 40),
        uniforms(1, [("p2", 2)], 40),
        uniforms(12, [("p", 2)], 40),
    ):
        assert not torch.equal(other, alone)
    assert float(alone.min()) >= 0 and float(alone.max()) < 1


def test_uniforms_are_uniform() -> None:
    many = uniforms(0, [(f"p{i}", j) for i in range(100) for j in range(4)], 64)
    assert abs(float(many.mean()) - 0.5) < 0.01 and abs(float(many.var()) - 1 / 12) < 0.005
    assert abs(float(torch.corrcoef(torch.stack([many[:-1].flatten(), many[1:].flatten()]))[0, 1])) < 0.03


def test_the_uniform_picks_from_the_cumulative_distribution() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(5, 1)
    picks = choose(logits, 1.0, torch.tensor([0.0, 0.49, 0.51, 0.79, 0.999999]))
    assert picks.tolist() == [0, 0, 1, 1, 2]
    assert choose(logits, 0.0, torch.ones(5)).tolist() == [0] * 5
    assert choose(logits[:1], 0.25, torch.tensor([0.9])).item() == 1  # p^4: .875, .113, .022


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).repeat(4, 1)
    assert choose(logits, 1.0, torch.tensor([1e-8, 0.4999, 0.5001, 0.99999994])).tolist() == [1, 1, 3, 3]


def test_the_frequencies_are_those_of_the_model() -> None:
    model = random_model("llama")
    with torch.inference_mode():
        wanted = torch.softmax(model(torch.tensor([[1, 8]])).logits[0, -1].float() / 0.7, -1)
    done = run(model, [[1, 8]] * 3000, uniforms(0, [("p", i) for i in range(3000)], 1), 0.7, ends=set())
    counts = torch.bincount(torch.tensor([c.tokens[0] for c in done]), minlength=64) / 3000
    assert (counts - wanted).abs().max() < 0.03


def test_a_budget_that_ran_out_is_flagged_and_the_end_token_left_out() -> None:
    model = load_base(tiny("tiny-r1"))
    prompt = [list(load_tokenizer(tiny("tiny-r1"))("7*7-8+6-4=")["input_ids"])]  # pyright: ignore[reportArgumentType]
    (whole,) = run(model, prompt, torch.zeros(1, 72), 0.0)
    assert whole.finished and 2 not in whole.tokens
    length = len(whole.tokens)
    (exact,), (short,) = (
        run(model, prompt, torch.zeros(1, length + 1), 0.0),
        run(model, prompt, torch.zeros(1, length), 0.0),
    )
    assert exact == whole and not short.finished and short.tokens == whole.tokens
    (cut,) = run(model, prompt, torch.zeros(1, 5), 0.0)
    assert not cut.finished and cut.tokens == whole.tokens[:5]


def test_rows_that_end_early_leave_the_others_as_they_were() -> None:
    """Many rows end at once, so that the cache is cut down in the middle."""
    model, noise = load_base(tiny("tiny-r1")), uniforms(0, [("p", i) for i in range(12)], 60)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(12)]
    together = run(model, prompts, noise, 1.0)
    lengths = sorted(len(c.tokens) for c in together)
    assert lengths[-1] > lengths[0] + 5
    for i in (0, 5, 11):
        assert run(model, [prompts[i]], noise[i : i + 1], 1.0)[0].tokens == together[i].tokens


def test_end_tokens_are_those_of_the_model_and_the_tokenizer() -> None:
    model, tokenizer = load_base(tiny("tiny-r1")), load_tokenizer(tiny("tiny-r1"))
    assert end_tokens(model, tokenizer) == {2}
    model.generation_config.eos_token_id = [5, 7]  # pyright: ignore[reportOptionalMemberAccess]
    assert end_tokens(model, tokenizer) == {2, 5, 7}
