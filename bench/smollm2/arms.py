"""The arms: which adapters are extracted, with which settings and seeds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    name: str
    method: str
    settings: tuple[str, ...] = ()
    """`--set` of the product, over the recipe `smol`."""
    seeds: int = 1
    main: bool = False
    """Judged beside random controls of its own norm."""

    def adapters(self) -> list[tuple[str, int]]:
        """(name in the store, seed)."""
        return [(f"{self.name}-s{seed}", seed) for seed in range(self.seeds)]


ARMS = (
    Arm("features-64", "feature-diff", ("features=64",)),
    Arm("logits", "logit-distill"),
)
