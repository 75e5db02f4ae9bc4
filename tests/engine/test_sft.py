"""The method `sft`: cross-entropy on the data's own texts, equal to torch's, masked or not, with a chain of thought or
not.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from resa_hub.adapter.verify import verify_folder
from resa_hub.config import schema
from resa_hub.config.recipe import Data, LoraSettings, Recipe, Training
from resa_hub.core.errors import RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.data import datasets
from resa_hub.data.snapshots import Rows
from resa_hub.data.templates import PLAIN, R1_SYSTEM, TEMPLATES, question_answer, template_of
from resa_hub.engine.cost_tracker import CostTracker
from resa_hub.engine.methods import method
from resa_hub.engine.methods.context import ExtractionContext
from resa_hub.engine.methods.inputs import MethodInputs, RunResources
from resa_hub.engine.methods.sft import next_token, weights
from resa_hub.engine.methods.teacher_states import TrainingExample
from resa_hub.engine.methods.trainer import learning_rate
from resa_hub.engine.model.loading import Source, load_base, load_tokenizer
from resa_hub.engine.model.lora import new_lora, state_of
from resa_hub.engine.model.partial_forward import lm_head
from resa_hub.engine.model.tokens import Batch, examples, leading_special_tokens, packed
from resa_hub.extraction.extract import extract
from tests.conftest import QUICK
from tests.helpers.killed import finish, start
from tests.helpers.models import random_ids, random_model, tiny

ROWS = Rows(
    "mine", "mine", "1", [("7*7-8=", "1"), ("3+4=", "7"), ("1+1+1=", "3")], ["7*7=9;9-8=1", "3+4=7", "1+1=2;2+1=3"]
)


def context_of(rows: Rows = ROWS, **training: Any) -> ExtractionContext:
    recipe = Recipe(
        method="sft",
        source="tina-tiny",
        target="tiny-r1",
        trigger=Data(name="mine"),
        elicit=Data(name="mine"),
        dtype="float32",
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        training=Training(learning_rate=1e-3, **training),
    )
    source = Source(tiny("tiny-r1"), None)
    inputs = MethodInputs(source, source, rows, rows)
    return ExtractionContext(recipe, inputs, RunResources(Progress(quiet=True), CostTracker()))


def texts(batches: list[Batch], only: bool = False) -> list[str]:
    """What the model learns to say: the tokens that follow a position of the completion, or the whole rows."""
    tokenizer = load_tokenizer(tiny("tiny-r1"))
    rows = [(ids, learnt) for batch in batches for ids, learnt in zip(batch.ids, batch.completion, strict=True)]
    return sorted(str(tokenizer.decode(ids.roll(-1)[:-1][learnt[:-1]] if only else ids)) for ids, learnt in rows)


def test_the_loss_is_the_plain_cross_entropy_in_value_and_gradient() -> None:
    model, ids = (
        random_model("llama"),
        random_ids(rows=4, positions=300, vocabulary=60),
    )  # beyond one chunk of positions
    model.config.max_position_embeddings = 512
    completion = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    batch = Batch(ids, completion)
    made = []
    for ours in (True, False):
        student = new_lora(random_model("llama"), LoraSettings(rank=4, alpha=8, dropout=0.0), None, 0)
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
        inner: Any = student.get_base_model()
        if ours:
            loss = next_token(inner, lm_head(inner))(TrainingExample(batch, None, weights(batch, "sum")))
        else:
            logits = student(input_ids=ids, use_cache=False).logits[:, :-1]
            each = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(4, -1)
            loss = (each * completion[:, :-1]).sum() / 4
        loss.backward()
        made.append((loss.detach(), [p.grad for p in student.parameters() if p.grad is not None]))
    (loss, gradients), (plain, expected) = made
    torch.testing.assert_close(loss, plain)
    assert len(gradients) == len(expected) > 0
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_weights_leave_the_last_position_out(reduction: str) -> None:
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool))
    weight = weights(batch, reduction)
    assert not weight[:, -1].any() and weight.unique().numel() == 2
    assert float(weight.sum()) == pytest.approx(1 if reduction == "mean" else 3)


@pytest.mark.parametrize("length", [None, 16])
def test_the_mask_leaves_the_question_out_and_the_thought_is_what_stands_between_the_tags(length: int | None) -> None:
    bare, whole = ROWS._replace(thoughts=None), ROWS
    assert "7*7-8=<think>1</think><answer>1</answer>" in "".join(
        texts(context_of(bare, chunk_tokens=length).texts.of_data(bare))
    )
    masked = texts(context_of(whole, chunk_tokens=length).texts.of_data(whole, masked=True), only=True)
    said = "".join(masked)
    assert "<think>7*7=9;9-8=1</think><answer>1" in said or length
    assert "7*7-8=" not in said and "1+1+1=" not in said and "3+4=<" not in said
    if not length:
        assert len(masked) == 3 and all(text.startswith("<think>") and "</answer>" in text for text in masked)


def test_packing_joins_with_eos_drops_the_tail_and_shifts_the_mask_by_one() -> None:
    rows = [([5, 6, 7], 2), ([8, 9], 1), ([4], 0)]
    batches = packed(rows, end=1, length=4, batch_rows=2)
    assert [batch.ids.tolist() for batch in batches] == [[[1, 5, 6, 7], [1, 8, 9, 1]]]
    # Followed by: 5 question, 6 question, 7 completion, EOS | 8 question, 9 completion, EOS, 4.
    assert batches[0].completion.tolist() == [[False, False, True, True], [False, True, True, True]]
    opened = packed(rows, end=1, length=4, batch_rows=1, opening=[2])
    assert [batch.ids.tolist()[0] for batch in opened] == [[2, 1, 5, 6], [2, 7, 1, 8], [2, 9, 1, 4]]
    assert [batch.completion.tolist()[0] for batch in opened] == [
        [True, False, False, True],
        [True, True, False, True],
        [True, True, True, True],
    ]
    assert all(batch.completion.all() for batch in packed([([5, 6, 7], 0), ([8, 9], 0)], end=1, length=3, batch_rows=1))
    with pytest.raises(RunFailed, match="do not fill one chunk of 99"):
        packed(rows, end=1, length=99, batch_rows=1)


@pytest.mark.slow
def test_packing_is_that_of_the_reference_code() -> None:
    """Against eai-sparsify, chunk for chunk."""
    from datasets import Dataset
    from sparsify.data import chunk_and_tokenize

    tokenizer, rows = (
        load_tokenizer(tiny("tiny-r1")),
        datasets.load(Data(name="tiny-chain", rows=200), schema.Dataset(id=datasets.TINY)),
    )
    told = Dataset.from_dict({"text": [question_answer(None, *pair) for pair in rows.pairs]})
    reference = chunk_and_tokenize(told, tokenizer, max_seq_len=48, num_proc=1, load_from_cache_file=False)["input_ids"]
    ours = packed(examples(tokenizer, None, rows, special=False), 2, 48, 1, leading_special_tokens(tokenizer))
    assert len(ours) in (len(reference), len(reference) + 1)  # it drops the last chunk even where that is full
    assert (
        all(torch.equal(batch.ids[0], chunk) for batch, chunk in zip(ours, reference, strict=False))
        and len(reference) > 60
    )


def test_the_r1_template_is_that_of_the_facts_and_its_variant_has_the_blanks_of_the_code() -> None:
    assert (
        question_answer("r1", "2+2?", "4")
        == f"{R1_SYSTEM}\nUser: 2+2?\nAssistant: <think> 4 </think>\n<answer> Answer: 4</answer>"
    )
    code = question_answer("r1-code", "2+2?", "4")
    assert code.startswith("\nA conversation") and code.endswith(
        "answer here </answer>.\nUser:\n 2+2?\n\nAssistant:\n <think> 4 </think>\n<answer> Answer: 4</answer>"
    )
    assert code.split() == question_answer("r1", "2+2?", "4").split()  # the same words
    assert code.count("\n") == 11
    assert question_answer("r1", "{x} {answer}", "{1}").count("{1}") == 2  # braces of a question are text
    assert "<think> because </think>\n<answer> Answer: 4</answer>" in question_answer("r1", "q", "4", "because")
    assert template_of(None) is PLAIN and set(TEMPLATES) == {"r1", "r1-code"}
    with pytest.raises(Usage, match="r2"):
        template_of("r2")


def test_the_border_of_the_question_is_found_where_the_ids_part() -> None:
    tokenizer = load_tokenizer(tiny("tiny-r1"))
    (ids, asked), *_ = examples(tokenizer, None, ROWS, masked=True)
    assert tokenizer.decode(ids[:asked]) == "<bos>7*7-8=" and examples(tokenizer, None, ROWS)[0] == (ids, 0)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
def test_the_rate_is_that_of_transformers(schedule: Any, warmup: float) -> None:
    from transformers import get_scheduler

    name = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}[schedule]
    for total in (7, 40):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
        kept = {"min_lr_rate": 0.1} if schedule == "cosine" else None
        theirs = get_scheduler(name, optimizer, math.ceil(warmup * total), total, scheduler_specific_kwargs=kept)
        wanted = []
        for _ in range(total):
            wanted += theirs.get_last_lr()
            optimizer.step()
            theirs.step()
        ours = [
            learning_rate(Training(learning_rate=3e-4, schedule=schedule, warmup=warmup), step, total)
            for step in range(total)
        ]
        assert (
            ours == pytest.approx(wanted, rel=1e-9, abs=1e-18) and max(ours) > 2e-4 and (ours[0] == 0) == (warmup > 0)
        )


def test_it_trains_as_the_plain_loop_with_transformers_schedule() -> None:
    from transformers import get_scheduler

    settings: dict[str, Any] = {
        "epochs": 4,
        "chunk_tokens": None,
        "batch_rows": 1,
        "schedule": "linear",
        "warmup": 0.25,
        "reduction": "mean",
        "max_tokens": 24,
        "weight_decay": 0.3,
    }
    made = context_of(**settings)
    batches = made.texts.of_data(ROWS)
    assert {len(batch.ids[0]) for batch in batches} > {24}  # one is cut off, and one is shorter
    ours = method("sft")(made).state
    student = new_lora(load_base(tiny("tiny-r1")), made.recipe.lora, None, made.recipe.seed)
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.3)
    schedule = get_scheduler("linear", optimizer, 3, 12)
    student.train()
    for ids in [batch.ids for batch in batches] * 4:
        logits = student(input_ids=ids, use_cache=False).logits[:, :-1]
        optimizer.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(state_of(student), ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [None, 16])
def test_what_lies_behind_the_longest_is_cut_off(length: int | None) -> None:
    whole, cut = (
        context_of(chunk_tokens=length, max_tokens=most).texts.of_data(ROWS, masked=True) for most in (None, 9)
    )
    tokenizer = load_tokenizer(tiny("tiny-r1"))
    if length:
        stream = torch.cat([batch.ids.flatten() for batch in cut]).tolist()
        assert len(stream) < sum(batch.tokens for batch in whole) and stream.count(tokenizer.eos_token_id) > 1
        return
    assert {batch.ids.shape[1] for batch in cut} == {9} and {batch.ids.shape[1] for batch in whole}.isdisjoint({9})
    rows = {
        tuple(row.tolist()): learnt for batch in cut for row, learnt in zip(batch.ids, batch.completion, strict=True)
    }
    assert {tuple(row.tolist())[:9] for batch in whole for row in batch.ids} == set(rows)
    assert all(learnt.sum() < 8 for learnt in rows.values()) and not any(learnt[-1] for learnt in rows.values())


@pytest.mark.slow
def test_it_learns_the_texts_and_needs_neither_sae_nor_source() -> None:
    made = context_of(epochs=30, chunk_tokens=None, batch_rows=3, mask_prompt=True)
    result = method("sft")(made)
    assert not result.saes and result.layers is None and "source" not in made.models.__dict__
    assert result.findings["loss_last"] < 0.5 * result.findings["loss_first"]
    assert all(tensor.any() for name, tensor in result.state.items() if ".lora_B." in name)
    fresh = state_of(new_lora(load_base(tiny("tiny-r1")), made.recipe.lora, None, 0))
    assert fresh.keys() == result.state.keys()


@pytest.mark.slow
def test_an_adapter_of_its_own_and_the_same_bytes_after_a_kill(tmp_path: Path) -> None:
    settings = [*QUICK, "training.epochs=8", "lora.dropout=0.1"]
    whole, _ = extract(
        "tina-tiny", method="sft", workspace=tmp_path / "whole", settings=settings, progress=Progress(quiet=True)
    )
    assert verify_folder(whole.folder).method == "sft" and not (whole.folder / "sae").exists()
    log, kills = tmp_path / "log", 0
    while "continuing at step" not in (log.read_text() if log.exists() else ""):
        process = start(tmp_path / "killed", log, settings, method="sft")
        process.join(1.3**kills)
        kills += process.is_alive()
        process.kill()
        assert finish(process) in (-9, 0), log.read_text()
        assert kills < 20, log.read_text()
    if "made" not in log.read_text():
        assert finish(start(tmp_path / "killed", log, settings, method="sft")) == 0, log.read_text()
    assert kills > 0 and whole.manifest.content_hash in log.read_text()
