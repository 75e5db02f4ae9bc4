"""What to do with an adapter: where it is fetched, how it is attached, loaded by PEFT and served, on which terms."""

import re
import shlex

import msgspec

from ..config.refs import HUB_ID, is_path
from .fit import VLLM_RANKS
from .manifest import Manifest

EMBEDDED = "resa-hub/"
"""How ids of models inside the package begin."""
COMMIT = re.compile(r"[0-9a-f]{40}")
LICENSE = re.compile(r"[\w.+() -]{1,100}", re.ASCII)
UNKNOWN_PLACE, UNKNOWN_BASE = "OWNER/NAME", "BASE"
EXPORTED = "plain-folder"


class Snippet(msgspec.Struct, frozen=True):
    """Lines to copy."""

    about: str
    language: str
    """`sh` or `python`."""
    code: str


def snippets(manifest: Manifest, place: str = "") -> list[Snippet]:
    """Fetch, attach, PEFT, vLLM. place: `owner/name` of the Hub; empty where it is not known."""
    base = base_id(manifest)
    return [_fetch(manifest, place), _attach(manifest, base), _peft(manifest, base, place), _vllm(manifest, base)]


def base_id(manifest: Manifest) -> str:
    """The base as it may stand in lines that people copy; `BASE` where its name is unknown, or is no name of a model.

    A manifest may be a stranger's.
    """
    named = manifest.base.id
    is_name = HUB_ID.fullmatch(named) or (is_path(named) and named.isprintable() and not set(named) & set("`<>"))
    return named if is_name else UNKNOWN_BASE


def license_sentence(manifest: Manifest) -> str:
    """The licence of the adapter, or what is known instead."""
    base = base_id(manifest)
    if manifest.license and LICENSE.fullmatch(manifest.license):
        return f"Licence: {manifest.license}."
    if base.startswith(EMBEDDED):
        return "Licence: none is recorded for the adapter; its base is a part of resa-hub (Apache-2.0)."
    return (
        f"Licence: none is recorded. It was made from other models and data: read the licences of "
        f"{'its base' if base == UNKNOWN_BASE else base}, of its source and of the data before it is used or shared."
    )


def served_rank(manifest: Manifest) -> int | None:
    """The smallest rank that vLLM takes for this adapter; None where it takes none."""
    rank = manifest.recipe.lora.rank if manifest.recipe else manifest.run.findings.get("rank")
    if not isinstance(rank, int):
        rank = 16
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def _fetch(manifest: Manifest, place: str) -> Snippet:
    about = "Fetch it; every byte is checked."
    if not place:
        about += f" {UNKNOWN_PLACE} stands for where it was pushed, which is not recorded here."
    return Snippet(about, "sh", f"resa-hub pull hf:{place or UNKNOWN_PLACE}@v{manifest.version}")


def _attach(manifest: Manifest, base: str) -> Snippet:
    target = base + (f"@{_commit(manifest)}" if _commit(manifest) else "")
    about = "Attach it to its base, or to another model; its effect is proved."
    return Snippet(
        about, "sh", f'resa-hub attach {manifest.reference} --target {shlex.quote(target)} \\\n  --prompt "..."'
    )


def _peft(manifest: Manifest, base: str, place: str) -> Snippet:
    lines = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM"]
    if base.startswith(EMBEDDED):
        lines += [
            "from resa_hub.data import tiny",
            "",
            f'base = AutoModelForCausalLM.from_pretrained(tiny.locate("{base}"))',
        ]
    else:
        commit = f', revision="{_commit(manifest)}"' if _commit(manifest) else ""
        lines += ["", f"base = AutoModelForCausalLM.from_pretrained({_quoted(base)}{commit})"]
    if place:
        lines.append(f'model = PeftModel.from_pretrained(base, "{place}", revision="v{manifest.version}")')
        return Snippet("In Python, with PEFT.", "python", "\n".join(lines))
    lines.append(f"# written by: resa-hub export {manifest.reference} {EXPORTED}")
    lines.append(f'model = PeftModel.from_pretrained(base, "{EXPORTED}")')
    return Snippet("In Python, with PEFT.", "python", "\n".join(lines))


def _vllm(manifest: Manifest, base: str) -> Snippet:
    rank = served_rank(manifest)
    if rank is None:
        about = f"vLLM takes LoRAs up to rank {VLLM_RANKS[-1]}, and this one is larger: merge it into its base."
        merge = f"resa-hub attach {manifest.reference} --target {shlex.quote(base)} --merge merged\nvllm serve merged"
        return Snippet(about, "sh", merge)
    lines, served = [f"resa-hub export {manifest.reference} {EXPORTED}"], shlex.quote(base)
    if base.startswith(EMBEDDED):
        lines.append(f"""base=$(python -c 'from resa_hub.data import tiny; print(tiny.locate("{base}"))')""")
        served = '"$base"'
    commit = f" --revision {_commit(manifest)}" if _commit(manifest) else ""
    lines += [
        f"vllm serve {served}{commit} \\",
        f"  --enable-lora --max-lora-rank {rank} \\",
        f"  --lora-modules {manifest.name}={EXPORTED}",
    ]
    about = (
        f"With vLLM. Ask it for the model {manifest.name}: a request for the base's name is answered by the base alone."
    )
    return Snippet(about, "sh", "\n".join(lines))


def _commit(manifest: Manifest) -> str:
    """The base's commit on the Hub; empty for other revisions."""
    return manifest.base.revision if COMMIT.fullmatch(manifest.base.revision) else ""


def _quoted(text: str) -> str:
    """A Python string with double quotes, as in the lines around it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
