"""The methods of extraction, one row each: everything that the program knows of a method before it runs.

From this table follow the values that a recipe's `method` may have, stage I and its texts, the plan and its costs, the
screen, `--method`, the columns of `recipe list`, and the arms of an evaluation. A new method is a file in
`engine/methods/` and a row here.
"""

from typing import Literal, NamedTuple

from ..core import plugins


class MethodSpec(NamedTuple):
    run: str
    """`module:function` of `engine.methods` that extracts."""
    about: str
    """One line for people."""
    trains_on: Literal["texts", "rollouts"] | None
    """What stage II reads: the elicitation data, or completions that models wrote to its questions; None: nothing."""
    sae_texts: str | None = None
    """`module:function` of what stage I trains the SAE on; None: the method has no SAE."""
    prepare: str | None = None
    """`module:function` whose layer, number of features and scale the screen can try without training; None: none."""
    patches: str | None = None
    """What the teacher is moved by at its hookpoints, in words; None: the method has no patches, and one hookpoint."""
    control: bool = False
    """Made to be beaten: says what a number is worth, is no method of its own."""
    arm: bool = False
    """Evaluations show it beside other methods' adapters, where the store has one of the same source and data."""

    @property
    def sae(self) -> bool:
        """Whether there is a stage I."""
        return self.sae_texts is not None

    @property
    def splices(self) -> bool:
        """Whether the SAE's reconstruction stands in the student while it learns: SAE-Tuning and its control."""
        return self.sae and self.trains_on == "texts"

    @property
    def supervised(self) -> bool:
        """Whether the labels alone teach: the source plays no part, and there is no hookpoint."""
        return not self.sae and self.trains_on == "texts"

    @property
    def teacher(self) -> bool:
        """Whether source and target are run beside the student."""
        return self.splices or self.trains_on == "rollouts"

    @property
    def selects(self) -> bool:
        """Whether features are chosen by the recipe's `selection`."""
        return self.sae and self.prepare is not None


METHODS: dict[str, MethodSpec] = {
    "sae-tuning": MethodSpec(
        run="sae_tuning:run",
        about="the paper's: learn with the SAE's reconstruction spliced into the model",
        trains_on="texts",
        sae_texts="sae_tuning:sae_texts",
    ),
    "feature-diff": MethodSpec(
        run="feature_diff:run",
        about="learn what the source changes in its SAE features",
        trains_on="rollouts",
        sae_texts="feature_diff:sae_texts",
        prepare="feature_diff:prepare",
        patches="features",
    ),
    "random-features": MethodSpec(
        run="feature_diff:run_random",
        about="feature-diff with random active features",
        trains_on="rollouts",
        sae_texts="feature_diff:sae_texts",
        patches="random active features",
        control=True,
    ),
    "outside-features": MethodSpec(
        run="feature_diff:run_outside",
        about="feature-diff with the features just behind the strongest",
        trains_on="rollouts",
        sae_texts="feature_diff:sae_texts",
        patches="features just behind the strongest",
        control=True,
    ),
    "pca-diff": MethodSpec(
        run="pca_diff:run",
        about="feature-diff with principal directions instead of features",
        trains_on="rollouts",
        prepare="pca_diff:prepare",
        patches="principal directions",
        arm=True,
    ),
    "logit-distill": MethodSpec(
        run="logit_distill:run",
        about="distil the source's logits",
        trains_on="rollouts",
    ),
    "sft": MethodSpec(
        run="sft:run",
        about="supervised fine-tuning on the elicitation data",
        trains_on="texts",
        arm=True,
    ),
    "random": MethodSpec(
        run="random_lora:run",
        about="random weights of another adapter's norm",
        trains_on=None,
        control=True,
    ),
    "gaussian": MethodSpec(
        run="gaussian:run",
        about="SAE-Tuning with noise of the same size in place of the SAE's error",
        trains_on="texts",
        sae_texts="sae_tuning:sae_texts",
        control=True,
    ),
} | plugins.rows("METHODS", MethodSpec)  # fmt: skip

DEFAULT_METHOD = "sae-tuning"
PATCHING = tuple(name for name, spec in METHODS.items() if spec.patches)
SCREENED = tuple(name for name, spec in METHODS.items() if spec.prepare)
ARMS = tuple(name for name, spec in METHODS.items() if spec.arm)
HELP = ", ".join(name for name, spec in METHODS.items() if not spec.control) + ", or a control."
"""Help of `--method`."""
