"""``python -m koopcore`` is the ``koopcore`` command."""

from koopcore.cli import main

if __name__ == "__main__":
    main()
