r"""How a problem is put to a model: the user's turn; the chat template around it is the model's own, with nothing
before it (zero shot, no system text).

The code of the paper evaluates with lighteval and its chat template the same way, at temperature 0.6, top-p 0.95, with
32,768 new tokens (4,096 for Qwen2.5-Math). It puts its instruction before the problem and asks for a last line with the
answer in `\boxed{}`; for four choices it asks for a last line
`Answer: LETTER`. Here the instruction stands behind the problem, in the words that the R1 models are recommended to be
asked with. Other words can be given in the registry: `prompt` of a benchmark is a name of `PROMPTS` or a text with
`{problem}` in it. Whatever is asked, all arms are asked the same.
"""

from collections.abc import Sequence

from ...core.errors import Usage, did_you_mean

PROMPTS = {
    "boxed": "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "choice": "{problem}\n\nPlease reason step by step, and put the letter of your final choice within \\boxed{}.",
    "bare": "{problem}",
}


def render(prompt: str, problem: str, choices: Sequence[str] = ()) -> str:
    """The user's turn; raises `Usage` for a prompt that is neither a name nor a text with `{problem}`."""
    text = PROMPTS.get(prompt, prompt)
    if "{problem}" not in text:
        raise Usage(
            f"the prompt {prompt!r} has no place for the problem",
            did_you_mean(prompt, list(PROMPTS)) + "; or write a text with {problem} in it",
        )
    listed = "".join(f"\n{letter}) {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False))
    return text.replace("{problem}", problem + ("\n" + listed if listed else ""))
