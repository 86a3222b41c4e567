"""Puts this folder on the path, so that tests below it find `scripted_env` too."""
