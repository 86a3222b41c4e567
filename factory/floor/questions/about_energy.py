"""Questions about energy, money, carbon and the budget. Joules are those of the books, by their tier."""

from __future__ import annotations

from factory.floor.questions.question import Question

# Energy of the node between neighbouring samples, in bins of 10 s: prices change more slowly.
_BINS = """
WITH step AS (
    SELECT at, joules - lag(joules) OVER (ORDER BY at) AS joules
    FROM sample
    WHERE at >= :since
),
bin AS (
    SELECT CAST(at / 10 AS INTEGER) * 10 AS start, sum(joules) AS joules
    FROM step
    GROUP BY 1
),"""

_POINTS = """
{name} AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS start, json_extract(value, '$[1]') AS stop,
           json_extract(value, '$[2]') AS amount, json_extract(value, '$[3]') AS issued,
           json_extract(value, '$[4]') AS is_forecast
    FROM json_each((SELECT value FROM state WHERE key = 'grid_signal/{key}'))
    WHERE json_extract(value, '$[1]') > :since AND json_extract(value, '$[0]') <= :now
)"""

# An actual value counts before a forecast, the latest before an earlier one.
_AT = """(
               SELECT amount FROM {name} WHERE {name}.start <= bin.start AND bin.start < {name}.stop
               ORDER BY is_forecast, issued DESC LIMIT 1
           )"""

COST_BY_HOUR = (
    _BINS
    + _POINTS.format(name="price", key="price")
    + ","
    + _POINTS.format(name="carbon", key="carbon_average")
    + """,
known AS (
    SELECT bin.start, bin.joules,
           """
    + _AT.format(name="price")
    + """ AS usd_per_kwh,
           """
    + _AT.format(name="carbon")
    + """ AS g_per_kwh
    FROM bin
    WHERE bin.joules IS NOT NULL
)
SELECT strftime('%Y-%m-%d %H:00', start, 'unixepoch') AS hour_utc, round(sum(joules), 1) AS joules,
       sum(joules * usd_per_kwh) * :pue / 3.6e6 AS usd, sum(joules * g_per_kwh) * :pue / 3.6e6 AS gco2e,
       round(coalesce(sum(joules) FILTER (WHERE usd_per_kwh IS NULL), 0), 1) AS unpriced_joules,
       round(coalesce(sum(joules) FILTER (WHERE g_per_kwh IS NULL), 0), 1) AS uncounted_joules
FROM known
GROUP BY hour_utc
ORDER BY hour_utc
LIMIT :rows"""
)

ENERGY = (
    Question(
        name="costliest",
        text="Which lines cost most?",
        words="cost costs expensive dear energy joules money usd price carbon co2 top largest most",
        parameters=("rows",),
        query="""
SELECT line.id, name, task, line.state, tokens, round(joules, 1) AS joules, round(waste_j, 1) AS waste_j,
       json_extract(value, '$.usd') AS usd, json_extract(value, '$.gco2e_average') AS gco2e
FROM line LEFT JOIN state AS kept ON kept.key = 'grid_cost/' || line.id
ORDER BY joules DESC, line.id
LIMIT :rows""",
    ),
    Question(
        name="joules_per_token",
        text="How many joules does a token cost, by task?",
        words="joule token efficiency energy each task per consumption efficient",
        parameters=("rows",),
        query="""
SELECT task, count(*) AS lines, sum(tokens) AS tokens, round(sum(joules), 1) AS joules,
       sum(joules) / sum(tokens) AS joules_per_token,
       round(100 * sum(waste_j) / nullif(sum(joules), 0), 1) AS percent_wasted
FROM line
WHERE tokens > 0
GROUP BY task
ORDER BY joules_per_token DESC
LIMIT :rows""",
    ),
    Question(
        name="waste",
        text="Where was energy wasted?",
        words="waste wasted lost thrown away useless joules discarded",
        parameters=("rows",),
        query="""
SELECT line.id, name, line.state, round(line.waste_j, 1) AS waste_j,
       round(100 * line.waste_j / nullif(line.joules, 0), 1) AS percent_of_line,
       sum(attempt.exit_class NOT IN ('ok', 'preempted')) AS failed_attempts,
       group_concat(DISTINCT attempt.exit_class) AS ends
FROM line LEFT JOIN attempt ON attempt.line = line.id
WHERE line.waste_j > 0
GROUP BY line.id
ORDER BY line.waste_j DESC
LIMIT :rows""",
    ),
    Question(
        name="over_budget",
        text="How far was the power above the budget, by hour?",
        words="violation violations exceed exceeded excess limit cap watt watts seconds ws over compliance",
        query="""
WITH step AS (
    SELECT at, power_w, budget_w, min(at - lag(at) OVER (ORDER BY at), :gap_s) AS seconds
    FROM sample
    WHERE at >= :since
)
SELECT strftime('%Y-%m-%d %H:00', at, 'unixepoch') AS hour_utc,
       round(sum(max(0, power_w - budget_w) * coalesce(seconds, 0)), 2) AS watt_seconds_over,
       round(max(max(0, power_w - budget_w)), 2) AS most_watts_over,
       round(100.0 * avg(power_w > budget_w), 2) AS percent_of_samples, min(budget_w) AS least_budget_w
FROM step
WHERE budget_w IS NOT NULL
GROUP BY hour_utc
ORDER BY hour_utc
LIMIT :rows""",
    ),
    Question(
        name="cost_by_hour",
        text="What did electricity cost and how much CO2e did it cause, by hour?",
        words="money usd dollar bill price carbon co2 gco2 emission emissions hourly grid cost costs",
        query=COST_BY_HOUR,
    ),
    Question(
        name="by_hour",
        text="How much power, work and CPU time was there, by hour?",
        words="hourly output production tokens power watts load throughput utilisation speed cpu shift",
        query="""
WITH step AS (
    SELECT at, joules - lag(joules) OVER (ORDER BY at) AS joules, running,
           tokens - lag(tokens) OVER (ORDER BY at) AS tokens, cpu_s - lag(cpu_s) OVER (ORDER BY at) AS cpu_s,
           at - lag(at) OVER (ORDER BY at) AS seconds
    FROM sample
    WHERE at >= :since
)
SELECT strftime('%Y-%m-%d %H:00', at, 'unixepoch') AS hour_utc, round(sum(joules), 1) AS joules,
       round(sum(joules) / sum(seconds), 2) AS mean_w, sum(tokens) AS tokens, round(sum(cpu_s), 1) AS cpu_s,
       round(avg(running), 2) AS lines_running
FROM step
WHERE seconds > 0
GROUP BY hour_utc
ORDER BY hour_utc
LIMIT :rows""",
    ),
)
