"""The table of detectors. A new one is a function of the view and a row here."""

from __future__ import annotations

from factory.operator.detectors import learning, machine, processes
from factory.operator.detectors.base import Detector
from factory.operator.words import Fault

DETECTORS: tuple[Detector, ...] = (
    Detector(fault=Fault.CRASH, detect=processes.crash, clear_s=0.0),
    Detector(fault=Fault.HANG, detect=processes.hang, confirm_s=2.0),
    Detector(fault=Fault.CRAWL, detect=processes.crawl, confirm_s=3.0),
    # A machine that others use, too, is slow for seconds now and then.
    Detector(fault=Fault.FAIL_SLOW, detect=processes.fail_slow, confirm_s=20.0),
    Detector(fault=Fault.CONTENTION, detect=processes.contention, confirm_s=5.0),
    Detector(fault=Fault.MEMORY, detect=processes.memory, confirm_s=3.0),
    Detector(fault=Fault.CRASH_LOOP, detect=processes.crash_loop),
    Detector(fault=Fault.DIVERGENCE, detect=learning.divergence, confirm_s=2.0),
    Detector(fault=Fault.COLLAPSE, detect=learning.collapse, confirm_s=3.0),
    Detector(fault=Fault.STAGNATION, detect=learning.stagnation, confirm_s=10.0),
    Detector(fault=Fault.BAD_CHECKPOINT, detect=learning.bad_checkpoint, confirm_s=2.0),
    Detector(fault=Fault.OVER_BUDGET, detect=machine.over_budget),
    Detector(fault=Fault.METER, detect=machine.meter, confirm_s=2.0),
    Detector(fault=Fault.DISK, detect=machine.disk, confirm_s=2.0),
    Detector(fault=Fault.LEDGER, detect=machine.ledger),
    Detector(fault=Fault.FLOOR_DIED, detect=machine.floor_died),
    Detector(fault=Fault.CLOCK, detect=machine.clock, clear_s=10.0),
)
