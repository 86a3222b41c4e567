"""The rule decider: for each fault the actions in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence

from factory.operator.view import View
from factory.operator.words import Candidate, Fault, Finding, Verb

ORDER: dict[Fault, tuple[Verb, ...]] = {
    Fault.CRASH: (Verb.RETRY_NOW,),
    # The cause comes back, so another attempt costs energy for nothing.
    Fault.CRASH_LOOP: (Verb.CANCEL, Verb.ALERT),
    Fault.HANG: (Verb.CONTINUE, Verb.RESTART),
    Fault.CRAWL: (Verb.REBIND, Verb.RESTART),
    Fault.FAIL_SLOW: (Verb.REBIND, Verb.ALERT),
    Fault.CONTENTION: (Verb.HOLD, Verb.ALERT),
    Fault.MEMORY: (Verb.CHECKPOINT_RESTART, Verb.HOLD, Verb.ALERT),
    # A training repeats its bits, so only other settings help, and these are for people to choose.
    Fault.DIVERGENCE: (Verb.CANCEL, Verb.ALERT),
    Fault.COLLAPSE: (Verb.ALERT,),
    Fault.STAGNATION: (Verb.ALERT,),
    # The floor itself sheds what it may; what is left is for people.
    Fault.OVER_BUDGET: (Verb.ALERT,),
    Fault.METER: (Verb.ALERT,),
    Fault.DISK: (Verb.PRUNE, Verb.HOLD, Verb.ALERT),
    Fault.LEDGER: (Verb.ALERT,),
    Fault.FLOOR_DIED: (Verb.ALERT,),
    # The state in memory is sound; a checkpoint of it replaces the damaged one.
    Fault.BAD_CHECKPOINT: (Verb.CHECKPOINT_RESTART, Verb.ALERT),
    Fault.CLOCK: (Verb.ALERT,),
}


class RuleDecider:
    """Takes the first action of the table that is possible."""

    name = "rule"

    def choose(self, finding: Finding, candidates: Sequence[Candidate], view: View) -> Candidate | None:
        """Return the first candidate in the order of the fault."""
        for verb in ORDER[finding.fault]:
            for candidate in candidates:
                if candidate.verb is verb:
                    return candidate
        return None
