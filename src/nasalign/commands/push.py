"""Uploading an export to the Hugging Face hub; the token is that of the user's own login."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, errors
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from nasalign.errors import NasAlignError


def check_push(repo: str) -> None:
    """Ask the hub who the user is, so that an impossible upload is refused at once.

    Raises:
        NasAlignError: the id is invalid, there is no token, or the hub does not accept it.
    """
    with _explained(repo):
        validate_repo_id(repo)
        HfApi().whoami()


def upload(target: Path, files: Mapping[str, Path], repo: str, private: bool) -> str:
    """Upload an export to a repository, which is made if it is not there; return its address.

    Args:
        target: the export, for a message on what to do by hand.
        files: what is uploaded, by its name in the repository.
        repo: ``owner/name``, or a name among the user's own.
        private: make it private; an existing public repository is refused.

    Raises:
        NasAlignError: the hub refuses or does not answer; the export stays where it is.
    """
    by_hand = f" It is in {target}; `hf upload {repo} {target}` uploads it."
    with _explained(repo, by_hand):
        api = HfApi()
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(made.repo_id).private:
            raise NasAlignError(
                f"{made.repo_id} is there already and public, so nothing was uploaded; make it "
                f"private or choose another.{by_hand}"
            )
        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        message = "Add a model corrected by nasalign"
        api.create_commit(made.repo_id, added, commit_message=message)
        return str(made)


@contextmanager
def _explained(repo: str, more: str = "") -> Iterator[None]:
    """Turn what the hub's library raises into a sentence."""
    try:
        yield
    except errors.HFValidationError as error:
        raise NasAlignError(f"{repo!r} is no id of a repository; write owner/name.") from error
    except (errors.HTTPError, OSError, RuntimeError) as error:  # type: ignore[attr-defined]
        raise NasAlignError(f"{_reason(repo, error)}{more}") from error


def _reason(repo: str, error: Exception) -> str:
    match error:
        case errors.LocalTokenNotFoundError():
            login = "log in by `hf auth login` or set HF_TOKEN"
            return f"There is no token for the Hugging Face hub; {login}."
        case errors.OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE keeps the hub out of reach; unset it to upload."
        case errors.HfHubHTTPError():
            status = error.response.status_code
            said = f" ({error.server_message})" if error.server_message else ""
            if status == 401:
                login = "log in again by `hf auth login`"
                return f"The Hugging Face hub does not know your token; {login}."
            if status == 403:
                return f"The Hugging Face hub does not let your token write to {repo}{said}."
            return f"The Hugging Face hub refused {repo} with status {status}{said}."
    return f"The Hugging Face hub cannot be reached: {error}."
