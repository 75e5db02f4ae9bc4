"""Which settings of a recipe a method looks at: one that is asked for and plays no part is a mistake."""

from collections.abc import Callable, Sequence

from ..config.methods import METHODS
from ..config.recipe import Recipe
from ..core.errors import Usage

USED: dict[str, tuple[Callable[[Recipe], bool], str]] = {
    "hookpoint": (lambda r: METHODS[r.method].sae or bool(METHODS[r.method].patches), "it looks at no layer"),
    "features": (lambda r: bool(METHODS[r.method].patches), "it patches no features"),
    "scale": (lambda r: bool(METHODS[r.method].patches), "it has no patch"),
    "selection": (lambda r: METHODS[r.method].selects, "it selects no features"),
    "rounds": (lambda r: METHODS[r.method].trains_on == "rollouts", "it trains on no rollouts"),
    "rollouts": (lambda r: METHODS[r.method].trains_on == "rollouts", "it trains on no rollouts"),
    "rollouts.of_source": (lambda r: METHODS[r.method].sae, "it has no SAE"),
    "norm": (lambda r: METHODS[r.method].trains_on is None, "it learns its weights"),
    "norm_of": (lambda r: METHODS[r.method].trains_on is None, "it learns its weights"),
    "trigger": (lambda r: METHODS[r.method].splices, "it reads the elicitation data alone"),
    "training": (lambda r: METHODS[r.method].trains_on is not None, "it trains nothing"),
    "training.mask_prompt": (lambda r: METHODS[r.method].supervised, "it learns no labels"),
    "training.chunk_tokens": (lambda r: METHODS[r.method].trains_on == "texts", "it packs no texts"),
    "training.max_tokens": (lambda r: METHODS[r.method].trains_on == "texts", "it reads no texts of the data"),
    "training.kl": (lambda r: METHODS[r.method].teacher, "it has no teacher"),
    "training.reduction": (lambda r: METHODS[r.method].teacher, "it has no teacher"),
    "lora.dropout": (lambda r: METHODS[r.method].trains_on is not None, "it trains nothing"),
    "sae": (lambda r: METHODS[r.method].sae, "it has no SAE"),
    "sae.latents": (lambda r: r.sae.mode == "scratch", "the SAE that it starts from has its own"),
    "sae.k": (lambda r: r.sae.mode == "scratch", "the SAE that it starts from has its own"),
    "sae.origin": (lambda r: r.sae.mode != "scratch", "its SAE is made from scratch"),
    "sae.any_hookpoint": (lambda r: r.sae.mode != "scratch", "its SAE is made from scratch"),
    "sae.reset_bias": (lambda r: r.sae.mode == "finetuned", "a new SAE always begins so, and a pretrained one stays"),
    "sae.optimizer": (lambda r: r.sae.mode != "pretrained", "its SAE is taken as it is"),
    "sae.learning_rate": (lambda r: r.sae.mode != "pretrained", "its SAE is taken as it is"),
    "sae.encoder": (lambda r: r.sae.mode != "pretrained", "its SAE is taken as it is"),
    "sae.batch_tokens": (lambda r: r.sae.mode != "pretrained", "its SAE is taken as it is"),
    "sae.steps": (lambda r: r.sae.mode != "pretrained", "its SAE is taken as it is"),
    "sae.epochs": (
        lambda r: r.sae.mode != "pretrained" and r.sae.steps is None,
        "its SAE is taken as it is, or sae.steps counts",
    ),
}
"""Key of a recipe, or a part of it -> (whether it plays a part, why not)."""


KEYS = {"layer": "hookpoint"}
"""Option -> the key that it sets, where that has another name."""


def check_used(recipe: Recipe, options: Sequence[str], settings: Sequence[str] = ()) -> None:
    """options: names of those that were given; settings: `key=value`. Raises `Usage` for the first that has no effect
    with this recipe, and for a key that an option sets, too.

    A program may share a list of settings between methods: only a command line is held to this for its `--set`.
    """
    asked = [(f"--{option}", KEYS.get(option, option)) for option in options]
    asked += [(f"--set {key}", key) for key in (setting.partition("=")[0].strip() for setting in settings)]
    settable = {KEYS.get(option, option): f"--{option}" for option in options}
    for option, key in asked:
        if settable.get(key, option) != option:
            raise Usage(f"{settable[key]} and {option} set the same", "say it once")
        parts = key.split(".")
        for length in range(1, len(parts) + 1):
            used, why = USED.get(".".join(parts[:length]), (None, ""))
            if used and not used(recipe):
                step = "leave it out, or choose another --method"
                raise Usage(f"{option} has no effect with {recipe.method}: {why}", step)
