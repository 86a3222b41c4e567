"""Everything a run shows: console, report and video."""
