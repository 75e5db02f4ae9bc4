"""Files and folders: of a workspace, an adapter, the user, and the caches."""

from resa_hub.adapter import blobs, layout, staging, store
from resa_hub.core.files import MAX_TEXT, MAX_WEIGHTS
from resa_hub.core.quantities import size
from resa_hub.hub import signing
from resa_hub.upkeep.kept import KINDS

from .markdown import code, table
from .markdown import page as whole

ABOUT = """Everything that resa-hub writes lies in the workspace, in two folders of the user, and in the Hub client's
cache. Paths of a user are those of Linux; macOS and Windows have their own places for caches and configurations."""

WORKSPACE = {
    "adapters/": "the store; the folder that makes a workspace",
    "adapters/NAME/VERSION/": "one version of an adapter: a plain PEFT folder, see below",
    f"adapters/NAME/{store.LABELS}": "label -> version; a label may move, a version never changes",
    f"adapters/{blobs.FOLDER}/": "the bytes of all versions once; version folders hold hard links to them",
    f"adapters/{staging.STAGING}/": "what is being written; it enters the store by one rename",
    "adapters/.lock": "held while the store changes",
    "saes/NAME/HOOKPOINT/": "SAEs that `import --sae` took in",
    "registry.yaml": "names of your own: models, data sets, benchmarks, recipes, settings; it beats the user's",
    signing.POLICY: "whose signatures are asked for when adapters are pulled",
    ".resa-hub/": "what is kept beside the adapters, see below",
}
ADAPTER = {
    layout.WEIGHTS: "the LoRA",
    layout.CONFIG: "its PEFT configuration",
    layout.MANIFEST: "the manifest: lineage, hashes, effect ([schema](../schema/resa-1.json))",
    layout.CARD: "the model card, generated from the manifest and the verdicts",
    f"{layout.SAE}layers.N/cfg.json": "the SAE's configuration, in SAELens format; `layers.N.mlp` for one of an MLP",
    f"{layout.SAE}layers.N/sae_weights.safetensors": "the SAE's weights",
    "evals/*.json": "evaluations",
    "evals/*.png": "their plots",
    layout.SIGNATURE: "a signature, where it was signed",
}
USER = {
    "~/.config/resa-hub/registry.yaml": "names for all workspaces",
    f"~/.config/resa-hub/{signing.POLICY}": "a policy of signatures for all workspaces",
    "~/.cache/resa-hub/hub/": "files as `pull` fetched them",
    "~/.cache/huggingface/": "models and data sets of the Hub, shared with other programs; `HF_HOME` moves it",
}
PLACES = {
    "remains": "adapters/, .resa-hub/",
    "controls": ".resa-hub/controls/",
    "rollouts": ".resa-hub/rollouts/",
    "pulls": "~/.cache/resa-hub/hub/",
    "runs": ".resa-hub/work/",
    "reproductions": ".resa-hub/reproduce/",
    "samples": ".resa-hub/samples.sqlite",
    "harness": ".resa-hub/harness/",
    "results": ".resa-hub/matrices/, .resa-hub/sweeps/",
    "huggingface": "~/.cache/huggingface/hub/",
}
"""Kind of `resa-hub cache` -> where it lies."""


def page() -> str:
    return whole(
        "Files and folders",
        ABOUT,
        f"## Of a workspace\n\n{_table(WORKSPACE)}",
        f"## Of an adapter\n\n{_table(ADAPTER)}\n\n{_bounds()}",
        f"## What is kept beside the adapters\n\n{_kept()}",
        f"## Of the user\n\n{_table(USER)}",
    )


def _table(files: dict[str, str]) -> str:
    return table(["path", "what it is"], [[code(path), about] for path, about in files.items()])


def _bounds() -> str:
    return (
        "Nothing else may lie there, and nothing else is sent or taken in. "
        f"Weights may have {size(MAX_WEIGHTS)}, a plot {size(layout.MAX_PLOT)}, every other file {size(MAX_TEXT)}. "
        "The content hash is taken of the LoRA, its configuration and the SAE; card, evaluations and signature may "
        "change around them."
    )


def _kept() -> str:
    rows = [
        [code(name), code(PLACES[name]), kind.about, kind.why, "yes" if kind.safe else "only where it is named"]
        for name, kind in KINDS.items()
    ]
    head = "`resa-hub cache` lists it by kind with sizes, `resa-hub cache free` frees what is safe to free."
    return f"{head}\n\n{table(['kind', 'path', 'what it is', 'when it goes', 'freed'], rows)}"
