"""Questions about the operator: what it did, what it suggests, what it costs."""

from __future__ import annotations

from factory.floor.questions.question import Question

OPERATOR = (
    Question(
        name="done",
        text="What did the operator do, and with which result?",
        words="operator action actions acted decided decision result outcome effect done repair repaired",
        table="decision",
        query="""
SELECT id, datetime(at, 'unixepoch') AS time_utc, finding, verb, line, decider, status, note
FROM decision
WHERE changed_at >= :since
ORDER BY id DESC
LIMIT :rows""",
    ),
    Question(
        name="suggested",
        text="What does the operator suggest?",
        words="suggestion suggest propose proposal recommend advice approve open operator",
        parameters=("rows",),
        table="decision",
        query="""
SELECT id, datetime(at, 'unixepoch') AS time_utc, finding, verb, line, decider,
       json_extract(content, '$.candidate.predicted_w') AS predicted_w,
       json_extract(content, '$.candidate.predicted_tokens_per_s') AS predicted_tokens_per_s
FROM decision
WHERE status = 'proposed'
ORDER BY id
LIMIT :rows""",
    ),
    Question(
        name="operator_cost",
        text="How much CPU time and energy does the operator itself take?",
        words="operator cost overhead own itself cpu core share tick longest",
        parameters=("hours",),
        table="operator_cost",
        query="""
SELECT sum(ticks) AS ticks, round(sum(cpu_s), 3) AS cpu_s,
       round(1000 * sum(cpu_s) / sum(ticks), 3) AS ms_a_tick,
       round(1000 * max(longest_s), 3) AS ms_longest_tick,
       round(100 * sum(cpu_s) / sum(seconds), 3) AS percent_of_a_core,
       -- Its share of the node's energy, by CPU time.
       round(sum(cpu_s) * (
           SELECT (max(joules) - min(joules)) / nullif(max(cpu_s) - min(cpu_s), 0)
           FROM sample
           WHERE at >= :since
       ), 3) AS joules
FROM operator_cost
WHERE at >= :since""",
    ),
)
