"""The arms: which adapters are extracted, with which settings and seeds. Each is judged on target and sibling before
the next one is made.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    name: str
    """In the store."""
    method: str
    settings: tuple[str, ...] = ()
    """`--set` of the product, over the recipe `smol`."""
    seed: int = 0
    """Of everything: rollouts, SAE, LoRA."""


WITH_SIBLING = ('rollouts.siblings=["smol-t2"]', "rollouts.student=writer", "rollouts.source_share=0.6")


def sae_of(arm: str) -> tuple[str, str]:
    """The SAE of that arm: only what else is said differs from it."""
    return "sae.mode=pretrained", f"sae.origin=./adapters/{arm}/0.1.0/sae/layers.{{layer}}"


SAME_SAE = sae_of("features-s0")
BY_LOGITS = "selection=logits"
WIDE = "features=256"
ARMS = (
    Arm("features-s0", "feature-diff"),
    Arm("features-256-s1", "feature-diff", (WIDE,), seed=1),
    Arm("logits", "logit-distill"),
    Arm("features-256", "feature-diff", (*SAME_SAE, WIDE)),
    Arm("random-256", "random-features", (*SAME_SAE, WIDE)),
    Arm("features-256-s2", "feature-diff", (WIDE,), seed=2),
)
"""64 features; three seeds of 256; the upper bound (the source's logits); the control of which features."""
FURTHER = (
    Arm("siblings-256", "feature-diff", (*SAME_SAE, *WITH_SIBLING, WIDE)),
    Arm("pca", "pca-diff", ("scale=1",)),
    Arm("sae-tuning", "sae-tuning"),
    Arm("hookpoints-256", "feature-diff", ("hookpoints=[layers.20, layers.25]", WIDE)),
    Arm("selected-256", "feature-diff", (*SAME_SAE, WIDE, BY_LOGITS)),
    Arm("selected-64", "feature-diff", (*SAME_SAE, BY_LOGITS)),
    Arm("selected-256-s1", "feature-diff", (*sae_of("features-256-s1"), WIDE, BY_LOGITS), seed=1),
    Arm("selected-256-s2", "feature-diff", (*sae_of("features-256-s2"), WIDE, BY_LOGITS), seed=2),
)
"""One LoRA that has to serve target and helper at once; the difference without an SAE, in 64 directions; the paper's
method; 256 features at each of two hookpoints; and those chosen by what they do to the logits, in the SAEs of which the
arms above took the strongest.
"""
