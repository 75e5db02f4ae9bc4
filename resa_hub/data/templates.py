"""How a question and its answer become the text that a model reads."""

from typing import NamedTuple

from ..core.errors import Usage

R1_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>."
)
"""System text published with DeepSeek-R1-Zero (arXiv 2501.12948, table 1)."""


class Template(NamedTuple):
    """How a question, and what stands for the reasoning, and the answer become one text."""

    opening: str
    """What the model is asked with."""
    closing: str


R1_CLOSING = " {thought} </think>\n<answer> Answer: {answer}</answer>"


def _reference_code() -> Template:
    """The R1 text as the reference code breaks it into lines: the same words, other blanks."""
    system = R1_SYSTEM
    for start in ("The assistant first", "with the answer.", "<answer> </answer> tags", "<answer> answer here"):
        system = system.replace(f" {start}", f"\n{start}")
    return Template(f"\n{system}\nUser:\n {{question}}\n\nAssistant:\n <think>", R1_CLOSING)


PLAIN = Template("{question}", "<think>{thought}</think><answer>{answer}</answer>")
TEMPLATES = {
    "r1": Template(R1_SYSTEM + "\nUser: {question}\nAssistant: <think>", R1_CLOSING),
    "r1-code": _reference_code(),
}


def template_of(name: str | None) -> Template:
    """Raises `Usage` for a name that is none of the known."""
    if name and name not in TEMPLATES:
        raise Usage(f"no template is called {name!r}", f"known: {', '.join(TEMPLATES)}, or null for the model's own")
    return TEMPLATES[name] if name else PLAIN


def question_answer(template: str | None, question: str, answer: str, thought: str | None = None) -> str:
    """One example; without a chain of thought the answer stands in its place, as in the paper's trigger data."""
    text = template_of(template)
    thought = answer if thought is None else thought
    return text.opening.format(question=question) + text.closing.format(thought=thought, answer=answer)
