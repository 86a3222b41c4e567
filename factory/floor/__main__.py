"""The floor's command line: `python -m factory.floor <command> ...`; `--help` lists the commands."""

from factory.floor.command_line import main

if __name__ == "__main__":
    main()
