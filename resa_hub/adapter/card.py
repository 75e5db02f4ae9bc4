"""The model card, generated from the manifest: the verdict first, then what to do with the adapter, then what it is.

What stands between the marks of the notes is a person's and is kept when the card is made again, and so is the
repository of the Hub that the card names.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..config.refs import HUB_ID
from ..core.quantities import dollars, duration
from .describe import sae_faults, sae_figures, short_revision
from .manifest import Manifest
from .usage import EMBEDDED, UNKNOWN_PLACE, license_sentence, snippets

BEGIN, END = "<!-- notes: what stands below is yours and is kept -->", "<!-- end of notes -->"
NOTES = re.compile(re.escape(BEGIN) + r"\n(.*?)\n?" + re.escape(END), re.DOTALL)
USE = re.compile(r"<!-- use -->\n.*?\n<!-- end of use -->", re.DOTALL)
PLACE = re.compile(rf"^resa-hub pull hf:({HUB_ID.pattern})@", re.MULTILINE | re.ASCII)
TEMPLATE = Path(__file__).with_name("card.md.jinja")


class Verdicts(NamedTuple):
    """What an adapter's evaluations say, as Markdown."""

    words: str = ""
    """Stands first."""
    plots: str = ""


def render(
    manifest: Manifest,
    evaluations: list[dict[str, Any]] | None = None,
    present: str = "",
    verdicts: Verdicts = Verdicts(),
) -> str:
    """The card of an adapter.

    evaluations: the documents in its `evals/`. present: the card as it is, whose notes and place are kept.
    """
    import jinja2

    notes = NOTES.search(present)
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        m=manifest,
        front=front_matter(manifest, evaluations or []),
        saes=sae_figures(manifest),
        sae_faults=sae_faults(manifest),
        verdicts=verdicts,
        use=_use(manifest, place_of(present)),
        shortened=short_revision,
        dollars=dollars,
        duration=duration,
        begin=BEGIN,
        end=END,
        notes=notes[1] if notes else "",
    )
    return text + "\n"


def place_of(text: str) -> str:
    """The repository of the Hub that a card says the adapter lies in; empty where it names none."""
    use = USE.search(text)
    place = PLACE.search(use[0]) if use else None
    return "" if place is None or place[1] == UNKNOWN_PLACE else place[1]


def placed(text: str, manifest: Manifest, place: str) -> str:
    """A card that names `place`, `owner/name` of the Hub, in the lines to copy; one without such lines as it is."""
    return USE.sub(lambda _: _use(manifest, place), text)


def _use(manifest: Manifest, place: str) -> str:
    parts = [f"{each.about}\n\n```{each.language}\n{each.code}\n```" for each in snippets(manifest, place)]
    body = "\n\n".join([*parts, license_sentence(manifest)])
    return f"<!-- use -->\n{body}\n<!-- end of use -->"


def front_matter(manifest: Manifest, evaluations: list[dict[str, Any]]) -> str:
    """YAML as the Hub reads it, evaluation results included."""
    from huggingface_hub import EvalResult, ModelCardData

    hub_ids = (data.id for data in manifest.data.values() if HUB_ID.fullmatch(data.id))
    datasets = sorted({id_ for id_ in hub_ids if not id_.startswith(EMBEDDED)})
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
