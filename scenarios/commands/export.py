"""``routesim export``: a run's rows for the serving platform's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from routesim.policies.spelling import nearest
from routesim.scenarios.commands.progress import counting
from routesim.sim.errors import BadInput

FORMATS = ("parquet", "duckdb", "both")


def export(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="folder that `routesim run` wrote")],
           out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="an empty folder, or none yet")],
           policy: Annotated[list[str] | None, typer.Option(help="only this one; may be repeated")] = None,
           form: Annotated[str, typer.Option("--format", help="parquet, duckdb or both")] = "parquet",
           experiment: Annotated[Path | None, typer.Option(
               help="folder that `routesim experiment` wrote: its looks become the lifts")] = None) -> None:
    """Write a run's rows for the platform's tables (ATHIA_*), with Snowflake's DDL beside them."""
    if form not in FORMATS:
        raise BadInput(f"found {form!r}{nearest(form, FORMATS)}", "--format")
    from routesim.reports.athia.export import export as write

    err = Console(stderr=True)
    bar, progress = counting(err, "exporting")
    with bar:
        rows = write(run_dir, out_dir, policy or (), form, experiment, progress)  # type: ignore[arg-type]
    out = Console()
    for name, count in rows.items():
        out.print(f"{name}: {count:,} rows", highlight=False)
    out.print(f"→ {out_dir}", highlight=False, soft_wrap=True, markup=False)
