"""The arms: which adapters are extracted, with which settings and seeds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    name: str
    method: str
    settings: tuple[str, ...] = ()
    """`--set` of the product, over the recipe `smol`."""
    seeds: int = 1
    controls: int = 0
    """Random adapters of its own norm that each adapter is judged beside."""

    def adapters(self) -> list[tuple[str, int]]:
        """(name in the store, seed)."""
        return [(f"{self.name}-s{seed}", seed) for seed in range(self.seeds)]


OF_TARGET = "rollouts.source_share=0"
SAME_SAE = ("sae.mode=pretrained", "sae.origin=./adapters/features-s0/0.1.0/sae/layers.{layer}")
"""The SAE of the first main arm: only the named thing differs from it."""
MAIN = (Arm("features", "feature-diff", seeds=3, controls=1),)
"""The features' own claim: three seeds of everything, SAE and rollouts included."""
CONTRASTS = (
    Arm("logits", "logit-distill"),
    Arm("random-features", "random-features", SAME_SAE),
    Arm("features-of-target", "feature-diff", (*SAME_SAE, OF_TARGET)),
    Arm("logits-of-target", "logit-distill", (OF_TARGET,)),
)
"""The upper bound, the control of which features, and both on rollouts of the target in place of the source's."""
BASELINES = (Arm("pca", "pca-diff", ("scale=1",)), Arm("sae-tuning", "sae-tuning"))
GROUPS = (MAIN, CONTRASTS, BASELINES)
"""Each group is one family of tests on a target, and is finished before the next one is begun."""
