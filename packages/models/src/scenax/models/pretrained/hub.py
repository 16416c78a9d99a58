"""Weights from the Hugging Face Hub, by the library ``huggingface_hub``.

Its cache, its offline mode and its mirrors work as it documents: ``HF_HOME``, ``HF_HUB_OFFLINE``,
``HF_ENDPOINT``. What it does not do is to look at what it downloaded: here the checksum under which
the Hub stores a large file is compared with the file's.
"""

import hashlib
import importlib
import importlib.util
import pathlib
import re
from typing import Any

from scenax.common.registry import closest
from scenax.models import _registry

FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""What weights are called there, the better ones first."""


class HubError(OSError):
    """The Hub cannot be reached, or has not what was asked for."""


def fetch(repository: str) -> pathlib.Path:
    """Returns the file of weights of a repository, downloaded unless it is in the cache.

    Args:
      repository: ``"owner/name"``, or ``"owner/name@revision"``.

    Raises:
      HubError: if ``huggingface_hub`` is not installed, the Hub cannot be reached and the file is
        not in the cache, there is no such repository (the message has the closest tags), it has no
        weights, or what came is not what the Hub says it is.
    """
    for name in FILES:
        if (path := _download(repository, name)) is not None:
            return path
    raise HubError(f"The repository {repository} has no weights: none of {', '.join(FILES)}.")


def fetch_config(repository: str) -> pathlib.Path | None:
    """Returns the ``config.json`` of a repository, or None if it has none.

    Raises:
      HubError: as ``fetch``.
    """
    return _download(repository, "config.json")


def _download(repository: str, name: str) -> pathlib.Path | None:
    """Returns a file of a repository, or None if it has no such file."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HubError(
            f"{repository} is on the Hugging Face Hub: pip install 'scenax-models[hub]', or "
            "download its model.safetensors and load the file."
        )
    library: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    owner_and_name, _, revision = repository.partition("@")
    place = {"repo_id": owner_and_name, "revision": revision or None}

    def is_cached(name: str) -> bool:
        return isinstance(library.try_to_load_from_cache(filename=name, **place), str)

    try:
        known = is_cached(name)
        path = pathlib.Path(library.hf_hub_download(filename=name, **place))
    except errors.LocalEntryNotFoundError as error:
        if any(is_cached(other) for other in FILES):
            return None  # It was asked for before, and another file was found.
        raise HubError(
            f"The Hub cannot be reached, or is not to be (HF_HUB_OFFLINE), and {repository} is not "
            "in the cache. Once it is, no network is needed; HF_ENDPOINT names a mirror; a file "
            f"can be loaded by its path. The reason: {_reason(error)}"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except errors.RepositoryNotFoundError as error:
        tags = closest(owner_and_name.rpartition("/")[2], _registry.list_models(pretrained=True))
        near = f" The nearest tags: {', '.join(map(repr, tags))}." if tags else ""
        raise HubError(
            f"The Hub has no repository {owner_and_name!r}, or it is private or gated, and you are "
            f"not logged in.{near}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{owner_and_name} has no revision {revision!r}.") from error
    except Exception as error:  # From the network come errors of any kind.
        raise HubError(f"{repository}: {name} could not be downloaded: {_reason(error)}") from error
    if not known:
        _check(path, repository)
    return path


def _check(path: pathlib.Path, repository: str) -> None:
    """Compares a file with its checksum, if it is stored under one as large files are.

    Raises:
      HubError: if it is another; the file is taken out of the cache.
    """
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        path.unlink()
        blob.unlink()
        raise HubError(
            f"{path.name} of {repository} arrived damaged: its SHA-256 is {found}, and the Hub "
            f"says {blob.name}. It was removed; try again, or another HF_ENDPOINT."
        )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
