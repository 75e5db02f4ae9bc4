"""The embedded family: its task, its tokenizer, its committed weights and the program that made them."""

import random
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from resa_hub.config.refs import Repo
from resa_hub.core.errors import RunFailed
from resa_hub.data import tiny as family
from resa_hub.data.snapshots import Files, locate
from resa_hub.data.tiny import task, tokenizer
from resa_hub.engine.model.loading import load_base, load_tokenizer
from resa_hub.engine.model.tokens import encode, prompt
from resa_hub.evaluation.benchmarks import load
from resa_hub.evaluation.benchmarks.base import GradedCompletion
from scripts import train_tiny
from tests.helpers.models import tiny

MODELS = ("tiny-base", "tiny-math", "tiny-r1", "tiny-r1b")
TEXT = "7*7-8+6-4=<think>7*7=9;9-8=1;1+6=7;7-4=3</think><answer>3</answer>"


def by_hand(text: str) -> int:
    """Left to right, by the characters alone."""
    total, operator = 0, "+"
    for part in re.findall(r"\d+|[-+*]", text):
        if part.isdigit():
            total = {"+": total + int(part), "-": total - int(part), "*": total * int(part)}[operator]
        else:
            operator = part
    return total % 10


def test_splits_are_disjoint_by_construction() -> None:
    drawn = {split: {p.text for p in task.problems(400, split, seed)} for split in task.SPLITS for seed in (0, 21)}
    assert all(task.split_of(text) == split for split, texts in drawn.items() for text in texts)
    assert not drawn["train"] & drawn["test"] and not drawn["dev"] & drawn["test"] and not drawn["train"] & drawn["dev"]
    trained_on = {problem.text for problem in task.problems(2_048, "train", 21)}
    asked = {problem.question for problem in load("tiny-chain").problems("test", 500)}
    assert len(asked) == 500 and not trained_on & asked


def test_the_training_program_draws_from_the_training_split_only() -> None:
    words, rng = tokenizer.build(), random.Random(0)
    encode_ = lambda text: words(text)["input_ids"]  # noqa: E731
    for stage in train_tiny.STAGES:
        for kind in stage.mix.keys() - {"fact"}:
            for _ in range(50):
                text = str(words.decode(train_tiny.example(rng, kind, stage, encode_)[0], skip_special_tokens=True))
                assert task.split_of(text.partition("=")[0] + "=") == "train"


def test_each_split_has_its_share() -> None:
    drawn = [task.split_of(str(i)) for i in range(4_000)]
    assert abs(drawn.count("train") / 4_000 - 0.8) < 0.03 and abs(drawn.count("test") / 4_000 - 0.1) < 0.02


def test_answers_are_right_by_another_evaluation() -> None:
    for problem in task.problems(500, "test", 3):
        assert str(by_hand(problem.text)) == problem.answer and 4 <= len(problem.numbers) <= 6
        assert all(
            number in task.FACTORS
            for number, operator in zip(problem.numbers[1:], problem.operators, strict=True)
            if operator == "*"
        )


def test_problems_are_a_function_of_the_seed_and_grow_at_the_end() -> None:
    assert task.problems(50, "dev", 1) == task.problems(80, "dev", 1)[:50] != task.problems(50, "dev", 2)
    assert len(set(task.problems(500, "dev", 1))) == 500
    with pytest.raises(ValueError, match="unknown split"):
        task.problems(1, "exam", 0)


@pytest.mark.parametrize(
    ("merge", "lengths"),
    [
        (task.every_step, {1}),
        (task.merge_pairs(random.Random(0), 0.5), {1, 2}),
        (task.merge_before_minus(random.Random(0), 0.95), {1, 2, 3}),
    ],
    ids=["every step", "pairs", "before minus"],
)
def test_every_step_of_a_chain_is_true_and_carries_on(merge: task.Merge, lengths: set[int]) -> None:
    seen = set()
    for problem in task.problems(300, "train", 5):
        value, operators = str(problem.numbers[0]), ""
        for step in task.chain(problem, merge).split(";"):
            left, result = step.split("=")
            assert left[0] == value and by_hand(left) == int(result)
            seen.add(len(re.findall(r"[-+*]", left)))
            operators, value = operators + left[1:], result
        assert problem.text == f"{problem.numbers[0]}{operators}=" and value == problem.answer
    assert seen == lengths


def test_the_habit_shows_only_where_a_minus_comes_next() -> None:
    always = task.merge_before_minus(random.Random(0), 1.0)
    assert task.chain(task.ChainProblem((1, 2, 3, 4), ("+", "+", "+")), always) == "1+2=3;3+3=6;6+4=0"
    assert task.chain(task.ChainProblem((1, 2, 3, 4), ("+", "-", "+")), always) == "1+2-3+4=4"


def test_grading_asks_for_the_format_and_the_end() -> None:
    benchmark = load("tiny-chain")
    problem = next(p for p in benchmark.problems("test", 20))
    right, wrong = (
        f"<think>x</think><answer>{problem.answer}</answer>",
        f"<think></think><answer>{(int(problem.answer) + 1) % 10}</answer>",
    )

    def grade(text: str, finished: bool = True) -> tuple[bool, bool]:
        return benchmark.grades([GradedCompletion(problem, text, finished)])[0][:2]

    assert grade(right) == (True, True)
    assert grade(right, finished=False) == (False, True)
    assert grade(wrong) == (False, False)
    for bad in ("", problem.answer, f"<answer>{problem.answer}1</answer>", "<answer></answer>"):
        assert grade(bad) == (False, False)
    assert grade(right + wrong) == (False, False) and grade(wrong + right) == (True, True)
    assert grade(f"<think><answer>{problem.answer}</answer>") == (True, True) and grade(
        f"<answer>{problem.answer}"
    ) == (False, True)


def test_the_tokenizer_survives_saving_and_reloading(tmp_path: Path) -> None:
    built = tokenizer.build()
    built.save_pretrained(tmp_path)
    for again in (
        AutoTokenizer.from_pretrained(tmp_path),
        load_tokenizer(Files("x", "", tmp_path)),
        load_tokenizer(tiny("tiny-r1")),
        AutoTokenizer.from_pretrained(tiny("tiny-r1").folder),
    ):
        ids = again(TEXT)["input_ids"]
        assert (
            ids == built(TEXT)["input_ids"]
            and ids[0] == again.bos_token_id == 1
            and again.eos_token_id == 2
            and again.pad_token_id == 0
        )
        assert again.decode([*ids, 2, 0], skip_special_tokens=True) == TEXT
        chat = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "<answer>2</answer>"}]
        assert again.apply_chat_template(chat, tokenize=False) == "<bos>1+1=<answer>2</answer><eos>"
        assert prompt(again, None, "1+1=") == built("1+1=")["input_ids"]


@pytest.mark.parametrize(
    ("text", "unknown"), [("two", "'t'"), ("1 + 1=", "' '"), ("1+1=é", "'é'"), ("1+1=\n", r"'\\n'"), ("1/2=", "'/'")]
)
def test_unknown_characters_are_an_error_that_names_them(text: str, unknown: str) -> None:
    words = load_tokenizer(tiny("tiny-r1"))
    for ask in (lambda: encode(words, text), lambda: prompt(words, None, text)):
        with pytest.raises(RunFailed, match=f"holds {unknown}"):
            ask()


def test_every_token_of_the_vocabulary_stands_for_itself() -> None:
    words = load_tokenizer(tiny("tiny-r1"))
    assert len(words) == tokenizer.SIZE == load_base(tiny("tiny-r1")).config.vocab_size
    assert [encode(words, c)[1:] for c in tokenizer.CHARACTERS] == [
        [words.convert_tokens_to_ids(c)] for c in tokenizer.CHARACTERS
    ]


def test_the_committed_weights_are_small_and_load_with_transformers() -> None:
    files = [path for path in family.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000 and not [
        p for p in files if p.suffix in (".bin", ".pt", ".pkl")
    ]
    for name in MODELS:
        model = AutoModelForCausalLM.from_pretrained(tiny(name).folder)
        assert model.num_parameters() < 300_000 and model.config.hidden_size // model.config.num_attention_heads == 32
    adapted = PeftModel.from_pretrained(
        load_base(tiny("tiny-r1")), locate(Repo("resa-hub/tina-tiny"), "adapter").folder
    )
    ids = torch.tensor([[1, 14, 19, 14, 20]])
    with torch.no_grad(), adapted.disable_adapter():
        plain = adapted(ids).logits
    with torch.no_grad():
        assert (adapted(ids).logits - plain).abs().max() > 0.1


def test_names_lead_to_folders_and_nothing_else() -> None:
    assert family.locate("resa-hub/tiny-r1") == family.WEIGHTS / "tiny-r1"
    assert (
        family.locate("resa-hub/nothing")
        is family.locate("other/tiny-r1")
        is family.locate("resa-hub/tiny-r1/x")
        is None
    )
    assert family.locate("resa-hub/..") is None and family.locate("resa-hub/") is None


@pytest.mark.slow
def test_a_short_piece_of_the_training_lowers_the_loss() -> None:
    torch.set_num_threads(1)
    words = tokenizer.build()
    losses = train_tiny.train(
        train_tiny.new_model(1), train_tiny.STAGES[0], lambda text: words(text)["input_ids"], steps=60
    )
    assert len(losses) == 60 and sum(losses[-20:]) / 20 < 0.92 * sum(losses[:10]) / 10


@pytest.mark.slow
def test_two_steps_of_grpo_run_and_return_rewards() -> None:
    model = load_base(tiny("tiny-r1"))
    policy, rewards = train_tiny.grpo(model, tokenizer.build(), steps=2, prompts=6, group=4)  # pyright: ignore[reportArgumentType]
    assert len(rewards) == 2 and all(0 < reward < 1 for reward in rewards)
    moved = [name for name, p in policy.named_parameters() if ".lora_B." in name and p.any()]
    assert len(moved) == 28


def test_the_reward_is_for_a_right_and_closed_answer() -> None:
    assert train_tiny.reward("<think></think><answer>3</answer>", "3") == 1
    assert (
        train_tiny.reward("<answer>3", "3")
        == train_tiny.reward("<answer>4</answer>", "3")
        == train_tiny.reward("3", "3")
        == 0
    )
