"""Score of the operator: faults are injected into tiny lines, and what the operator does is measured."""

USAGE = """keys:
  classes   classes of faults, separated by commas, or all
  deciders  deciders, separated by commas; oracle is told the fault, and takes part in replayed trials only;
            llm asks an endpoint that replays recorded answers, llm_<mode> one that fails in this way
  live      seeds with real lines, of each class and decider
  seeds     seeds of replayed trials, of each class and decider
  hours     hours of ten lines without a fault, of each decider
  out       JSON file to write

Finished trials are kept in DIR/score; the same command resumes an interrupted score. Replayed trials
need recordings: those of live trials with the decider none.

example: python -m factory.floor score classes=crash,hang deciders=none,rule live=1 seeds=10 hours=0
"""
