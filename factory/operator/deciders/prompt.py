"""The question to a language model: numbers and enumerations, no word from a user or a log file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from factory.operator.llm_config import LlmConfig
from factory.operator.view import LineView, View
from factory.operator.words import Candidate, Evidence, Finding

ABSTAIN = "abstain"
"""Answer that leaves the rule's choice as it is."""
_SYSTEM = (
    "You operate a floor of reinforcement-learning jobs, called lines. A detector has found a fault, code has"
    " enumerated the actions that are possible, and a rule has chosen one. Choose the action that mends the"
    " fault and loses the least work, or abstain to leave the choice to the rule."
    ' Answer with JSON only: {"id": one of the ids, "rationale": one short sentence}.'
)


def request(
    config: LlmConfig, finding: Finding, choices: Sequence[Candidate], view: View, *, rule: Candidate
) -> bytes:
    """Return the body of the request.

    Args:
        config: settings of the language model.
        finding: the fault.
        choices: candidates to choose from.
        view: the floor now; it holds no text.
        rule: choice of the rule.
    """
    schema = {
        "type": "object",
        "properties": {"id": {"enum": ids(choices)}, "rationale": {"type": "string"}},
        "required": ["id", "rationale"],
        "additionalProperties": False,
    }
    content: dict[str, Any] = {
        "model": config.model,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": json.dumps(_question(finding, choices, view, rule), allow_nan=False)},
        ],
        # The same question gets the same answer, as far as the endpoint allows.
        "temperature": 0,
        "max_tokens": config.max_tokens,
    }
    # Not every endpoint knows schemas; the answer is checked in any case.
    if config.json_schema:
        content["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "choice", "strict": True, "schema": schema},
        }
    # JSON has no NaN: `_number` has replaced them, and one that slipped through fails here.
    return json.dumps(content, allow_nan=False).encode()


def ids(choices: Sequence[Candidate]) -> list[str]:
    """Return the answers that are valid."""
    return [*(one.id for one in choices), ABSTAIN]


def _question(finding: Finding, choices: Sequence[Candidate], view: View, rule: Candidate) -> dict[str, Any]:
    return {
        "finding": {
            "fault": finding.fault.value,
            "severity": finding.severity.name.lower(),
            "age_s": _number(view.now_s - finding.since_s),
            "evidence": [_evidence(one) for one in finding.evidence],
        },
        "candidates": [_candidate(one) for one in choices],
        "chosen_by_rule": rule.id,
        "lines": [_line(line) for line in view.lines if line.id in {one.line for one in choices}],
        "floor": {
            "lines_running": sum(line.is_running for line in view.lines),
            "cores": _number(view.host.num_cores),
            "cores_busy": _number(view.host.cores_busy),
            "memory_free_bytes": _number(view.host.memory_free_bytes),
            "disk_free_bytes": _number(view.host.disk_free_bytes),
            "budget_w": _number(view.meter.limit_w),
        },
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": _number(one.value),
        "unit": one.unit,
        "limit": _number(one.limit),
        "age_s": _number(one.age_s),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "id": one.id,
        "predicted_w": _number(one.predicted_w),
        "predicted_tokens_per_s": _number(one.predicted_tokens_per_s),
        "cost_tokens": _number(one.cost_tokens),
    }


def _line(line: LineView) -> dict[str, Any]:
    return {
        "id": line.id,
        "state": line.state.value,
        "attempts": line.attempts,
        "failures": line.failures,
        "share_done": _number(line.steps / max(1, line.total_steps)),
        "priority": line.priority,
        "flex": line.flex,
        "cores": _number(line.cores),
        "silence_s": _number(line.silence_s),
        "checkpoint_age_s": _number(line.checkpoint.age_s),
    }


def _number(value: float) -> float | None:
    """Return a number that JSON has; None for one that is infinite or unknown."""
    if not isfinite(value):
        return None
    return round(float(value), 3)
