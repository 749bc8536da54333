"""The run page's section on live tests: how long one would need to prove each policy that is shown to be better."""

from __future__ import annotations

from routesim.reports.run.answers import answer, by_lift
from routesim.reports.run.folder import Run
from routesim.reports.statistics.live_test import LiveTest, live_test


def payments_per_day(run: Run) -> float:
    """Measured payments per day of the trace, from the baseline's hourly counts; 0 when there are none."""
    frame = run.hours.to_pandas()
    frame = frame[frame["policy"] == run.summary["baseline"]]
    if frame.empty:
        return 0.0
    return float((frame["payments"] / frame["replications"]).sum() / len(frame) * 24)


def live_tests(run: Run) -> list[tuple[str, LiveTest | None, LiveTest | None]]:
    """Per policy shown to be better: the live test for its expected lift, and for the low end of its interval."""
    rate, volume = run.figure(run.summary["baseline"], "approval_rate")["value"] or 0.0, payments_per_day(run)
    rows = []
    for name in by_lift(run):
        if answer(run, name).verdict == "better":
            found = run.figure(name, "lift_pp")
            rows.append((name, live_test(rate, found["value"] or 0.0, volume),
                         live_test(rate, found["low"] or 0.0, volume)))
    return rows
