"""Cases: for each class of fault its truth, against which findings and actions are judged."""

from __future__ import annotations

from dataclasses import dataclass

from factory.operator.words import Fault, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A class of faults that can be injected."""

    name: str
    finds: frozenset[Fault]
    """Findings that name it."""
    follows: frozenset[Fault] = frozenset()
    """Findings about its consequences, which are no false alarms and do not count as found."""
    cures: tuple[Verb, ...] = ()
    """Actions that end it, best first; none where only people can."""
    helps: frozenset[Verb] = frozenset()
    """Further actions that are right, although the fault stays."""
    is_of_floor: bool = False
    """True if no single line has it."""
    lasts: bool = True
    """False if it is over by itself."""
    spoils: bool = False
    """True if what the line does while it has the fault is worth nothing."""
    starts_ill: bool = False
    """True if it is there from the first iteration on."""
    settings: tuple[str, ...] = ()
    """Settings of the line besides the common ones."""
    num_lines: int = 1
    flex: int = 1
    cores: float = 1.0
    usual_rows: int = 60
    """Iterations of a real line before the injection, so that every detector knows the usual speed."""
    watch_s: float = 30.0
    """Time for which a real line is watched after the injection."""

    def is_right(self, verb: Verb) -> bool:
        """Return whether an action is no mistake."""
        return verb in (Verb.ALERT, Verb.RELEASE) or verb in self.cures or verb in self.helps


_DISTURBED = frozenset({Fault.CRAWL, Fault.FAIL_SLOW, Fault.CONTENTION})

CASES: tuple[Case, ...] = (
    Case(name="crash", finds=frozenset({Fault.CRASH}), cures=(Verb.RETRY_NOW,), lasts=False, watch_s=20.0),
    Case(name="hang", finds=frozenset({Fault.HANG}), cures=(Verb.CONTINUE, Verb.RESTART), watch_s=20.0),
    # Slow for a shorter time than three times the healthy one, after which it would pass for usual.
    Case(name="crawl", finds=_DISTURBED, cures=(Verb.REBIND,), usual_rows=160, watch_s=40.0),
    Case(name="fail_slow", finds=_DISTURBED, cures=(Verb.REBIND,), usual_rows=160, watch_s=40.0),
    # Whoever came last makes room.
    Case(
        name="contention",
        finds=_DISTURBED,
        cures=(Verb.HOLD,),
        is_of_floor=True,
        num_lines=2,
        cores=2.0,
        usual_rows=240,
        watch_s=80.0,
    ),
    Case(name="memory", finds=frozenset({Fault.MEMORY}), cures=(Verb.CHECKPOINT_RESTART,), watch_s=60.0),
    Case(name="divergence_nan", finds=frozenset({Fault.DIVERGENCE}), cures=(Verb.CANCEL,), watch_s=20.0),
    Case(
        name="divergence_rate",
        finds=frozenset({Fault.DIVERGENCE}),
        cures=(Verb.CANCEL,),
        spoils=True,
        starts_ill=True,
        settings=("learner.schedule=fixed", "learner.learning_rate=1e3"),
        watch_s=40.0,
    ),
    # A floor alone takes three attempts to see that a cause comes back; sooner is as good.
    Case(
        name="crash_loop",
        finds=frozenset({Fault.CRASH_LOOP}),
        follows=frozenset({Fault.CRASH}),
        cures=(Verb.CANCEL,),
        helps=frozenset({Verb.RETRY_NOW}),
        watch_s=45.0,
    ),
    Case(
        name="disk",
        finds=frozenset({Fault.DISK}),
        cures=(Verb.PRUNE,),
        helps=frozenset({Verb.HOLD}),
        is_of_floor=True,
        watch_s=45.0,
    ),
    Case(
        name="ledger",
        finds=frozenset({Fault.LEDGER}),
        settings=("tracking=mlflow", "tracking.system_metrics=false"),
        watch_s=90.0,
    ),
    Case(
        name="bad_checkpoint",
        finds=frozenset({Fault.BAD_CHECKPOINT}),
        cures=(Verb.CHECKPOINT_RESTART,),
        # The next checkpoint would replace it, so it has to be far away.
        settings=("checkpoint_every=400",),
        watch_s=20.0,
    ),
    Case(name="over_budget", finds=frozenset({Fault.OVER_BUDGET}), is_of_floor=True, flex=0, watch_s=20.0),
    Case(name="meter", finds=frozenset({Fault.METER}), is_of_floor=True, watch_s=20.0),
    Case(name="clock", finds=frozenset({Fault.CLOCK}), is_of_floor=True, lasts=False, watch_s=15.0),
    Case(name="duplicate", finds=frozenset({Fault.CLOCK}), is_of_floor=True, watch_s=10.0),
    Case(name="floor_died", finds=frozenset({Fault.FLOOR_DIED}), is_of_floor=True, lasts=False, watch_s=20.0),
)
BY_NAME = {case.name: case for case in CASES}
QUIET = Case(name="fault_free", finds=frozenset(), is_of_floor=True, usual_rows=2400, watch_s=1.0)
"""No fault at all: a line that runs for about five minutes, in which every warning is a false alarm."""
