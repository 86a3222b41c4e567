"""The guard: whether an action may be taken now. It knows no fault and no decider."""

from __future__ import annotations

from collections.abc import Sequence

from factory.operator.config import OperatorConfig
from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Fault, Mode, Status, Verb

_HARMLESS = frozenset({Verb.ALERT})
_HOUR_S = 3600.0
_ACTED = frozenset({Status.ACTING, Status.EFFECTIVE, Status.DONE, Status.FAILED})
_CHANGES_A_LINE = frozenset({Verb.RESTART, Verb.CHECKPOINT_RESTART, Verb.HOLD, Verb.CANCEL, Verb.REBIND})


def is_free(candidate: Candidate, mode: Mode, config: OperatorConfig) -> bool:
    """Return whether an action needs no approval."""
    return mode is Mode.AUTO and candidate.verb.value in config.allow


def obstacle(
    candidate: Candidate, view: View, history: Sequence[Decision], config: OperatorConfig, *, is_broken: bool
) -> str:
    """Return the reason for which an action has to wait; empty if it may be taken.

    Args:
        candidate: the action.
        view: the floor now.
        history: decisions so far.
        config: settings.
        is_broken: whether the circuit breaker is open.
    """
    if candidate.verb in _HARMLESS:
        return ""
    if is_broken:
        return "the circuit breaker is open; `operator reset` closes it"
    acted = [one for one in history if one.status in _ACTED and one.candidate.verb not in _HARMLESS]
    # A detector that is wrong all the time must not keep a floor from working.
    if sum(view.now_s - one.since_s < _HOUR_S for one in acted) >= config.actions_per_hour:
        return f"{config.actions_per_hour} actions in an hour are the limit"
    for one in acted:
        is_same = one.candidate.line == candidate.line
        if is_same and one.status in (Status.ACTING, Status.EFFECTIVE):
            return f"decision {one.id} about it is not finished"
        if is_same and view.now_s - one.since_s < config.dwell_s and candidate.verb is not Verb.RETRY_NOW:
            return f"the last action was {view.now_s - one.since_s:.0f} s ago"
    # Whatever adds power needs a meter that would show it.
    if candidate.predicted_w > 0.0 and view.meter.sample_age_s > config.stale_s:
        return f"the meter's reading is {view.meter.sample_age_s:.0f} s old"
    if candidate.predicted_w > 0.0 and not _has_power(candidate, view):
        return "the budget has no power for it"
    return _frozen(candidate, view, config)


def alternatives(
    chosen: Candidate,
    choices: Sequence[Candidate],
    view: View,
    history: Sequence[Decision],
    config: OperatorConfig,
    *,
    mode: Mode,
    is_broken: bool,
) -> list[Candidate]:
    """Return the choices that may take the place of one, itself among them, in their order.

    None of them needs an approval that the first one does not, and none has to wait.
    """
    needs_approval = not is_free(chosen, mode, config)
    found: list[Candidate] = []
    for one in choices:
        is_as_free = needs_approval or is_free(one, mode, config)
        waits = bool(obstacle(one, view, history, config, is_broken=is_broken))
        if one == chosen or (is_as_free and not waits):
            found.append(one)
    return found


def _has_power(candidate: Candidate, view: View) -> bool:
    if not view.meter.samples or candidate.verb is Verb.RETRY_NOW:
        # The scheduler admits lines by itself.
        return True
    return view.meter.samples[-1][1] + candidate.predicted_w <= view.meter.limit_w


def _frozen(candidate: Candidate, view: View, config: OperatorConfig) -> str:
    """Return whether a line is near a checkpoint, as a reason; empty if it is not."""
    line = view.line(candidate.line)
    if line is None or candidate.verb not in _CHANGES_A_LINE or line.is_stopped:
        return ""
    seen = line.checkpoint
    if seen.is_being_written and line.silence_s < config.detect.hang_s:
        return "its checkpoint is being written"
    left_s = seen.interval_s - seen.age_s
    # A line that writes one every few seconds would never be free.
    freeze_s = min(config.freeze_s, 0.25 * seen.interval_s)
    if 0.0 < left_s < freeze_s and line.silence_s < config.detect.hang_s:
        return f"its next checkpoint is due in {left_s:.0f} s"
    return ""


def is_unsafe(
    candidate: Candidate, fault: Fault, now_s: float, history: Sequence[Decision], config: OperatorConfig
) -> bool:
    """Return whether an action failed lately for the same fault of the same line."""
    return any(
        one.status is Status.FAILED
        and one.fault is fault
        and one.candidate.verb is candidate.verb
        and one.candidate.line == candidate.line
        and now_s - one.since_s < config.unsafe_s
        for one in history
    )
