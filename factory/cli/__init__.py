"""The command line: arguments are checked first, and a mistake ends in one line and exit status 2."""

from factory.cli.errors import (
    MISTAKES,
    fail,
    one_line,
    one_line_errors,
    one_line_faults,
    one_line_interrupts,
    show_warnings,
)
from factory.cli.jobs import (
    compose_config,
    job_config,
    several_jobs,
    single_job,
    spelled,
    validate_arguments,
    worker_job,
)
from factory.cli.outputs import check_folder_name, check_output, check_writable
from factory.cli.parsing import OneLineParser, parse, prints_info, prints_version
from factory.cli.runs import find_run

__all__ = [
    "MISTAKES",
    "OneLineParser",
    "check_folder_name",
    "check_output",
    "check_writable",
    "compose_config",
    "fail",
    "find_run",
    "job_config",
    "one_line",
    "one_line_errors",
    "one_line_faults",
    "one_line_interrupts",
    "parse",
    "prints_info",
    "prints_version",
    "several_jobs",
    "show_warnings",
    "single_job",
    "spelled",
    "validate_arguments",
    "worker_job",
]
