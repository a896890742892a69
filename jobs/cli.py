"""Entry point: signals are handled before the first library is imported, which takes a fifth of a second."""

from jobs.terminal.signals import end_with


def main() -> None:
    """Run the command line and end the process."""
    end_with(_run)


def _run() -> None:
    from jobs.commands.app import app

    app()


if __name__ == "__main__":
    main()
