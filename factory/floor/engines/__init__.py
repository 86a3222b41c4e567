"""Engines: placing, signalling and ending the processes of attempts."""
