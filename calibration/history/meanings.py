"""What a decline code means: as the profile says, else as the source's own columns suggest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from routesim.calibration.history.profile import CodeMeaning, Profile
from routesim.calibration.history.quarantine import Ledger


class Failure(NamedTuple):
    """Failed attempts that the source describes alike: code, category, hard or soft, how the answer reads, how many."""

    code: str | None
    category: str | None
    kind: str | None
    status: str | None
    rows: int


def learn(profile: Profile, failures: Sequence[Failure], ledger: Ledger) -> dict[str, CodeMeaning]:
    """The meaning of every code that the profile lists or the source holds.

    A code that the profile does not list means what most of its rows suggest: by their category, else by the source's
    hard or soft, else a soft decline; each such code is told by a warning.
    """
    meanings = profile.code_meanings()
    unlisted: dict[str, Counter[CodeMeaning]] = {}
    bare: Counter[str] = Counter()
    disagreeing = 0
    for failure in failures:
        if failure.code is None:
            continue
        suggested = suggest(profile, failure)
        listed = meanings.get(failure.code)
        if listed is None:
            unlisted.setdefault(failure.code, Counter())[suggested or CodeMeaning("declined", "soft")] += failure.rows
            bare[failure.code] += failure.rows if suggested is None else 0
        elif suggested and failure.kind and suggested.kind and listed.kind and suggested.kind != listed.kind:
            disagreeing += failure.rows
    for code, votes in sorted(unlisted.items()):
        meanings[code] = min(votes, key=lambda meaning: (-votes[meaning], meaning.outcome, meaning.kind or ""))
        told = " ".join(part for part in (meanings[code].kind, meanings[code].outcome) if part)
        why = "no column tells it" if bare[code] == votes.total() else "by the source's category or hard/soft type"
        mixed = f"; the source reads {len(votes)} ways" if len(votes) > 1 else ""
        ledger.warn(f"code {code!r} ({votes.total()} attempts) is not in the profile: taken as {told}, {why}{mixed}")
    if disagreeing:
        ledger.warn(f"{disagreeing} attempts are soft in the profile and hard in the source, or the reverse: "
                    "the profile is believed")
    return meanings


def suggest(profile: Profile, failure: Failure) -> CodeMeaning | None:
    """What the source's columns beside the code say of a failed attempt, or None."""
    categories = {name.lower(): spec.meaning for name, spec in profile.categories.items()}
    kinds = {name.lower(): kind for name, kind in profile.values.kind.items()}
    by_category = categories.get((failure.category or "").lower())
    if by_category:
        return by_category
    if failure.status == "timeout":
        return CodeMeaning("timeout")
    if failure.status == "error":
        return CodeMeaning("unavailable")
    kind = kinds.get((failure.kind or "").lower())
    return CodeMeaning("declined", kind) if kind else None


def meaning_of(profile: Profile, failure: Failure, codes: dict[str, CodeMeaning]) -> CodeMeaning:
    """The meaning of a failed attempt; without a code it is what the other columns say, else a soft decline."""
    if failure.status in ("refused", "timeout"):
        return CodeMeaning(failure.status)  # type: ignore[arg-type]
    if failure.code is not None:
        return codes[failure.code]
    return suggest(profile, failure) or CodeMeaning("declined", "soft")
