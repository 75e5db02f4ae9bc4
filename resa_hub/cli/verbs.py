"""The table of verbs: what the root's help shows, and the function that is imported when the verb is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import plugins


class Verb(NamedTuple):
    place: str | Callable[..., Any]
    """`module:function`, of this package or, when the module's name has a dot, of anywhere; or the function."""
    about: str = ""
    """The first line of the function's docstring."""
    example: str = ""
    panel: str = "Plugins"
    """The heading under which the root's help shows it."""
    verbs: dict[str, "Verb"] = {}
    """Of a noun: its verbs. The first is meant where none is named."""
    meant: dict[str, str] = {}
    """Of a noun: an option that only one of its verbs has -> that verb, which then needs no naming."""


def _row(fields: str | dict[str, Any]) -> Verb:
    """A row of a plugin: a place, or a dictionary of the fields above."""
    return Verb(**fields) if isinstance(fields, dict) else Verb(fields)


MAKE, USE, JUDGE, SHARE, KEEP = "Make", "Use", "Judge", "Share", "Keep"

COMMANDS: dict[str, Verb] = {
    "demo": Verb("demo:demo", "The whole hub in two minutes, on the embedded models.", "demo", MAKE),
    "extract": Verb(
        "extract:extract",
        "Make an adapter from a source model.",
        "extract --source tina-tiny --method feature-diff",
        MAKE,
    ),
    "sweep": Verb(
        "sweep:sweep",
        "Extract at many layers, and say whether layers differ at all.",
        "sweep --source tina-tiny --layers 0-3 --dry-run",
        MAKE,
    ),
    "reproduce": Verb(
        "reproduce:reproduce",
        "Make an adapter again: the same bytes, or what differs and how far.",
        "reproduce my-adapter@0.1.0",
        MAKE,
    ),
    "import": Verb(
        "import_export:import_",
        "Take in a plain PEFT LoRA, or an SAE, that was made elsewhere.",
        "import ./my-lora --name my-adapter",
        MAKE,
    ),
    "recipe": Verb(
        "recipe:list_",
        "All recipes that can be run by name.",
        "recipe show resa-still-v1",
        MAKE,
        {
            "list": Verb("recipe:list_", "All recipes that can be run by name.", "recipe list"),
            "show": Verb(
                "recipe:show",
                "A recipe fully resolved: every field, and who says so.",
                "recipe show resa-still-v1",
            ),
        },
    ),
    "attach": Verb(
        "attach:attach",
        "Put an adapter on a model, prove its effect, and generate.",
        "attach my-adapter --target tiny-r1 --prompt '7*7-8+6-4='",
        USE,
    ),
    "export": Verb(
        "import_export:export",
        "A plain PEFT folder for serving stacks.",
        "export my-adapter ./for-vllm",
        USE,
    ),
    "eval": Verb(
        "evaluate:judge",
        "Judge whether the reasoning transferred, against controls.",
        "eval my-adapter --target tiny-r1",
        JUDGE,
        {
            "judge": Verb(
                "evaluate:judge",
                "Judge whether the reasoning transferred, against controls.",
                "eval my-adapter --target tiny-r1 --benchmark math500 --page report.html",
            ),
            "plan": Verb(
                "evaluate:plan",
                "Say which size shows a difference and what it costs.",
                "eval plan my-adapter --target tiny-r1 --detect 3",
            ),
            "logs": Verb(
                "evaluate:logs",
                "Judge logs of lm-eval, inspect or lighteval.",
                "eval logs base=base.json adapter=adapter.json",
            ),
            "harness": Verb(
                "evaluate:harness",
                "Let lm-eval or inspect run the arms, and judge what it found.",
                "eval harness my-adapter --target tiny-r1 --tool lm-eval --tasks gsm8k",
            ),
        },
        {"--plan": "plan", "--import": "logs", "--harness": "harness", "--tool": "harness", "--tasks": "harness"},
    ),
    "matrix": Verb(
        "matrix:matrix",
        "Which adapter helps which model: a verdict in every cell.",
        "matrix --sources tina-tiny --targets tiny-r1,tiny-r1b",
        JUDGE,
    ),
    "report": Verb(
        "report:report",
        "Write evaluations as one page.",
        "report my-adapter --out report.html",
        JUDGE,
    ),
    "push": Verb(
        "push:push",
        "Send an adapter to a folder, the Hub or a container registry.",
        "push my-adapter --to folder:/mnt/adapters",
        SHARE,
    ),
    "pull": Verb(
        "pull:pull",
        "Fetch an adapter, check every byte, and put it into the store.",
        "pull hf:owner/name@v0.1.0",
        SHARE,
    ),
    "search": Verb(
        "search:search",
        "Find adapters by base model, tag and verdict.",
        "search --base r1-distill-1.5b --verdict transferred",
        SHARE,
    ),
    "list": Verb("store:list_", "The adapters of the store.", "list --target tiny-r1", KEEP),
    "show": Verb("store:show", "What an adapter is, from what it was made, and its verdicts.", "show my-adapter", KEEP),
    "log": Verb(
        "versions:log",
        "The versions of an adapter, newest first.",
        "log my-adapter",
        KEEP,
    ),
    "diff": Verb(
        "versions:diff",
        "Two adapters side by side.",
        "diff my-adapter@0.1.0 my-adapter@0.2.0",
        KEEP,
    ),
    "verify": Verb(
        "store:verify", "Check every byte of adapters against their manifests.", "verify --deep my-adapter", KEEP
    ),
    "tag": Verb("versions:tag", "Give a version a label: NAME@LABEL then names it.", "tag my-adapter@0.2.0 best", KEEP),
    "rm": Verb("versions:rm", "Remove adapters from the store.", "rm my-adapter@0.1.0", KEEP),
    "gc": Verb("versions:gc", "Free what no adapter of the store needs any more.", "gc --dry-run", KEEP),
    "cache": Verb(
        "cache:list_",
        "What is kept beside the adapters, and freeing it.",
        "cache free --older-than 30d --dry-run",
        KEEP,
        {
            "list": Verb(
                "cache:list_",
                "What is kept beside the adapters: size, last use, and whether it is safe to free.",
                "cache list samples",
            ),
            "free": Verb("cache:free", "Free what can be made or fetched again.", "cache free --older-than 30d"),
        },
    ),
    "doctor": Verb("doctor:doctor", "Is everything in order here, and what to do where it is not.", "doctor", KEEP),
    "registry": Verb(
        "registry:registry",
        "The names everybody starts with, and where each comes from.",
        "registry models",
        KEEP,
        {
            "list": Verb(
                "registry:registry", "The names everybody starts with, and where each comes from.", "registry models"
            ),
            "pin": Verb(
                "registry:pin",
                "Fix names to the commits they stand for now, in the workspace's registry.yaml.",
                "registry pin model:r1-distill-1.5b",
            ),
        },
    ),
} | {name: _row(fields) for name, fields in plugins.rows("COMMANDS").items()}
"""In the order of the help."""
