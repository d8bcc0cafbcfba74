"""Whether the model hub answers: asked once and briefly, since its client tries each file often."""

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled


def silence_of_the_hub(name: str, *, dataset: bool = False) -> str:
    """Return why the hub does not answer for a model or data set; empty if it does.

    Any answer will do, and with ``HF_HUB_OFFLINE`` the hub is not asked.
    """
    if constants.HF_HUB_OFFLINE:
        return ""
    hub = HfApi()
    ask = hub.dataset_info if dataset else hub.model_info
    try:
        ask(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return ""
    except Exception as error:  # its client has had three libraries, each with errors of its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"the hub ({constants.ENDPOINT}) does not answer: {reason[0]}"
    return ""


def how_to_be_let_in(name: str, error: BaseException) -> str:
    """Return how to get a model that the hub holds back; empty if ``error`` is another one."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, GatedRepoError):
        at = at.__cause__ or at.__context__
    if at is None:
        return ""
    return (
        f"it is gated; accept its terms at {constants.ENDPOINT}/{name}, and log in with "
        "`hf auth login` or set HF_TOKEN."
    )
