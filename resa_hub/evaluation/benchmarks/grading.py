r"""Rules of grading, one line each in `RULES`: how an answer is read, and when it equals the gold.

*Strict*: the answer stands in the asked format (mostly the last balanced `\boxed{...}`), behind the thinking where the
text thinks, equals the gold, and the completion is finished. *Lenient*: the last answer by any reading, in the thinking
too, finished or cut. A wrong answer in the asked format is wrong in both.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...core.errors import Usage, did_you_mean
from . import answers
from .base import UNREADABLE, Grade, GradedCompletion, Outcome, Pair

Reader = Callable[[str], str | None]
Comparison = Callable[[Iterable[Pair]], dict[Pair, Outcome]]


class GradingRule(NamedTuple):
    version: str
    """Kept in every evaluation: grades of different versions are not compared."""
    read: Reader
    """The answer in the asked format."""
    search: Reader
    """An answer in any format."""
    compare: Comparison
    prompt: str = "boxed"
    """Of `prompts.PROMPTS`, where the registry says nothing else."""
    anywhere: bool = False
    """The format itself says where the answer is, whatever the text does with its thinking."""


class Reading(NamedTuple):
    """What a completion gives as its answer."""

    answer: str | None
    loose: bool = False
    """Found outside of the asked format."""
    note: str = ""
    """Why it cannot be strict."""


def rule(kind: str) -> GradingRule:
    if kind not in RULES:
        raise Usage(f"no grading is called {kind!r}", did_you_mean(kind, list(RULES)))
    return RULES[kind]


def grades(kind: str, completions: Sequence[GradedCompletion]) -> list[Grade]:
    """The grades in the given order. Equal questions to the rule are asked once."""
    chosen = rule(kind)
    readings = [_read(chosen, completion.text) for completion in completions]
    pairs = [Pair(c.problem.answer, r.answer, r.loose) for c, r in zip(completions, readings, strict=True)]
    outcomes = chosen.compare({pair for pair in pairs if pair.answer is not None})
    return [
        _grade(completion, reading, outcomes.get(pair, False))
        for completion, reading, pair in zip(completions, readings, pairs, strict=True)
    ]


def unreadable(kind: str, golds: Sequence[str]) -> list[str]:
    """The golds that the rule cannot read: no completion can be right."""
    outcomes = rule(kind).compare({Pair(gold, None) for gold in golds})
    return [gold for gold in golds if outcomes[Pair(gold, None)] is not True]


def _read(chosen: GradingRule, text: str) -> Reading:
    behind = text if chosen.anywhere else answers.after_thinking(text)
    answer = chosen.read(behind) if behind is not None else None
    if answer is not None:
        return Reading(answer)
    answer = chosen.read(text)
    if answer is not None:
        return Reading(answer, note="answered while thinking")
    return Reading(chosen.search(behind or text), loose=True, note="no answer")


def _grade(completion: GradedCompletion, reading: Reading, outcome: Outcome) -> Grade:
    right = outcome is True
    return Grade(
        strict=right and completion.finished and not reading.note,
        lenient=right,
        answer=reading.answer or "",
        note=outcome if isinstance(outcome, str) else reading.note,
    )


def _one_by_one(equal: Callable[[str, str], Outcome]) -> Comparison:
    """A comparison of (gold, answer) for all pairs. A gold that can be read equals itself, whatever the rule."""
    return lambda pairs: {pair: equal(pair.gold, pair.gold if pair.answer is None else pair.answer) for pair in pairs}


def _same_integer(gold: str, answer: str) -> Outcome:
    number = answers.integer(gold)
    return UNREADABLE if number is None else answers.integer(answer) == number


def _same_letter(gold: str, answer: str) -> Outcome:
    letter = answers.letter(gold)
    return UNREADABLE if letter is None else answers.letter(answer) == letter


def _same_words(gold: str, answer: str) -> Outcome:
    return answers.words(answer) == answers.words(gold) if gold.strip() else UNREADABLE


def _same_text(gold: str, answer: str) -> Outcome:
    return answer == gold


def _same_value(pairs: Iterable[Pair]) -> dict[Pair, Outcome]:
    from .comparison_pool import verify

    return verify(pairs)


def _last_line(text: str) -> str | None:
    lines = text.strip().splitlines()
    return lines[-1] if lines else None


def _end(text: str) -> str | None:
    """Where math-verify looks for an answer itself; boxes that never close are opened."""
    end = text[-2000:]
    if "\\boxed" in text and answers.last_box(text) is None:
        return answers.BOX.sub(" ", end).replace("{", " ")
    return end or None


def _last_number(text: str) -> str | None:
    number = answers.last_integer(text)
    return None if number is None else str(number)


def _tag(text: str) -> str | None:
    """`<answer>3</answer>` at the very end, as the embedded family answers."""
    _, opened, tail = text.rpartition("<answer>")
    return tail.removesuffix("</answer>") if opened and tail.endswith("</answer>") else None


def _open_tag(text: str) -> str | None:
    return text.rpartition("<answer>")[2].removesuffix("</answer>") if "<answer>" in text else None


RULES = {
    "math": GradingRule("math-verify-1", answers.last_box, _end, _same_value),
    "integer": GradingRule("integer-1", answers.last_box, _last_number, _one_by_one(_same_integer)),
    "choice": GradingRule("choice-1", answers.last_box, answers.stated_letter, _one_by_one(_same_letter), "choice"),
    "exact": GradingRule("exact-1", answers.last_box, _last_line, _one_by_one(_same_words)),
    "last-integer": GradingRule("last-integer-1", _last_number, _last_number, _one_by_one(_same_integer), "bare"),
    "answer-tag": GradingRule("answer-tag-1", _tag, _open_tag, _one_by_one(_same_text), "bare", anywhere=True),
}
