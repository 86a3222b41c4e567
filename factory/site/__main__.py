"""The command line of site projections: `python -m factory.site`; `--help` shows how."""

from factory.site.command_line import main

if __name__ == "__main__":
    main()
