"""Robots: this project's own as MJCF, and real ones from MuJoCo Menagerie or a file."""
