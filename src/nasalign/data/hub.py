"""Whether the model hub answers, asked once and briefly: its client tries each file many times."""

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled


def silence_of_the_hub(name: str, *, dataset: bool = False) -> str:
    """Returns why the hub cannot be asked for a model or a data set; empty where it answers.

    What it answers does not matter, and where it is not to be asked (``HF_HUB_OFFLINE``) it is not.

    Args:
        name: the id.
        dataset: whether it is a data set's.
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
