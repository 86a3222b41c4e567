"""Plug-in files of the tiny lines that are scored."""
