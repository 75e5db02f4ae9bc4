"""The model card, generated from the manifest.

What stands between the two marks is a person's and is kept when the card is made again.
"""

import re
from pathlib import Path
from typing import Any

from ..config.refs import HUB_ID
from .describe import sae_figures, short_revision
from .fit import VLLM_RANKS
from .manifest import Manifest

BEGIN, END = "<!-- notes: what stands below is yours and is kept -->", "<!-- end of notes -->"
NOTES = re.compile(re.escape(BEGIN) + r"\n(.*?)\n?" + re.escape(END), re.DOTALL)
COMMIT = re.compile(r"[0-9a-f]{40}")
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def render(
    manifest: Manifest, evaluations: list[dict[str, Any]] | None = None, present: str = "", verdicts: str = ""
) -> str:
    """The card of an adapter.

    evaluations: the documents in its `evals/`. present: the card as it is, whose notes are kept. verdicts: Markdown of
    the evaluations.
    """
    import jinja2

    notes = NOTES.search(present)
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        m=manifest,
        front=front_matter(manifest, evaluations or []),
        saes=sae_figures(manifest),
        verdicts=verdicts,
        commit=manifest.base.revision if COMMIT.fullmatch(manifest.base.revision) else "",
        rank=_served_rank(manifest),
        shortened=short_revision,
        begin=BEGIN,
        end=END,
        notes=notes[1] if notes else "",
    )
    return text + "\n"


def _served_rank(manifest: Manifest) -> int:
    """The smallest rank that vLLM takes for this adapter."""
    rank = manifest.recipe.lora.rank if manifest.recipe else manifest.run.findings.get("rank", 16)
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), rank)


def front_matter(manifest: Manifest, evaluations: list[dict[str, Any]]) -> str:
    """YAML as the Hub reads it, evaluation results included."""
    from huggingface_hub import EvalResult, ModelCardData

    hub_ids = (data.id for data in manifest.data.values() if HUB_ID.fullmatch(data.id))
    datasets = sorted({id_ for id_ in hub_ids if not id_.startswith("resa-hub/")})
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=str(e["benchmark"]),
            dataset_name=f"{e['benchmark']} ({e['split']})",
            metric_type="accuracy",
            metric_value=round(float(arm["score"]), 2),
            metric_name=f"avg@{e.get('samples')} on {e['target']}, percent; verdict: {e['verdict']}",
        )
        for e in evaluations
        for arm in _scored_arms(e)
    ]
    data = ModelCardData(
        library_name="peft",
        base_model=manifest.base.id if HUB_ID.fullmatch(manifest.base.id) else None,
        base_model_relation="adapter",
        pipeline_tag="text-generation",
        license=manifest.license,
        datasets=datasets or None,
        tags=["lora", "resa", "resa-hub", manifest.method],
        model_name=manifest.name,
        eval_results=results or None,
    )
    return data.to_yaml()


def _scored_arms(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The arms of the adapter itself that have a score."""
    arms = (arm for arm in evaluation.get("arms", []) if isinstance(arm, dict))
    return [arm for arm in arms if arm.get("role") == "adapter" and isinstance(arm.get("score"), int | float)]
