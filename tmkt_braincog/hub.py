"""Checkpoints on the Hugging Face Hub: ``hf:user/name`` wherever a checkpoint is named.

The client comes with timm; it takes the token of ``hf auth login`` or ``$HF_TOKEN``.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

CHECKPOINT = "best.pt"  # what a repository of ours holds
NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def local(path: str | Path) -> Path:
    """The path itself; of ``hf:user/name`` (or ``hf:user/name@revision``) the file in the Hub's
    cache, downloaded where it is not there.

    Raises:
        UserError: a name of another form, or a repository that cannot be had.
    """
    if not str(path).startswith("hf:"):
        return Path(path)
    repo, revision = parsed(str(path))
    from huggingface_hub import hf_hub_download

    hint = "Check the name and the network; a private repository needs `hf auth login`."
    with _asking(f"Cannot get {CHECKPOINT} of {path} from the Hugging Face Hub", hint):
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(hf_hub_download(repo, CHECKPOINT, revision=revision, endpoint=endpoint))


def push(checkpoint: bytes, name: str, card: str, private: bool) -> str:
    """Put a checkpoint and its card into the repository ``hf:user/name``, made where there is none;
    returns its address.

    Raises:
        UserError: a name of another form, or the Hub refuses.
    """
    repo, revision = parsed(name)
    from huggingface_hub import CommitOperationAdd, HfApi

    hint = "Log in with `hf auth login` as somebody who may write there."
    with _asking(f"Cannot push to {name}", hint):
        api = HfApi(os.environ.get("HF_ENDPOINT"))
        url = api.create_repo(repo, private=private, exist_ok=True)
        files = {CHECKPOINT: checkpoint, "README.md": card.encode()}
        added = [CommitOperationAdd(to, content) for to, content in files.items()]
        said = "Checkpoint and model card by tmkt_braincog"
        api.create_commit(repo, added, commit_message=said, revision=revision)
        return str(url)


def parsed(name: str) -> tuple[str, str | None]:
    """Repository and revision of ``hf:user/name``; a UserError for another form."""
    if (found := NAME.fullmatch(name)) is None:
        raise UserError(f"{name!r} names nothing on the Hugging Face Hub: expected hf:user/name.")
    return found[1], found[2]


@contextmanager
def _asking(what: str, hint: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client's, its transport's and the system's
        reason = next(filter(None, map(str.strip, str(error).splitlines())), "no reason given")
        raise UserError(f"{what}: {type(error).__name__}: {reason}. {hint}") from error
