"""Sweeps of the floor: trials to start, train on and give up, as pure functions of their records."""
