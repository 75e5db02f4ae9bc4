"""What an adapter is called when nobody says: a published name only where the recipe is that system."""

from typing import Any

import pytest

from resa_hub.config.registry import Registry
from resa_hub.extraction.plan import plan

REGISTRY = Registry()


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        ({"source": "tina-still"}, "resa-still-v1"),
        ({"source": "tina-still", "seed": 7}, "resa-still-v1"),
        ({"source": "tina-still", "settings": ["trigger.rows=100"]}, "resa-still-v1-changed"),
        ({"source": "tina-still", "settings": ["sae.mode=scratch", "sae.origin=null"]}, "resa-still-v3"),
        ({"source": "tina-still", "target": "qwen-1.5b"}, "resa-qwen"),
        ({"source": "tina-still", "layer": 7}, "resa-still-v1-layer7"),
        ({"recipe": "resa-still-v3", "layer": 7}, "resa-still-v3-layer7"),
        ({"recipe": "resa-still-v3", "layer": 0}, "resa-still-v3-l0"),
        ({"recipe": "resa-still-v3", "layer": 7, "settings": ["lora.rank=8"]}, "resa-still-v3-l7-changed"),
        ({"recipe": "still2open-s1", "method": "sft"}, "still2open-s1-sft"),
        ({"source": "tina-still:checkpoint-100"}, "resa-still-v1-step100"),
        ({"source": "tina-deepscaler", "recipe": "resa-still-v1"}, "tina-deepscaler-sae-tuning-l12"),
        ({"source": "tina-still", "method": "feature-diff"}, "tina-still-feature-diff-l12"),
        ({"source": "tina-tiny"}, "tina-tiny-sae-tuning-l2"),
        ({"source": "tina-tiny", "settings": ["sae.k=4"], "layer": 1}, "tina-tiny-sae-tuning-l1"),
    ],
)
def test_a_published_name_is_kept_for_the_published_recipe(choices: dict[str, Any], name: str) -> None:
    assert plan(registry=REGISTRY, **choices).name == name
