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
MAIN = (Arm("features", "feature-diff", seeds=3, controls=1),)
"""The features' own claim: three seeds of everything, SAE and rollouts included."""
OTHERS = (
    Arm("logits", "logit-distill"),
    Arm("random-features", "random-features"),
    Arm("features-of-target", "feature-diff", (OF_TARGET,)),
    Arm("logits-of-target", "logit-distill", (OF_TARGET,)),
    Arm("pca", "pca-diff"),
    Arm("sae-tuning", "sae-tuning"),
)
"""What else the same source, target and budget give: the upper bound, the control of which features, rollouts of the target in place of the source's."""
GROUPS = (MAIN, OTHERS)
"""Each group is one family of tests on a target, and is finished before the next one is begun."""
