"""What a processor's health is, as a probability, from what was sent to it and what has or has not come back.

A hidden Markov chain in continuous time with four states: up, partial (some attempts are lost), down (nearly all are),
slow. Every attempt is evidence about the state at the moment when it was sent, so a timeout of half a minute ago
does not speak against the answers since, and an attempt that is still silent counts already: its likelihood is that of
no answer by its age. Filtering is the forward recursion (Rabiner, Proc. IEEE 77, 1989, section III.A).
"""

from __future__ import annotations

from math import exp, log, pi, sqrt
from typing import NamedTuple

from routesim.policies.vocabulary import Outcome


class State(NamedTuple):
    """A probability of each state."""

    up: float
    partial: float
    down: float
    slow: float


class Beliefs(NamedTuple):
    """What is assumed of outages: rates per second of their beginning and ending, and what they do."""

    begin_per_s: float
    end_per_s: float
    partial_loss: float
    slow_factor: float


Ratios = tuple[float, float, float]  # likelihood in partial, down and slow over that in up

KINDS = (0.3, 0.4, 0.3)  # shares of partial, down and slow among outages: none is held rare
DOWN_LOSS = 0.97  # even a processor that is down answers now and then
SILENT = 0.7  # of the lost attempts are silent; the others are answered unavailable
NO_EVIDENCE: Ratios = (1.0, 1.0, 1.0)
REFRESH = 0.2  # a silent attempt is weighed anew when its age has grown by this share...
REFRESH_S = 0.25  # ...or by this


class Usual:
    """What a processor does when it is up: share of timeouts, of unavailable answers, and its log-logistic latency.

    Learnt from its own attempts with forgetting (the last few thousand count), upon priors worth a hundred attempts
    (1 % timeouts, 2 % unavailable) and ten answers (median 1.5 s, standard deviation of the logarithm 0.8). The
    log-logistic has a tail like those of real answers, so one slow answer is weak evidence.
    """

    __slots__ = ("_attempts", "_mean", "_timeouts", "_unavailable", "_variance", "_weight", "location", "scale",
                 "timeout", "unavailable")

    PRIOR_ATTEMPTS = 100.0
    MEMORY_ATTEMPTS = 5_000.0
    MEMORY_ANSWERS = 500.0

    def __init__(self) -> None:
        self._attempts = self.PRIOR_ATTEMPTS
        self._timeouts, self._unavailable = 0.01 * self._attempts, 0.02 * self._attempts
        self._weight, self._mean, self._variance = 10.0, log(1.5), 0.8**2
        self._settle()

    def learn(self, outcome: Outcome, latency_s: float, weight: float) -> None:
        """One attempt, which was sent while the processor was up with probability ``weight``."""
        if self._attempts > self.MEMORY_ATTEMPTS:
            keep = self.MEMORY_ATTEMPTS / self._attempts
            self._attempts, self._timeouts, self._unavailable = (
                self._attempts * keep, self._timeouts * keep, self._unavailable * keep)  # fmt: skip
        self._attempts += weight
        if outcome == "timeout":
            self._timeouts += weight
        elif outcome == "unavailable":
            self._unavailable += weight
        else:
            self._weight = min(self._weight + weight, self.MEMORY_ANSWERS)
            step = weight / self._weight
            off = log(max(latency_s, 1e-3)) - self._mean
            self._mean += step * off
            self._variance = (1 - step) * (self._variance + step * off * off)
        self._settle()

    def _settle(self) -> None:
        self.timeout = max(self._timeouts / self._attempts, 5e-4)
        self.unavailable = max(self._unavailable / self._attempts, 5e-4)
        self.location = self._mean
        self.scale = max(sqrt(3 * self._variance) / pi, 0.05)  # the logistic's scale of that variance

    def later(self, age_s: float, factor: float = 1.0) -> float:
        """The probability that an answer takes longer than ``age_s``, where all take ``factor`` times as long."""
        return 1 / (1 + exp(min((log(max(age_s, 1e-3) / factor) - self.location) / self.scale, 50.0)))

    def silent(self, age_s: float, beliefs: Beliefs) -> Ratios:
        """No answer by ``age_s``: it is lost, or takes longer."""
        later = self.later(age_s)
        if_up = self.timeout + (1 - self.timeout) * later
        if_slow = self.timeout + (1 - self.timeout) * self.later(age_s, beliefs.slow_factor)
        lost = (SILENT + (1 - SILENT) * later) / if_up
        loss = beliefs.partial_loss
        return loss * lost + 1 - loss, DOWN_LOSS * lost + 1 - DOWN_LOSS, if_slow / if_up

    def answered(self, outcome: Outcome, latency_s: float, beliefs: Beliefs) -> Ratios:
        """What came back, after ``latency_s``."""
        loss = beliefs.partial_loss
        if outcome == "timeout":
            lost = SILENT / self.timeout
            slow = 1 + (1 - self.timeout) * self.later(latency_s, beliefs.slow_factor) / self.timeout
            return loss * lost + 1 - loss, DOWN_LOSS * lost + 1 - DOWN_LOSS, slow
        if outcome == "unavailable":
            lost = (1 - SILENT) / self.unavailable
            return loss * lost + 1 - loss, DOWN_LOSS * lost + 1 - DOWN_LOSS, 1.0
        # The logistic density of the log-latency, shifted by the factor, over that unshifted.
        place = min(max((log(max(latency_s, 1e-3)) - self.location) / self.scale, -50.0), 50.0)
        shift = min(log(beliefs.slow_factor) / self.scale, 50.0)
        slow = exp(shift) * ((1 + exp(-place)) / (1 + exp(shift - place))) ** 2
        return 1 - loss, 1 - DOWN_LOSS, slow


class Attempt:
    """An attempt that was sent: what it says so far, and the state once it is counted. ``outcome`` None: no answer."""

    __slots__ = ("after", "known", "latency_s", "latest", "outcome", "ratios", "refresh_at", "sent_at", "serial")

    def __init__(self, sent_at: float, latest: float, serial: int, after: State) -> None:
        self.sent_at, self.latest, self.serial, self.after = sent_at, latest, serial, after
        self.ratios = NO_EVIDENCE
        self.refresh_at = sent_at + REFRESH_S
        self.known = False
        self.outcome: Outcome | None = None
        self.latency_s = 0.0


class HealthBelief:
    """The filter for one processor (or one processor for some of the payments).

    Attempts from the oldest unanswered one on are kept in order of sending; those before it are summed up in one
    state. ``_counted`` of the kept ones have an ``after`` that is still right. ``at_last`` is the state when the last
    attempt was sent, as of the last call of ``state``.
    """

    __slots__ = ("_attempts", "_beliefs", "_counted", "_first", "_from", "_from_at", "_pending", "at_last", "shut",
                 "usual")

    def __init__(self, beliefs: Beliefs, now: float) -> None:
        self.usual = Usual()
        self.shut = False
        self._beliefs = beliefs
        unhealthy = beliefs.begin_per_s / (beliefs.begin_per_s + beliefs.end_per_s)
        self._from, self._from_at = State(1 - unhealthy, *(unhealthy * share for share in KINDS)), now
        self.at_last = self._from
        self._attempts: list[Attempt] = []
        self._pending: list[Attempt] = []
        self._first = self._counted = 0

    def sent(self, now: float, latest: float) -> Attempt:
        """An attempt is sent now; unanswered at ``latest`` it never was."""
        if self._attempts:
            now = max(now, self._attempts[-1].sent_at)
        attempt = Attempt(now, latest, self._first + len(self._attempts), self._from)
        self._attempts.append(attempt)
        self._pending.append(attempt)
        return attempt

    def answered(self, attempt: Attempt, outcome: Outcome, latency_s: float, now: float) -> None:
        """Its answer has come."""
        if attempt.known:
            return
        self._know(attempt, self.usual.answered(outcome, latency_s, self._beliefs))
        attempt.outcome, attempt.latency_s = outcome, latency_s
        if self._attempts[0].known:
            self._sum_up(now)

    def state(self, now: float) -> State:
        """The probabilities now, by all that was sent, answered or not."""
        late = [attempt for attempt in self._pending if attempt.refresh_at <= now]
        for attempt in late:
            if attempt.latest < now:
                self._know(attempt, NO_EVIDENCE)
                continue
            age_s = now - attempt.sent_at
            attempt.ratios = self.usual.silent(age_s, self._beliefs)
            attempt.refresh_at = now + max(REFRESH * age_s, REFRESH_S)
            self._counted = min(self._counted, attempt.serial - self._first)
        attempts, counted = self._attempts, self._counted
        state, at = (attempts[counted - 1].after, attempts[counted - 1].sent_at) if counted else \
            (self._from, self._from_at)
        for place in range(counted, len(attempts)):
            attempt = attempts[place]
            state = attempt.after = self._weighed(self._later(state, attempt.sent_at - at), attempt.ratios)
            at = attempt.sent_at
        self._counted = len(attempts)
        self.at_last = state
        return self._later(state, now - at)

    def _know(self, attempt: Attempt, ratios: Ratios) -> None:
        attempt.known, attempt.ratios = True, ratios
        self._pending.remove(attempt)
        self._counted = min(self._counted, attempt.serial - self._first)

    def _sum_up(self, now: float) -> None:
        """Sum the leading known attempts up, and learn from them."""
        up_now = self.state(now).up
        known = 0
        for attempt in self._attempts:
            if not attempt.known:
                break
            known += 1
            self._from, self._from_at = attempt.after, attempt.sent_at
            if attempt.outcome is not None:
                self.usual.learn(attempt.outcome, attempt.latency_s, min(attempt.after.up, up_now))
        del self._attempts[:known]
        self._first += known
        self._counted -= known

    def _later(self, state: State, elapsed_s: float) -> State:
        """The chain's forward equation, solved: all outages end at one rate, so up relaxes exponentially."""
        if elapsed_s <= 0:
            return state
        begin, end = self._beliefs.begin_per_s, self._beliefs.end_per_s
        settled = end / (begin + end)
        up = settled + (state.up - settled) * exp(-(begin + end) * elapsed_s)
        lasting = exp(-end * elapsed_s)
        new = 1 - up - (1 - state.up) * lasting
        return State(up, state.partial * lasting + KINDS[0] * new, state.down * lasting + KINDS[1] * new,
                     state.slow * lasting + KINDS[2] * new)

    def _weighed(self, state: State, ratios: Ratios) -> State:
        up, partial, down, slow = state
        partial, down, slow = partial * ratios[0], down * ratios[1], slow * ratios[2]
        total = up + partial + down + slow
        return State(up / total, partial / total, down / total, slow / total)
