"""The model card, generated from the manifest."""

from typing import Any

from .manifest import Manifest

TEMPLATE = """\
---
library_name: peft
base_model: {{ m.base.id }}
base_model_relation: adapter
pipeline_tag: text-generation
tags: [lora, resa, resa-hub, {{ m.method }}]
---

# {{ m.name }} {{ m.version }}

A reasoning adapter: a LoRA extracted by `{{ m.method }}` from **{{ m.source }}** at `{{ m.hookpoint }}`, trained on **{{ m.base.id }}**.

| | |
|---|---|
| content hash | `{{ m.content_hash }}` |
| base | `{{ m.base.id }}` at `{{ m.base.revision[:23] }}` |
| source | `{{ m.source }}` |
{%- for role, data in m.data.items() %}
| {{ role }} data | {{ data.name }}: {{ data.rows }} rows of `{{ data.id }}` |
{%- endfor %}
| LoRA | rank {{ m.recipe.lora.rank }}, alpha {{ m.recipe.lora.alpha }}, {{ m.recipe.lora.modules | join(", ") }} |
{%- if m.sae %}
| SAE | {{ m.sae.latents }} latents, k = {{ m.sae.k }}, FVU {{ "%.3f" | format(m.sae.quality.fvu_without_first) }} on held-out tokens |
{%- endif %}
| effect on its own base | KL {{ "%.3g" | format(m.probe.kl) }} nats a token on the probe texts |
| recipe | `{{ m.recipe_digest }}`, seed {{ m.seed }} |

## Use

```
resa-hub attach {{ m.reference }} --target TARGET --prompt "..."
```

```python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "this/folder")
```

## What is known of it

{{ verdicts or "No evaluation is attached. Nothing is claimed: run `resa-hub eval " ~ m.name ~ "` to compare it with controls." }}

It works on models that share the weights' basis with its base; `resa-hub attach` measures that before loading anything.
"""


def render(manifest: Manifest, verdicts: str = "") -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(m=manifest, verdicts=verdicts) + "\n"


def verdict_lines(evaluations: list[dict[str, Any]]) -> str:
    """One line a saved evaluation, in words."""
    return "\n".join(f"- **{e['verdict']}** on {e['target']}, {e['benchmark']}: {e['sentence']}" for e in evaluations)
