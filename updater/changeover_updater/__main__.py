"""``python -m changeover_updater``: the command line without the console script."""

from changeover_updater.cli.main import main

if __name__ == "__main__":
    main()
