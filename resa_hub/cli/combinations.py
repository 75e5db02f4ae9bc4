"""Options that have no effect beside others: a row each, held against every command line before its verb is called.

What depends on more than the command line (the method of a recipe, the engine that `auto` means) is checked by the
library.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..core.errors import Usage

FLAGS = {"prompts": "--prompt", "as_json": "--json", "every": "--all", "greedy": "--greedy/--no-greedy"}
"""Parameter -> its option, where that is not the parameter's own name."""


def _flag(name: str) -> str:
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


class Line(NamedTuple):
    """A command line as it was read."""

    values: Mapping[str, Any]
    """Parameter -> value."""
    given: frozenset[str]
    """Parameters that stand on it, rather than their defaults."""

    def has(self, name: str) -> bool:
        """Whether an option is set."""
        return bool(self.values.get(name))


class Rule(NamedTuple):
    option: str
    """Parameter that would be ignored."""
    why: Callable[[Line], str]
    """`without --prompt`, where it is ignored on a line on which it stands; else empty."""
    step: str


def without(option: str, *needed: str) -> Rule:
    """`option` does something only beside one of `needed`."""
    named = " or ".join(map(_flag, needed))
    return Rule(option, lambda line: "" if any(map(line.has, needed)) else f"without {named}", f"add {named}")


def beside(option: str, *others: str) -> Rule:
    """`option` does nothing beside any of `others`."""

    def why(line: Line) -> str:
        return next((f"with {_flag(other)}" for other in others if line.has(other)), "")

    return Rule(option, why, "leave one of them out")


def _no_random(line: Line) -> str:
    words = {word.strip() for word in line.values["arms"].split(",")}
    return (
        ""
        if words & {"usual", "all", "random"} or not line.values["controls"]
        else "without random adapters among the --arms"
    )


NO_RANDOM = Rule("controls", _no_random, "add random to --arms, or leave --controls out")
NOTHING_DRAWN = Rule(
    "seed",
    lambda line: "" if line.values["temperature"] else "at temperature 0: nothing is drawn",
    "add --temperature 0.6, or leave it out",
)
ONE_SAMPLE = Rule(
    "samples",
    lambda line: "with lm-eval: its tasks say how many samples they draw" if line.values["tool"] == "lm-eval" else "",
    "leave it out, or --tool inspect",
)
NAMED_VERSIONS = Rule(
    "every",
    lambda line: "with versions that are named" if all("@" in name for name in line.values["names"]) else "",
    "name the adapter alone, or leave --all out",
)


def of_a_run(option: str) -> Rule:
    """What decides how answers are generated, in a plan that generates none."""
    return Rule(option, lambda _: "on a plan of sizes", "leave it out; it is for the evaluation itself")


OF_A_RUN = ("seed", "choosing", "greedy", "workers", "lora", "tensor_parallel", "gpu_memory", "tolerance")
RULES: dict[str, tuple[Rule, ...]] = {
    "extract": (beside("again", "screen"),),
    "attach": (*(without(name, "prompts") for name in ("temperature", "new_tokens", "seed")), NOTHING_DRAWN),
    "eval judge": (NO_RANDOM,),
    "eval plan": (NO_RANDOM, *map(of_a_run, OF_A_RUN)),
    "eval harness": (NO_RANDOM, ONE_SAMPLE),
    "matrix": (beside("markdown", "as_json", "quiet", "dry_run"),),
    "push": (beside("no_sae", "sae_repo"),),
    "import": (without("hookpoint", "sae"),),
    "export": (without("sae_format", "sae"),),
    "rm": (NAMED_VERSIONS,),
}
"""Verb, those of nouns as `noun verb` -> its rules."""
OF_EVERY_VERB = (beside("quiet", "as_json"),)


def check(verb: str, values: Mapping[str, Any], given: frozenset[str]) -> None:
    """Raise `Usage` for the first option of this command line that has no effect beside the others."""
    line = Line(values, given)
    for rule in (*OF_EVERY_VERB, *RULES.get(verb, ())):
        why = rule.why(line) if rule.option in given else ""
        if why:
            raise Usage(f"{_flag(rule.option)} has no effect {why}", rule.step)
