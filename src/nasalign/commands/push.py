"""Uploading an export to the Hugging Face hub; the token is the user's own login."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import CommitOperationAdd, HfApi, errors
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from nasalign.commands.export_files import Exported
from nasalign.errors import NasAlignError

_MESSAGE = "Add a model corrected by nasalign"


def check_push(repo: str) -> None:
    """Asks the hub who the user is, so that an upload that cannot be is refused at once.

    Raises:
        NasAlignError: the id is none, there is no token, or the hub does not answer or know it.
    """
    with _in_a_sentence(repo):
        validate_repo_id(repo)
        HfApi().whoami()


def push(exported: Exported, repo: str, private: bool) -> str:
    """Uploads an export with its card to a repository, which is made if it is not there.

    Args:
        exported: what was written.
        repo: ``owner/name``, or a name among the user's own.
        private: make it private; one that is there and public is refused.

    Returns:
        The address of the repository.

    Raises:
        NasAlignError: the hub refuses or does not answer; the export stays where it is.
    """
    by_hand = f" It is in {exported.target}; `hf upload {repo} {exported.target}` uploads it."
    with _in_a_sentence(repo, by_hand):
        api = HfApi()
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(made.repo_id).private:
            raise NasAlignError(
                f"{made.repo_id} is there already and public, so nothing was uploaded; make it "
                f"private or choose another.{by_hand}"
            )
        files = exported.uploads().items()  # and nothing else that may be beside them by now
        added = [CommitOperationAdd(name, str(path)) for name, path in files]
        api.create_commit(made.repo_id, added, commit_message=_MESSAGE)
        return str(made)


@contextmanager
def _in_a_sentence(repo: str, more: str = "") -> Iterator[None]:
    """Turns what the hub's library raises into a sentence."""
    try:
        yield
    except errors.HFValidationError as error:
        raise NasAlignError(f"{repo!r} is no id of a repository; write owner/name.") from error
    except errors.LocalTokenNotFoundError as error:
        raise NasAlignError(
            f"There is no token for the Hugging Face hub; log in by `hf auth login` or set "
            f"HF_TOKEN.{more}"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise NasAlignError(
            f"HF_HUB_OFFLINE keeps the hub out of reach; unset it to upload.{more}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise NasAlignError(f"{_refusal(repo, error)}{more}") from error
    except (errors.HTTPError, OSError, RuntimeError) as error:  # type: ignore[attr-defined]
        raise NasAlignError(f"The Hugging Face hub cannot be reached: {error}.{more}") from error


def _refusal(repo: str, error: errors.HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 401:
        return "The Hugging Face hub does not know your token; log in again by `hf auth login`."
    said = f" ({error.server_message})" if error.server_message else ""
    if status == 403:
        return f"The Hugging Face hub does not let your token write to {repo}{said}."
    return f"The Hugging Face hub refused {repo} with status {status}{said}."
