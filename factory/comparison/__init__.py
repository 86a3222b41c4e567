"""Runs side by side: select, group by setting, figures with intervals over seeds, charts, page."""
