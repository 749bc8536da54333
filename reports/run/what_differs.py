"""What differs between two runs, in words: the scenario's keys, the model, the trace, versions and assumptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from routesim.reports.run.folder import Run
from routesim.reports.words import number
from routesim.sim.errors import BadInput

Names = tuple[str, str]  # what the two runs are called

NO_FIGURE = ("scenario", "log", "experiment", "model", "trace.source")
"""Keys of a scenario that by themselves move no figure of a run: where the model or the trace is another one, its hash
says so."""

_ABSENT = object()
_LONGEST = 160  # characters of a value; the scenarios themselves are in the folders


def what_differs(first: Run, second: Run, names: Names) -> dict[str, list[str]]:
    """Sentences under headings; a heading without any is left out. Of policies, those in both runs are compared.

    Raises BadInput for a scenario that is not YAML.
    """
    moves, named = _scenario(first, second, names)
    found = {
        "Scenario": moves,
        "Model and trace": [*_hashes(first, second, names), *_replications(first, second, names)],
        "Versions": _versions(first, second, names),
        "Assumed, or warned of": _sentences(first, second, names),
        "In name only": named,
    }
    return {heading: sentences for heading, sentences in found.items() if sentences}


def not_recorded(first: Run, second: Run, names: Names) -> list[str]:
    """What cannot be compared because a folder lacks it."""
    return [f"{name} holds no {file.name}, so that part cannot be compared"
            for run, name in zip((first, second), names, strict=True)
            for file, held in ((run.folder.scenario, run.scenario_text), (run.folder.manifest, run.manifest))
            if not held]


def _scenario(first: Run, second: Run, names: Names) -> tuple[list[str], list[str]]:
    """The differing keys that may move a figure, and those that move none."""
    if not first.scenario_text or not second.scenario_text:
        return [], []
    ours, theirs = _document(first), _document(second)
    shared = [policy for policy in first.policies if policy in second.policies]
    for document in (ours, theirs):
        policies = document.get("policies")
        if isinstance(policies, dict):
            document["policies"] = {name: part for name, part in policies.items() if name in shared}
    moves: list[str] = []
    named: list[str] = []
    for key, here, there in differing(ours, theirs):
        where = named if any(key == name or key.startswith(f"{name}.") for name in NO_FIGURE) else moves
        where.append(_sentence(key, here, there, names))
    return moves, named


def _document(run: Run) -> dict[str, Any]:
    where = str(run.folder.scenario)
    try:
        document = YAML(typ="safe", pure=True).load(run.scenario_text)
    except (YAMLError, ValueError) as error:
        raise BadInput(f"not readable as YAML ({str(error).splitlines()[0]}); run the scenario again", where) from None
    if not isinstance(document, dict):
        raise BadInput("a scenario was expected; run the scenario again", where)
    return document


def differing(ours: Any, theirs: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ: the dotted key and both values. Lists of one length are compared place by place
    (the first is 1); of others, only what the one holds and the other does not is given."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            yield from differing(ours.get(name, _ABSENT), theirs.get(name, _ABSENT), f"{key}.{name}" if key else name)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) == len(theirs) and any(isinstance(item, dict) for item in ours):
            for place, (here, there) in enumerate(zip(ours, theirs, strict=True), start=1):
                yield from differing(here, there, f"{key}.{place}")
        elif ours != theirs:
            here, there = [x for x in ours if x not in theirs], [x for x in theirs if x not in ours]
            whole = not here and not there  # another order, or the same item more than once
            yield key, *((ours, theirs) if whole else (here or _ABSENT, there or _ABSENT))
    elif ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool):
        yield key, ours, theirs


def _sentence(key: str, here: Any, there: Any, names: Names) -> str:
    if there is _ABSENT:
        return f"{key}: only in {names[0]}: {plain(here)}"
    if here is _ABSENT:
        return f"{key}: only in {names[1]}: {plain(there)}"
    return f"{key}: {plain(here)} in {names[0]}, {plain(there)} in {names[1]}"


def plain(value: Any) -> str:
    """A value as a scenario would show it on one line, cut where it is long."""
    text = _flow(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 1]}…"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(part) for part in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "nothing" if value is None else str(value)


def hashes(run: Run) -> dict[str, str]:
    """The manifest's hashes by name; empty where it holds none."""
    found = run.manifest.get("hashes")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _hashes(first: Run, second: Run, names: Names) -> list[str]:
    ours, theirs = hashes(first), hashes(second)
    said = {"model": "the model is another one", "uncertainty": "the model's uncertainty is another one",
            "trace": "the payments that are replayed are others"}
    sentences = [f"{what}: {ours[name][:12]} in {names[0]}, {theirs[name][:12]} in {names[1]}"
                 for name, what in said.items()
                 if name in ours and name in theirs and ours[name] != theirs[name]]
    here, there = first.summary["payments"], second.summary["payments"]
    if here != there:
        sentences.append(f"measured payments: {number(here)} in {names[0]}, {number(there)} in {names[1]}")
    return sentences


def replicated(run: Run) -> set[tuple[int, int]]:
    """The (world, luck) pairs that were run."""
    return set(zip(run.replications["world"].to_pylist(), run.replications["luck"].to_pylist(), strict=True))


def _replications(first: Run, second: Run, names: Names) -> list[str]:
    """Where luck is adaptive the scenario gives the most, not what was run."""
    ours, theirs = replicated(first), replicated(second)
    if ours == theirs:
        return []
    return [f"replications that were run: {len(ours)} in {names[0]}, {len(theirs)} in {names[1]}"]


def _versions(first: Run, second: Run, names: Names) -> list[str]:
    ours, theirs = (_mapping(run.manifest.get("versions")) for run in (first, second))
    return [_sentence(name, ours.get(name, _ABSENT), theirs.get(name, _ABSENT), names)
            for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]


def _sentences(first: Run, second: Run, names: Names) -> list[str]:
    """What only one run assumes or warns of, and what each assumes of retries."""
    found = []
    for key, verb in (("assumed", "assumes"), ("warnings", "warns")):
        ours, theirs = (_list(run.manifest.get(key)) for run in (first, second))
        found += [f"only {names[0]} {verb}: {one}" for one in ours if one not in theirs]
        found += [f"only {names[1]} {verb}: {one}" for one in theirs if one not in ours]
    ours_said, theirs_said = first.manifest.get("retries_assume"), second.manifest.get("retries_assume")
    if ours_said and theirs_said and ours_said != theirs_said:
        found.append(f"of delayed retries {names[0]} assumes that {ours_said}; {names[1]} that {theirs_said}")
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
