"""The one exception with which a command gives up: an exit code, and a sentence for the person."""

from heliograph.cli.exit_codes import ExitCode


class CommandError(Exception):
    """A command cannot go on; `app.main` prints the sentence and exits with the code."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
