"""`eval` in its forms: judge adapters, plan how many samples a difference needs, judge logs of other tools, let a tool
run the arms.
"""

from typing import Annotated, Any

from typer import Argument, Option

from ..core.errors import Usage
from . import ask, complete, options
from .options import OptionGroup
from .output import Output

Names = Annotated[
    list[str] | None,
    Argument(help="NAME or NAME@VERSION, one or more of one source.", autocompletion=complete.adapters),
]
Problems = Annotated[int | None, Option("--problems", help="All of a fixed benchmark when not given.", min=2)]
Samples = Annotated[int, Option("--samples", help="Samples a problem at the benchmark's temperature.", min=1)]
Seed = Annotated[int, Option("--seed", help="Of the common random numbers.", min=0)]
Arms = Annotated[
    str,
    Option(
        "--arms",
        help="Beside base and the adapters: some of source,random,sft,pca-diff (usual),negated,prompt-only; all; none.",
    ),
]
EngineName = Annotated[
    str, Option("--engine", help="transformers, vllm, or auto: vLLM where it is installed and a GPU is there.")
]
Dtype = Annotated[str, Option("--dtype", help="float32, bfloat16, float16, or auto: float32 without a GPU.")]
TensorParallel = Annotated[int, Option("--tensor-parallel", help="GPUs for one model (vLLM).", min=1)]
GpuMemory = Annotated[
    float | None, Option("--gpu-memory", help="Share of each GPU's memory that vLLM may take; usually 0.9.")
]
Tolerance = Annotated[
    float | None, Option("--tolerance", help="Nats that vLLM's self-check lets pass as rounding; by --dtype.")
]
Metric = Annotated[str | None, Option("--metric", help="Of imported logs.")]
Quick = Annotated[
    bool,
    Option(
        "--quick",
        help="Small and fixed: 100 problems of math500 (tiny models: 200 of tiny-chain), 2 samples, 1 control.",
    ),
]


Workers = Annotated[
    int, Option("--workers", help="Processes that share the samples, each with an engine and GPUs of its own.", min=1)
]
Lora = Annotated[
    str, Option("--lora", help="Adapters merged into the weights, beside them in one batch, or auto: what is faster.")
]
Split = Annotated[str | None, Option("--split", help="full, dev or test; tiny-chain has test, dev and train.")]
Choosing = Annotated[
    bool,
    Option(
        "--choosing",
        help="To choose between checkpoints or settings: stays with the adapters, later verdicts on these problems say "
        "so.",
    ),
]
Greedy = Annotated[bool, Option("--greedy/--no-greedy", help="Also show greedy answers; the verdict never uses them.")]
Detect = Annotated[float, Option("--detect", help="Points that the plan is made for.")]
Tool = Annotated[str | None, Option("--tool", "--harness", help="lm-eval or inspect.")]
Tasks = Annotated[
    str | None,
    Option("--tasks", help="Of the tool, with commas: its names, or files (.yaml, .py@task); --problems is the limit."),
]


def engines(
    engine: EngineName = "auto",
    dtype: Dtype = "auto",
    workers: Workers = 1,
    tensor_parallel: TensorParallel = 1,
    lora: Lora = "auto",
    gpu_memory: GpuMemory = None,
    tolerance: Tolerance = None,
) -> Any:
    from ..evaluation.sampling.engines import Engines

    return Engines(engine, dtype, tensor_parallel, workers, lora, gpu_memory, tolerance)


def settings(
    benchmark: Annotated[
        str, Option("--benchmark", help="NAME, FILE or NAME=FILE.", autocompletion=complete.benchmarks)
    ] = "tiny-chain",
    problems: Problems = None,
    samples: Samples = 4,
    controls: options.Controls = 3,
    split: Split = None,
    seed: Seed = 0,
    problem_seed: options.ProblemSeed = 0,
    choosing: Choosing = False,
    greedy: Greedy = True,
    arms: Arms = "usual",
    new_tokens: options.NewTokens = None,
    engines: Annotated[Any, OptionGroup(engines)] = None,
) -> Any:
    from ..adapter.results import MODEL_SELECTION, TEST
    from ..evaluation.plan import EvalSettings

    return EvalSettings(
        benchmark=benchmark,
        problems=problems,
        samples=samples,
        seeds=controls,
        split=split,
        seed=seed,
        greedy=greedy,
        problem_seed=problem_seed,
        arms=tuple(arms.split(",")),
        engines=engines,
        new_tokens=new_tokens,
        purpose=MODEL_SELECTION if choosing else TEST,
    )


Settings = Annotated[Any, OptionGroup(settings)]


def judge(
    names: Names = None,
    target: options.Target = None,
    settings: Settings = None,
    quick: Quick = False,
    page: options.Page = None,
    force: options.Force = False,
    rate: options.Rate = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Judge whether the reasoning transferred, against controls.

    Base, source, adapters and random adapters answer the same problems with the same random numbers.
    """
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.evaluate import evaluate
    from ..evaluation.forecast import forecast
    from .render import page as report
    from .render import verdicts

    adapters, model = _required(names, target)
    opened = Workspace.find(workspace)
    report.check(page)
    settings = _asked(settings, quick, adapters, model, opened)
    told = forecast(adapters, model, settings, opened, force, rate)
    if dry_run:
        return verdicts.planned(out, told, page)
    ask.before_long_run(out, told.estimate, yes)
    progress = Progress(quiet=out.silent)
    results = evaluate(adapters, target=model, settings=settings, workspace=workspace, force=force, progress=progress)
    report.write(results, opened, page)
    if verdicts.show_all(out, results):
        report.tell(out, page)


def plan(
    names: Names = None,
    target: options.Target = None,
    settings: Settings = None,
    quick: Quick = False,
    detect: Detect = 3.0,
    force: options.Force = False,
    rate: options.Rate = None,
    workspace: options.Workspace = None,
    plan: Annotated[bool, Option("--plan", hidden=True)] = True,
    out: options.Out = Output(),
) -> None:
    """Say which size shows a difference and what it costs.

    Nothing is generated.
    """
    from ..adapter.workspace import Workspace
    from ..evaluation.power_analysis import power_analysis
    from .render import sizes

    adapters, model = _required(names, target)
    opened = Workspace.find(workspace)
    settings = _asked(settings, quick, adapters, model, opened)
    sizes.show(out, power_analysis(adapters, model, settings, detect, opened, force, rate))


def logs(
    files: Annotated[list[str] | None, Argument(help="ARM=FILE, once an arm: base, adapter, source, controls.")] = None,
    more: Annotated[list[str] | None, Option("--import", help="The same as an option.")] = None,
    metric: Metric = None,
    workspace: options.Workspace = None,  # not needed, but scripts give it to every command
    out: options.Out = Output(),
) -> None:
    """Judge logs of lm-eval, inspect or lighteval."""
    from .render import imported

    named = [*(files or ()), *(more or ())]
    if not named:
        raise Usage("no log is named", "resa-hub eval logs base=FILE adapter=FILE")
    imported.show(out, named, metric)


def harness(
    names: Names = None,
    target: options.Target = None,
    tool: Tool = None,
    tasks: Tasks = None,
    problems: Problems = None,
    samples: Samples = 4,
    controls: options.Controls = 3,
    seed: Seed = 0,
    arms: Arms = "usual",
    new_tokens: options.NewTokens = None,
    engine: EngineName = "auto",
    dtype: Dtype = "auto",
    tensor_parallel: TensorParallel = 1,
    metric: Metric = None,
    force: options.Force = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Let lm-eval or inspect run the arms, and judge what it found."""
    from ..adapter.workspace import Workspace
    from ..evaluation.harness.commands import HarnessConfig
    from ..evaluation.harness.run import outline, plan
    from ..evaluation.sampling.engines import Engines
    from .render import harnessed

    adapters, model = _required(names, target)
    if not tool:
        raise Usage("no tool is named", "--tool lm-eval --tasks gsm8k")
    named = tuple(task.strip() for task in (tasks or "").split(",") if task.strip())
    config = HarnessConfig(named, problems, samples, seed, new_tokens, Engines(engine, dtype, tensor_parallel))
    choices = {"arms": arms.split(","), "controls": controls, "force": force}
    opened = Workspace.find(workspace)
    if dry_run:
        return harnessed.planned(out, [outline(name, model, tool, config, opened, **choices) for name in adapters])
    plans = [plan(name, model, tool, config, opened, **choices) for name in adapters]
    harnessed.show(out, plans, model, metric)


def _required(names: list[str] | None, target: str | None) -> tuple[list[str], str]:
    if not names or not target:
        missing = "--target is missing" if names else "no adapter is named"
        raise Usage(
            missing, "resa-hub eval NAME --target TARGET, or resa-hub eval logs ARM=FILE for logs of other tools"
        )
    return names, target


FIELDS = {
    "controls": "seeds",
    "choosing": "purpose",
    **{name: name for name in ("benchmark", "problems", "samples", "split", "greedy", "problem_seed", "new_tokens")},
}
"""Option -> field of `EvalSettings`, of those that `--quick` sets."""


def _asked(settings: Any, small: bool, names: list[str], target: str, workspace: Any) -> Any:
    """The settings of the command line; small: the preset, with what stands on the command line beside it. A missing
    adapter is said before anything is asked of the target.
    """
    from dataclasses import replace

    from ..evaluation.plan import chosen, quick
    from ..evaluation.question import check_usual_benchmark

    chosen(names, target, workspace)
    if not small:
        if not options.given("benchmark"):
            check_usual_benchmark(target, workspace)
        return settings
    kept = {field: getattr(settings, field) for name, field in FIELDS.items() if options.given(name)}
    return replace(quick(settings, target, workspace, benchmark=kept.get("benchmark")), **kept)
