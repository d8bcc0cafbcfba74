"""A tokenizer's chat template, which comes with the model and is a program.

It runs in the sandbox of transformers, so that it reaches nothing; here it is also kept from
running for ever and from writing without end.
"""

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened

SECONDS = 10.0
"""Computing time of one message at most; mostly it is well below a thousandth of that."""
ROOM = 100_000
"""Characters that a template may add to what it is given."""


class _TooSlow(BaseException):
    """The template has not ended; no ``except Exception`` is to swallow that."""


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, answering: bool
) -> str:
    """Returns messages as the template writes them.

    Args:
        tokenizer: has a chat template.
        messages: each with ``role`` and ``content``.
        answering: whether the beginning of the model's turn follows.

    Raises:
        PromptError: the template fails, does not end, or writes far too much; or jinja2 is too old.
    """
    try:
        with _limited(SECONDS):
            text = tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=answering,
                enable_thinking=False,
            )
    except _TooSlow:
        raise PromptError(
            f"The chat template has not ended after {SECONDS:.0f} seconds of computing. Try "
            "chat=false."
        ) from None
    except ImportError as error:  # jinja2 is too old; it says so, and what to do
        raise PromptError(f"No chat template is rendered: {error} Or try chat=false.") from error
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ) as error:
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)[1:-1]
        raise PromptError(f"The chat template fails: {reason}. Try chat=false.") from error
    given = sum(len(message["content"]) for message in messages)
    if len(text) > ROOM + 2 * given:
        raise PromptError(
            f"The chat template makes {len(text):,} characters of a message of {given:,}. Try "
            "chat=false."
        )
    return str(text)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises ``_TooSlow`` in what takes longer, where signals can do that and nobody else has one.

    The signal comes again and again, since the compiler of templates tries constants out twice.
    """
    free = (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
    )
    if not free:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
