"""The arms: which adapters are extracted, with which settings and seeds. Each is judged on target and sibling before the next one is made."""

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


OF_TARGET = "rollouts.source_share=0"
WITH_SIBLING = ('rollouts.siblings=["smol-t2"]', "rollouts.student=writer", "rollouts.source_share=0.6")
SAME_SAE = ("sae.mode=pretrained", "sae.origin=./adapters/features-s0/0.1.0/sae/layers.{layer}")
"""The SAE of the first arm: only the named thing differs from it."""
ARMS = (
    Arm("features-s0", "feature-diff"),
    Arm("logits", "logit-distill"),
    Arm("features-256", "feature-diff", (*SAME_SAE, "features=256")),
    Arm("random-features", "random-features", SAME_SAE),
    Arm("features-s1", "feature-diff", seed=1),
    Arm("features-s2", "feature-diff", seed=2),
    Arm("features-siblings", "feature-diff", (*SAME_SAE, *WITH_SIBLING)),
    Arm("pca", "pca-diff", ("scale=1",)),
    Arm("sae-tuning", "sae-tuning"),
    Arm("features-of-target", "feature-diff", (*SAME_SAE, OF_TARGET)),
)
"""Three seeds of the features; the upper bound (the source's logits); more of the features; the control of which features; one LoRA that has to serve target and
helper at once; the difference without an SAE; the paper's method; and rollouts that the target wrote in place of the source."""
