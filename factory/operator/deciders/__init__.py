"""Deciders choose one of the candidates for a finding, or none. A new one is a file and a row in `table`."""
