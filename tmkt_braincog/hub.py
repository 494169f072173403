"""Checkpoints on the Hugging Face Hub: ``hf:user/name`` wherever a checkpoint is named.

The client comes with timm; it takes the token of ``hf auth login`` or ``$HF_TOKEN``.
"""

import os
import re
from pathlib import Path
from typing import Any

from .errors import UserError

CHECKPOINT = "best.pt"  # what a repository of ours holds
NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def local(path: str | Path) -> Path:
    """The path itself; of ``hf:user/name`` (or ``hf:user/name@revision``) the file in the Hub's
    cache, downloaded where it is not there.

    Raises:
        UserError: a name of another form, or a repository that cannot be had.
    """
    if not str(path).startswith("hf:"):
        return Path(path)
    found = parsed(str(path))
    from huggingface_hub import hf_hub_download

    try:
        how = {"revision": found["revision"], "endpoint": os.environ.get("HF_ENDPOINT")}
        return Path(hf_hub_download(found["repo"], CHECKPOINT, **how))
    except Exception as error:  # the client's, its transport's and the system's
        raise UserError(
            f"Cannot get {CHECKPOINT} of {path} from the Hugging Face Hub: {_said(error)} Check "
            "the name and the network; a private repository needs `hf auth login`."
        ) from error


def push(checkpoint: bytes, name: str, card: str, private: bool) -> str:
    """Put a checkpoint and its card into the repository ``hf:user/name``, made where there is none;
    returns its address.

    Raises:
        UserError: a name of another form, or the Hub refuses.
    """
    found = parsed(name)
    from huggingface_hub import CommitOperationAdd, HfApi

    try:
        api = HfApi(os.environ.get("HF_ENDPOINT"))
        url = api.create_repo(found["repo"], private=private, exist_ok=True)
        files = {CHECKPOINT: checkpoint, "README.md": card.encode()}
        api.create_commit(
            found["repo"],
            [CommitOperationAdd(to, f) for to, f in files.items()],
            commit_message="Checkpoint and model card by tmkt_braincog",
            revision=found["revision"],
        )
    except Exception as error:
        raise UserError(
            f"Cannot push to {name}: {_said(error)} Log in with `hf auth login` as somebody who "
            "may write there."
        ) from error
    return str(url)


def parsed(name: str) -> dict[str, Any]:
    """``repo`` and ``revision`` of ``hf:user/name``; a UserError for another form."""
    if (found := NAME.fullmatch(name)) is None:
        raise UserError(f"{name!r} names nothing on the Hugging Face Hub: expected hf:user/name.")
    return found.groupdict()


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}."
