"""An experiment's page: one self-contained HTML file, from what the experiment's folder holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routesim.reports.experiment.advice import best
from routesim.reports.experiment.folder import ExperimentFolder, ExperimentRun, read_experiment
from routesim.reports.experiment.rules import RULES
from routesim.reports.pages.experiment_pictures import days_picture, power_picture
from routesim.reports.pages.frame import facts, page, sentences
from routesim.reports.words import number

_GUARDS = {"samples": "1,000 samples a variant", "lift": "at least 1 pp", "latency": "latency worse by 10 % at most",
           "revenue": "revenue lower by 5 % at most"}


def html(folder: ExperimentRun) -> str:
    """The page as text."""
    figures, manifest = folder.figures, folder.manifest
    control, *treatments = figures["variants"]
    name = best([control, *treatments], figures)
    return page(
        "experiment.html",
        figures=figures, control=control, treatments=treatments, best=name, rules=RULES,
        headline=headline(figures, control, name), rule_rows=_rules(figures, [*treatments, control]), guards=_GUARDS,
        count=figures["replications"]["worlds"] * figures["replications"]["luck"],
        sizes=[(each, figures["sizes"][each]) for each in treatments],
        pictures=[days_picture(figures), *(power_picture(figures, each) for each in treatments)],
        apart=[(setting, row) for setting, rows in figures["direct"].get("agreement", {}).items() for row in rows
               if not row["agrees"]],
        warnings=sentences(manifest, "warnings"), assumed=sentences(manifest, "assumed"),
        provenance=(("Model", facts(manifest, "model")), ("Trace", facts(manifest, "trace")),
                    ("Versions and hashes", facts(manifest, "versions", "hashes"))),
        scenario_text=folder.scenario_text)


def headline(figures: Mapping[str, Any], control: str, name: str) -> str:
    """The answer in a sentence."""
    lift, days = figures["lift_pp"][name], figures["experiment"]["days"]
    expected = figures["sizes"][name]["expected"]
    if lift["high"] is not None and lift["high"] < 0:
        return f"{name} is {number(-lift['value'], 2)} pp worse than {control}: there is nothing to prove live."
    if lift["low"] is None or lift["low"] <= 0 or expected is None:
        return f"No variant is shown to be better than {control}: there is no lift yet that a live test could prove."
    needed = math.ceil(expected["days"])
    return (f"{name} is {number(lift['value'], 2)} pp better than {control}; a live test would prove it in "
            f"{number(needed)} {'day' if needed == 1 else 'days'}"
            + ("." if needed <= days else f", which is more than the {days} of this one."))


def _rules(figures: Mapping[str, Any], order: list[str]) -> list[dict[str, Any]]:
    """A row for each rule: chances from the full simulator, and beside them those of independent payments."""
    direct = figures["direct"]
    rows = []
    for rule in RULES:
        truth, alike = figures["rules"]["truth"][rule], figures["rules"]["alike"][rule]
        quick = {setting: direct.get(setting, {}).get(rule) for setting in ("truth", "alike")}
        rows.append({
            "rule": rule,
            "wins": [(truth["p_wins"][name], quick["truth"] and quick["truth"]["p_wins"].get(name)) for name in order],
            "false": (alike["p_any"], quick["alike"] and quick["alike"]["p_any"]),
            "day": truth["mean_day_if_called"], "lift": truth["mean_lift_if_treatment_wins_pp"],
            "exaggeration": truth["exaggeration"],
        })
    return rows


def render_experiment(folder: Path) -> Path:
    """Write the page into an experiment's folder; its path. Raises BadInput where it is none."""
    return ExperimentFolder(folder).write_page(lambda: html(read_experiment(folder)))
