"""Questions about lines: what runs, what waits and why, what broke."""

from __future__ import annotations

from factory.floor.questions.question import Question

# Each state of a line from the event that began it to the next one.
_SPANS = """
WITH span AS (
    SELECT line, coalesce(json_extract(details, '$.to'), 'queued') AS state, max(at, :since) AS start,
           lead(at, 1, :now) OVER (PARTITION BY line ORDER BY seq) AS stop
    FROM event
    WHERE kind IN ('submitted', 'moved')
)"""

LINES = (
    Question(
        name="running",
        text="What runs now?",
        words="active busy going present working lines state progress floor",
        parameters=("rows",),
        query="""
SELECT id, name, task, state, round((:now - state_since) / 60, 1) AS minutes,
       round(100.0 * steps / total_steps, 1) AS percent_done, round(tokens_per_s) AS tokens_per_s,
       round(power_w, 1) AS watts, reason
FROM line
WHERE state IN ('starting', 'running', 'paused', 'preempting')
ORDER BY id
LIMIT :rows""",
    ),
    Question(
        name="ran",
        text="Which lines ran, and how far did they come?",
        words="shift worked trained list finished progress",
        query=_SPANS
        + """
SELECT line.id, line.name, line.task, line.state,
       round(sum((span.state = 'running') * (stop - start)) / 60, 2) AS minutes_running,
       round(100.0 * steps / total_steps, 1) AS percent_done, tokens, round(joules, 1) AS joules,
       round(waste_j, 1) AS waste_j
FROM span JOIN line ON line.id = span.line
WHERE stop > start
GROUP BY line.id
HAVING minutes_running > 0
ORDER BY minutes_running DESC, line.id
LIMIT :rows""",
    ),
    Question(
        name="next",
        text="Which line starts next, and why not now?",
        words="queue queued waits blocked first order reason start hold held",
        parameters=("rows",),
        query="""
SELECT id, name, state, priority + CAST((:now - created_at) / :ageing_s AS INTEGER) AS aged_priority, flex,
       round((:now - state_since) / 60, 1) AS minutes, datetime(deadline, 'unixepoch') AS deadline_utc, reason
FROM line
WHERE state IN ('queued', 'paused', 'lost')
ORDER BY aged_priority DESC, state = 'queued', coalesce(deadline, 9e99), created_at, id
LIMIT :rows""",
    ),
    Question(
        name="broke",
        text="What broke?",
        words="break broken fail failed failure crash crashed fault error wrong happened killed finding died",
        query="""
SELECT datetime(at, 'unixepoch') AS time_utc, line, event, cause
FROM (
    SELECT ended_at AS at, line, 'attempt ' || number || ' ended: ' || exit_class AS event,
           root_cause AS cause
    FROM attempt
    WHERE exit_class NOT IN ('ok', 'preempted')
    UNION ALL
    SELECT at, line, 'finding ' || json_extract(details, '$.id'),
           lower(json_extract(details, '$.severity'))
    FROM event
    WHERE kind = 'operator finding'
)
WHERE at >= :since
ORDER BY at DESC
LIMIT :rows""",
    ),
    Question(
        name="preempted",
        text="Which lines were pre-empted or paused, and how often?",
        words="preemption preempt pause pauses interrupted suspended shed often count times frequency",
        query="""
SELECT line.id, line.name, line.flex,
       sum(json_extract(details, '$.to') = 'preempting') AS pre_emptions,
       sum(json_extract(details, '$.to') = 'paused') AS pauses,
       json_extract(details, '$.reason') AS last_reason, datetime(max(at), 'unixepoch') AS last_utc
FROM event JOIN line ON line.id = event.line
WHERE kind = 'moved' AND at >= :since AND json_extract(details, '$.to') IN ('preempting', 'paused')
      AND json_extract(details, '$.reason') NOT LIKE 'cancelled%'
GROUP BY line.id
ORDER BY pre_emptions + pauses DESC, line.id
LIMIT :rows""",
    ),
    Question(
        name="waited",
        text="How long did lines wait?",
        words="waiting time delay duration queue queued minutes patience idle latency",
        query=_SPANS
        + """
SELECT line.id, line.name,
       round(sum((span.state = 'queued') * (stop - start)) / 60, 2) AS minutes_queued,
       round(sum((span.state = 'paused') * (stop - start)) / 60, 2) AS minutes_paused,
       round(sum((span.state = 'running') * (stop - start)) / 60, 2) AS minutes_running
FROM span JOIN line ON line.id = span.line
WHERE stop > start AND span.state NOT IN ('finished', 'failed', 'cancelled')
GROUP BY line.id
ORDER BY minutes_queued DESC, line.id
LIMIT :rows""",
    ),
    Question(
        name="deadlines",
        text="Which deadlines are near or missed?",
        words="deadline late due overdue miss danger risk time left meet",
        parameters=("rows",),
        query="""
SELECT id, name, state, datetime(deadline, 'unixepoch') AS deadline_utc,
       round((deadline - :now) / 60, 1) AS minutes_left,
       round((total_steps - steps) * tokens / nullif(steps * tokens_per_s, 0) / 60, 1) AS minutes_needed
FROM line
WHERE deadline IS NOT NULL AND state NOT IN ('finished', 'failed', 'cancelled')
ORDER BY deadline
LIMIT :rows""",
    ),
    Question(
        name="history",
        text="What happened to line N?",
        words="story events log past trace life single id one",
        parameters=("line", "rows"),
        query="""
SELECT datetime(at, 'unixepoch') AS time_utc, kind, json_extract(details, '$.from') AS before,
       json_extract(details, '$.to') AS after,
       coalesce(json_extract(details, '$.reason'), json_extract(details, '$.note'),
                json_extract(details, '$.outcome'), json_extract(details, '$.action'),
                json_extract(details, '$.id')) AS remark
FROM event
WHERE line = :line
ORDER BY seq DESC
LIMIT :rows""",
    ),
    Question(
        name="owners",
        text="What did each owner hand in and use?",
        words="people user users who owner share team whose submitted",
        parameters=("rows",),
        query="""
SELECT owner, count(*) AS lines, sum(state = 'finished') AS finished, sum(state = 'failed') AS failed,
       sum(tokens) AS tokens, round(sum(joules), 1) AS joules
FROM line
GROUP BY owner
ORDER BY joules DESC
LIMIT :rows""",
    ),
    Question(
        name="orders",
        text="Which orders did people give?",
        words="command commands order user manual hand given priority instruction",
        query="""
SELECT datetime(at, 'unixepoch') AS time_utc, verb, line, arguments, coalesce(outcome, 'waits') AS outcome
FROM command
WHERE at >= :since
ORDER BY id DESC
LIMIT :rows""",
    ),
)
