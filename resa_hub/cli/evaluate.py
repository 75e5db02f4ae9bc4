from typing import Annotated

from ..core.errors import Usage
from . import options
from .options import Argument, Option
from .output import Output


def evaluate(
    names: Annotated[list[str] | None, Argument(help="NAME or NAME@VERSION, one or more of one source.")] = None,
    target: Annotated[str | None, Option("--target", help="Model to put the adapters on.")] = None,
    benchmark: Annotated[str, Option("--benchmark", help="NAME, FILE or NAME=FILE.")] = "tiny-chain",
    problems: Annotated[
        int | None, Option("--problems", help="All of a fixed benchmark when not given.", min=2)
    ] = None,
    samples: Annotated[int, Option("--samples", help="Samples a problem at the benchmark's temperature.", min=1)] = 4,
    controls: options.Controls = 3,
    split: Annotated[
        str | None, Option("--split", help="full, dev or test; tiny-chain has test, dev and train.")
    ] = None,
    seed: Annotated[int, Option("--seed", help="Of the common random numbers.")] = 0,
    draw: options.Draw = 0,
    choosing: Annotated[
        bool,
        Option(
            "--choosing",
            help=(
                "To choose between checkpoints or settings: stays with the adapters, later verdicts on these "
                "problems say so."
            ),
        ),
    ] = False,
    greedy: Annotated[
        bool, Option("--greedy/--no-greedy", help="Also show greedy answers; the verdict never uses them.")
    ] = True,
    quick: Annotated[
        bool,
        Option(
            "--quick",
            help="Small and fixed: 100 problems of math500 (tiny models: 200 of tiny-chain), 2 samples, 1 control.",
        ),
    ] = False,
    arms: Annotated[
        str,
        Option(
            "--arms",
            help=(
                "Beside base and the adapters: some of source,random,sft,pca-diff (usual),negated,prompt-only; "
                "all; none."
            ),
        ),
    ] = "usual",
    new_tokens: Annotated[
        int | None, Option("--new-tokens", help="Budget of an answer; the benchmark's own by default.", min=1)
    ] = None,
    engine: Annotated[
        str, Option("--engine", help="transformers, vllm, or auto: vLLM where it is installed and a GPU is there.")
    ] = "auto",
    dtype: Annotated[
        str, Option("--dtype", help="float32, bfloat16, float16, or auto: float32 without a GPU.")
    ] = "auto",
    workers: Annotated[
        int,
        Option("--workers", help="Processes that share the samples, each with an engine and GPUs of its own.", min=1),
    ] = 1,
    tensor_parallel: Annotated[int, Option("--tensor-parallel", help="GPUs for one model (vLLM).", min=1)] = 1,
    lora: Annotated[
        str,
        Option("--lora", help="Adapters merged into the weights, beside them in one batch, or auto: what is faster."),
    ] = "auto",
    page: options.Page = None,
    plan: Annotated[bool, Option("--plan", help="Only say which size shows a difference and what it costs.")] = False,
    detect: Annotated[float, Option("--detect", help="Points that --plan is made for.")] = 3.0,
    logs: Annotated[
        list[str] | None,
        Option(
            "--import",
            help=(
                "ARM=FILE, once an arm (base, adapter, source, controls): judge logs of lm-eval, inspect or lighteval."
            ),
        ),
    ] = None,
    metric: Annotated[str | None, Option("--metric", help="Of imported logs.")] = None,
    harness: Annotated[
        str | None, Option("--harness", help="lm-eval or inspect: that tool runs the arms, and its results are judged.")
    ] = None,
    tasks: Annotated[
        str | None,
        Option(
            "--tasks",
            help="Of the harness, with commas: its names, or files (.yaml, .py@task); --problems is the limit.",
        ),
    ] = None,
    force: options.Force = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Judge whether the reasoning transferred: base, source, adapters and random controls."""
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.evaluate import EvalSettings
    from ..evaluation.evaluate import evaluate as verb
    from ..evaluation.evaluate import plan as resolve
    from ..evaluation.evaluate import quick as in_minutes
    from ..evaluation.reports import ReportQuery, check, report_of, write
    from ..evaluation.sampling.jobs import Engines
    from .render import verdicts

    if logs:
        from .render import imported

        return imported.show(out, logs, metric)
    if not names or not target:
        missing = "--target is missing" if names else "no adapter is named"
        raise Usage(missing, "resa-hub eval NAME --target TARGET, or --import ARM=FILE for logs of other tools")
    if harness or tasks:
        if not harness or page or plan or quick or choosing or split or draw or benchmark != "tiny-chain":
            raise Usage(
                "a harness has tasks of its own: no benchmark, split, draw, page, plan, quick or choosing",
                "--harness lm-eval --tasks gsm8k",
            )
        from .render import harnessed

        made = harnessed.planned(
            names,
            target,
            harness,
            tasks,
            problems,
            samples,
            seed,
            new_tokens,
            Engines(engine, dtype, tensor_parallel),
            arms,
            controls,
            force,
            workspace,
        )
        return harnessed.show(out, made, target, metric, dry_run, Progress(quiet=out.silent))
    if page:
        check(page)
    settings = EvalSettings(
        benchmark,
        problems,
        samples,
        controls,
        split,
        seed,
        greedy,
        draw,
        tuple(arms.split(",")),
        Engines(engine, dtype, tensor_parallel, workers, lora),
        new_tokens,
        "choosing" if choosing else "judging",
    )
    if quick:
        settings = in_minutes(settings, target, Workspace.find(workspace))
    if plan:
        from .render import sizes

        sizes.show(out, names, target, settings, detect, Workspace.find(workspace), force)
        return
    if dry_run:
        made = resolve(names, target, settings, Workspace.find(workspace), force)
        completions = len(made.problems) * (settings.samples + settings.greedy)
        rows = [[arm.name, arm.role, arm.base.id, str(completions)] for arm in made.arms]
        if not out.data({"arms": [arm.name for arm in made.arms], "completions_per_arm": completions}, str(len(rows))):
            out.table(["arm", "role", "model", "completions"], rows)
        return
    results = verb(
        names, target=target, settings=settings, workspace=workspace, force=force, progress=Progress(quiet=out.silent)
    )
    if page:
        write(report_of(results, ReportQuery(), Workspace.find(workspace)), page)
    documents = [verdicts.document(result) for result in results]
    if not out.data(
        documents[0] if len(documents) == 1 else {"evaluations": documents},
        "\n".join(result.verdict for result in results),
    ):
        for result in results:
            verdicts.show(out, result)
        if page:
            out.text(f"{page}  {page.stat().st_size / 1e3:,.0f} kB")
