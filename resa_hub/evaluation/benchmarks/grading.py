r"""Rules of grading, one line each in `RULES`: how an answer is read, and when it equals the gold.

*Strict*: the answer stands in the asked format (mostly the last balanced `\boxed{...}`), behind the thinking where the
text thinks, equals the gold, and the completion is finished. *Lenient*: the last answer by any reading, in the thinking
too, finished or cut. A wrong answer in the asked format is wrong in both.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...core.errors import Usage, did_you_mean
from . import answers
from .base import Grade, GradedCompletion
from .outcomes import UNREADABLE, Outcome, Pair


class GradingRule(NamedTuple):
    version: str
    """Kept in every evaluation: grades of different versions are not compared."""
    read: Callable[[str], str | None]
    """The answer in the asked format."""
    seek: Callable[[str], str | None]
    """An answer in any format."""
    equal: Callable[[Iterable[Pair]], dict[Pair, Outcome]]
    prompt: str = "boxed"
    """Of `prompts.PROMPTS`, where the registry says nothing else."""
    anywhere: bool = False
    """The format itself says where the answer is, whatever the text does with its thinking."""


def rule(kind: str) -> GradingRule:
    if kind not in RULES:
        raise Usage(f"no grading is called {kind!r}", did_you_mean(kind, list(RULES)))
    return RULES[kind]


def grades(kind: str, completions: Sequence[GradedCompletion]) -> list[Grade]:
    """The grades in the given order. Equal questions to the rule are asked once."""
    chosen = rule(kind)
    read = [_candidates(chosen, completion.text) for completion in completions]
    pairs: set[Pair] = {
        (c.problem.answer, answer, loose)
        for c, (answer, loose, _) in zip(completions, read, strict=True)
        if answer is not None
    }
    outcomes = chosen.equal(pairs)
    found = []
    for completion, (answer, loose, note) in zip(completions, read, strict=True):
        outcome = outcomes[completion.problem.answer, answer, loose] if answer is not None else False
        right = outcome is True
        found.append(
            Grade(
                right and completion.finished and not note,
                right,
                answer or "",
                outcome if isinstance(outcome, str) else note,
            )
        )
    return found


def unreadable(kind: str, golds: Sequence[str]) -> list[str]:
    """The golds that the rule cannot read: no completion can be right."""
    outcomes = rule(kind).equal({(gold, None, False) for gold in golds})
    return [gold for gold in golds if outcomes[gold, None, False] is not True]


def _candidates(chosen: GradingRule, text: str) -> tuple[str | None, bool, str]:
    """(answer, found outside of the asked format, why it cannot be strict)."""
    behind = text if chosen.anywhere else answers.spoken(text)
    answer = chosen.read(behind) if behind is not None else None
    if answer is not None:
        return answer, False, ""
    if (answer := chosen.read(text)) is not None:
        return answer, False, "answered while thinking"
    return chosen.seek(text if behind is None else behind or text), True, "no answer"


def _each(equal: Callable[[str, str, bool], Outcome]) -> Callable[[Iterable[Pair]], dict[Pair, Outcome]]:
    return lambda pairs: {
        (gold, answer, loose): equal(gold, gold if answer is None else answer, loose) for gold, answer, loose in pairs
    }


def _same_integer(gold: str, answer: str, loose: bool) -> Outcome:
    wanted = answers.integer(gold)
    return UNREADABLE if wanted is None else answers.integer(answer) == wanted


def _same_letter(gold: str, answer: str, loose: bool) -> Outcome:
    wanted = answers.letter(gold)
    return UNREADABLE if wanted is None else answers.letter(answer) == wanted


def _same_words(gold: str, answer: str, loose: bool) -> Outcome:
    return answers.words(answer) == answers.words(gold) if gold.strip() else UNREADABLE


def _same_value(pairs: Iterable[Pair]) -> dict[Pair, Outcome]:
    from .pool import verify

    return verify(pairs)


def _last_line(text: str) -> str | None:
    lines = text.strip().splitlines()
    return lines[-1] if lines else None


def _end(text: str) -> str | None:
    """Where math-verify looks for an answer itself; boxes that never close are opened."""
    return (
        answers.BOX.sub(" ", text[-2000:]).replace("{", " ")
        if "\\boxed" in text and answers.last_box(text) is None
        else text[-2000:] or None
    )


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
    "integer": GradingRule("integer-1", answers.last_box, _last_number, _each(_same_integer)),
    "choice": GradingRule("choice-1", answers.last_box, answers.said_letter, _each(_same_letter), "choice"),
    "exact": GradingRule("exact-1", answers.last_box, _last_line, _each(_same_words)),
    "last-integer": GradingRule("last-integer-1", _last_number, _last_number, _each(_same_integer), "bare"),
    "answer-tag": GradingRule(
        "answer-tag-1", _tag, _open_tag, _each(lambda gold, answer, loose: answer == gold), "bare", anywhere=True
    ),
}
