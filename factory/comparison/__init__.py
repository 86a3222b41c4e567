"""Runs side by side: select, group by setting, metrics with intervals over seeds, charts, page."""
