"""`python scripts/schema.py`: write the published JSON Schema of `resa.json` anew."""

import json
from pathlib import Path

import msgspec

from resa_hub.adapter.manifest import SCHEMA, Manifest

PATH = Path(__file__).resolve().parent.parent / "docs" / "schema" / f"resa-{SCHEMA}.json"


def schema() -> str:
    """JSON Schema 2020-12, as msgspec derives it from the types that read a manifest."""
    (top,), definitions = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    title = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of a resa-hub adapter (resa.json)",
    }
    return json.dumps(title | top | {"$defs": definitions}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(schema())
