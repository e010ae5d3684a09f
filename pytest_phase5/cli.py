"""`phase5`: one program, its commands assembled here and loaded when they are called.

Exit codes: 0 done or promote, 1 error, 2 usage or configuration, 10 hold, 20 rollback. With
`--json`, standard output is exactly one JSON object and all else goes to standard error.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pytest_phase5 import (
    bench_commands,
    dashboard_commands,
    guard_commands,
    monitoring_commands,
    report_commands,
    rollout_commands,
)
from pytest_phase5.cli_options import ConfigInUse, ConfigPath, Json, one_line
from pytest_phase5.ours import ForeignPackageError, check_ours

app = typer.Typer(
    name="phase5",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="Built-in models.", no_args_is_help=True)
gate_app = typer.Typer(help="Evidence to verdict.", no_args_is_help=True)
load_app = typer.Typer(help="Load profiles.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(load_app, name="load")
app.add_typer(gate_app, name="gate")
chaos_app = typer.Typer(help="Chaos experiments.", no_args_is_help=True)
app.add_typer(chaos_app, name="chaos")


def _version(asked: bool) -> None:
    if asked:
        from engine import __version__

        typer.echo(f"pytest-phase5 {__version__}")
        raise typer.Exit


@app.callback()
def phase5(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it, and end.")
    ] = False,
) -> None:
    """Turn on risky features of an MLX serving engine without fear."""


@app.command()
def serve(  # noqa: PLR0917 - one parameter an option
    model: Annotated[
        str | None, typer.Option(help="A built-in name, a directory, or a Hugging Face id.")
    ] = None,
    config: ConfigPath = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free port.")] = None,
    h2_port: Annotated[
        int | None, typer.Option(help="Port for HTTP/2; 0 takes a free one.")
    ] = None,
    flags: Annotated[
        str | None, typer.Option(help="off, all, or flags joined by '+': at 100 %, in memory.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTP/2.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
) -> None:
    """Run the engine; its first line on standard output is `ready http://HOST:PORT`."""
    from engine.server.serve import ServeOptions, run

    options = ServeOptions(
        model=model,
        config=config,
        host=host,
        port=port,
        h2_port=h2_port,
        flags=_flag_set(flags),
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    raise typer.Exit(run(options))


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="smollm2-135m or tiny.")], json: Json = False
) -> None:
    """Fetch or build a model, so that the first start need not."""
    from engine.runtime.models import ModelError, resolve_model

    with one_line(ModelError):
        model = resolve_model(name)
    facts = {"name": model.name, "path": str(model.path), "sha256": model.sha256}
    _show(facts, as_json=json, text=f"{model.name}  {model.path}  sha256 {model.sha256}")


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """The built-in models, and whether they are cached."""
    from engine.runtime.models import list_models

    rows = [
        {"name": m.name, "cached": m.cached, "path": str(m.path), "sha256": m.sha256}
        for m in list_models()
    ]
    text = "\n".join(
        f"{row['name']}  {'cached at ' + str(row['path']) if row['cached'] else 'not cached'}"
        for row in rows
    )
    _show({"models": rows}, as_json=json, text=text)


@gate_app.command("judge")
def gate_judge(
    folder: Annotated[Path, typer.Argument(help="A report folder.")] = Path("phase5-report"),
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """Judge the evidence of a report folder again; exit 0 promote, 10 hold, 20 rollback."""
    from gates.cli import judge_folder

    raise typer.Exit(judge_folder(folder, config=config, as_json=json))


@gate_app.command("verify")
def gate_verify(
    verdict: Annotated[Path, typer.Argument(help="A verdict.json beside its evidence.")] = Path(
        "phase5-report/verdict.json"
    ),
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """Recompute a verdict from its evidence; exit 0 when identical, else 1."""
    from gates.cli import verify

    raise typer.Exit(verify(verdict, config=config, as_json=json))


@gate_app.command("explain")
def gate_explain(
    criterion: Annotated[str, typer.Argument(help="An id of gates.yaml.")],
    folder: Annotated[Path, typer.Argument(help="A report folder.")] = Path("phase5-report"),
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """The chain from a verdict back to the samples, for one criterion."""
    from gates.explain_cli import explain

    raise typer.Exit(explain(criterion, folder, config=config, as_json=json))


@app.command()
def plan(
    stage: Annotated[str, typer.Argument(help="Where the flag stands: canary, early or mid.")],
    rate: Annotated[float, typer.Option(help="Requests a second with the flag on.")],
    error_rate: Annotated[
        float, typer.Option(help="The true share of errors that is supposed, such as 0.0002.")
    ] = 0.0002,
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """Whether a soak can reach a verdict at this traffic; exit 0 reachable, 10 not."""
    from gates.plan_cli import plan_stage

    status = plan_stage(stage, rate=rate, error_rate=error_rate, config=config, as_json=json)
    raise typer.Exit(status)


@load_app.command("list")
def load_list(json: Json = False) -> None:
    """The profiles, and what each asks."""
    from pytest_phase5.load.cli import list_profiles

    raise typer.Exit(list_profiles(as_json=json))


@load_app.command("run")
def load_run(  # noqa: PLR0917 - one parameter an option
    profile: Annotated[str, typer.Argument(help="A profile; `phase5 load list` names them.")],
    time_scale: Annotated[
        float, typer.Option(help="Share of the full durations, above 0, at most 1.")
    ] = 1.0,
    model: Annotated[
        str | None, typer.Option(help="A built-in name, a directory, or a Hugging Face id.")
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(help="Press this running engine instead of starting one.")
    ] = None,
    flags: Annotated[str | None, typer.Option(help="Flags of the engine (default: off).")] = None,
    driver: Annotated[str, typer.Option(help="http1, http2 or locust.")] = "http1",
    processes: Annotated[
        int, typer.Option(help="Processes here that share the sending (locust).")
    ] = 1,
    workers: Annotated[
        int, typer.Option(help="Workers on other machines that do it instead (locust).")
    ] = 0,
    bind: Annotated[
        str | None,
        typer.Option(help="HOST:PORT where they find this machine (default: 127.0.0.1:5557)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of schedules and prompts.")] = 0,
    report: Annotated[
        Path | None, typer.Option(help="New or empty folder (default: phase5-load/...).")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Of `regression` (default: phase5-load/baseline.json).")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Make this run of `regression` the baseline.")
    ] = False,
    config: ConfigPath = None,
    json: Json = False,
) -> None:
    """Press an engine as a profile says; exit 0 when the result is valid and complete."""
    from pytest_phase5.load.cli import BASELINE, BIND, Options, run

    options = Options(
        time_scale=time_scale,
        model=model,
        config=config,
        engine_url=engine_url,
        flags=flags,
        driver=driver,
        processes=processes,
        workers=workers,
        bind=bind or BIND,
        seed=seed,
        report=report,
        baseline=baseline or BASELINE,
        record=record,
    )
    raise typer.Exit(run(profile, options, as_json=json))


@load_app.command("worker")
def load_worker(
    master: Annotated[str, typer.Argument(help="HOST:PORT that `load run --workers` names.")],
    processes: Annotated[int, typer.Option(help="Workers that this machine is.")] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="End after one run; else after Ctrl-C.")
    ] = False,
) -> None:
    """Send for a run on another machine. For trusted networks only: prompts come in clear."""
    from pytest_phase5.load.cli import work

    raise typer.Exit(work(master, processes, once=once))


@chaos_app.command("list")
def chaos_list(json: Json = False) -> None:
    """The experiments, and what each shows."""
    from pytest_phase5.breaking.cli import list_experiments

    raise typer.Exit(list_experiments(as_json=json))


@chaos_app.command("install")
def chaos_install(json: Json = False) -> None:
    """Build the Toxiproxy server with Go, unless there is one."""
    from pytest_phase5.breaking.cli import install

    raise typer.Exit(install(as_json=json))


@chaos_app.command("run")
def chaos_run(  # noqa: PLR0917 - one parameter an option
    experiment: Annotated[str, typer.Argument(help="`phase5 chaos list` names them.")],
    full: Annotated[bool, typer.Option("--full", help="The long form; else under 45 s.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A built-in name, a directory, or a Hugging Face id.")
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(help="Break this running engine instead of one of its own.")
    ] = None,
    flags: Annotated[
        str | None, typer.Option(help="Flags of the engine (default: the experiment's).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the traffic; a journal names its own.")] = 0,
    report: Annotated[
        Path | None, typer.Option(help="New or empty folder (default: phase5-chaos/...).")
    ] = None,
    config: ConfigPath = None,
    json: Json = False,
) -> None:
    """Break an engine, prove it, and see that service comes back; exit 0 when it passed."""
    from pytest_phase5.breaking.cli import Options, run

    options = Options(
        full=full,
        model=model,
        config=config,
        engine_url=engine_url,
        flags=flags,
        seed=seed,
        report=report,
    )
    raise typer.Exit(run(experiment, options, as_json=json))


@app.command()
def simulate(  # noqa: PLR0917 - one parameter an option
    fast: Annotated[bool, typer.Option("--fast", help="Few and short runs, for CI.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    only: Annotated[str, typer.Option(help="A part of the names of the scenarios wanted.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    plot: Annotated[Path | None, typer.Option(help="Write the table as this SVG, too.")] = None,
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """How often the judge itself errs, on synthetic traffic; exit 0 when no target is missed."""
    from gates.simulation.cli import Options
    from gates.simulation.cli import simulate as measure

    options = Options(fast=fast, seed=seed, only=only, jobs=jobs, plot=plot, config=config)
    raise typer.Exit(measure(options, as_json=json))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project.")] = Path(),
    json: Json = False,
) -> None:
    """Write configuration, a workflow and a sample SLO test; overwrite nothing."""
    from pytest_phase5.init import InitError
    from pytest_phase5.init import init as write

    with one_line(InitError):
        files = write(folder)
    rows = [{"path": str(file.path), "written": file.written} for file in files]
    text = "\n".join(f"{'wrote' if row['written'] else 'kept '} {row['path']}" for row in rows)
    _show({"files": rows}, as_json=json, text=text)


@app.command()
def doctor(json: Json = False) -> None:
    """What this machine has and lacks, and the one command that brings what is missing."""
    from pytest_phase5.doctor import doctor as examine

    raise typer.Exit(examine(json))


rollout_commands.add_commands(app)
guard_commands.add_commands(app)
report_commands.add_commands(app)
dashboard_commands.add_commands(app)
monitoring_commands.add_commands(app)
bench_commands.add_commands(app)


def main() -> None:
    """The console script."""
    with one_line(ForeignPackageError):
        check_ours()
    app()


def _flag_set(text: str | None) -> frozenset[str] | None:
    from engine.core.flags import FlagSetError, parse_flag_set

    if text is None:
        return None
    with one_line(FlagSetError):
        return parse_flag_set(text)


def _show(facts: dict[str, Any], *, as_json: bool, text: str) -> None:
    sys.stdout.write((json.dumps(facts) if as_json else text) + "\n")


if __name__ == "__main__":
    main()
