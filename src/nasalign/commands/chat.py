"""A line of a chat: a yes/no question, a free message, or a way to end."""

from typing import Any

from nasalign.commands.ask import Pair
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError

FREE = "/free"
QUIT = "/quit"
HELP = f"Ask a yes/no question; {FREE} before anything else; {QUIT} or Ctrl-D ends."


def reply(pair: Pair, line: str) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Answers a line; returns it as ``question`` or ``message``, and what each side says to it.

    Raises:
        NasAlignError: the line is no question, or too long for the model.
    """
    command, _, rest = line.partition(" ")
    if command == FREE:
        message = rest.strip()
        if not message:
            raise NasAlignError(f"What is to be answered freely stands behind {FREE}.")
        return {"message": message}, pair.free(message)
    if command.startswith("/"):
        raise NasAlignError(f"There is no {command} here. {HELP}")
    return {"question": line}, pair.ask(BinaryExample(line, True))
