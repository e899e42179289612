"""Published weights: from the cache, else downloaded, else a quick and clear error."""

from __future__ import annotations

import re
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from deepspec import checkpoints
from deepspec.networks import Recipe, timm, torch_module, torchvision

if TYPE_CHECKING:
    import torch


def published(recipe: Recipe) -> tuple[torch.nn.Module, str]:
    """The network with its published weights, downloaded with a progress bar unless they are in the cache.

    Returns
    -------
    network, source
        The source is the hub's id and revision of the weights, or their URL.

    Raises
    ------
    OSError
        They are neither in the cache nor can they be had: no connection (after 2 seconds at most), or their
        licence has not been accepted.
    ValueError
        None are published where a program could get them.
    """
    if recipe.library == "torchvision":
        url = torchvision().models.get_model_weights(recipe.architecture).DEFAULT.url
        network = recipe.build()
        checkpoints.load(network, _from_url(url, recipe), recipe)
        return network, url
    config = timm().models.get_pretrained_cfg(recipe.architecture)
    if recipe.checkpoint:
        raise ValueError(
            f"no hub has the weights of {recipe.name}: download {recipe.checkpoint} and pass weights=PATH"
        )
    if not (config and (config.hf_hub_id or config.url)):
        raise ValueError(f"timm has no published weights for {recipe.name}: pass weights=PATH")
    if config.hf_hub_id:
        file = _from_hub(config.hf_hub_id, recipe)
        source = f"{config.hf_hub_id.partition('@')[0]}@{file.parent.name}"
    else:
        file, source = _from_url(config.url, recipe), config.url
    try:
        return recipe.build(pretrained=True, pretrained_cfg_overlay={"file": str(file)}), source
    except MemoryError:
        raise
    except Exception as error:
        # Each format has errors of its own for broken files.
        raise OSError(
            f"{file} does not hold the weights of {recipe.name}, delete it to try again: {error}"
        ) from error


def official_checkpoint(recipe: Recipe) -> Path:
    """The file of weights that no hub has, `recipe.checkpoint`, in torch's cache, downloaded unless it is there.

    Raises
    ------
    OSError
        It is not in the cache and cannot be had.
    """
    return _from_url(recipe.checkpoint, recipe)


def _from_hub(hub_id: str, recipe: Recipe) -> Path:
    """The file of weights in the hub's cache."""
    import huggingface_hub as hub
    from huggingface_hub import constants, errors

    repository, _, revision = hub_id.partition("@")
    files = ("model.safetensors", "pytorch_model.bin")
    for file in files:
        cached = hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    where = f"the cache {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise _not_had(recipe, where, "HF_HUB_OFFLINE is set")
    url = hub.hf_hub_url(repository, files[0], revision=revision or None)
    if reason := _unreachable(url):
        raise _not_had(recipe, where, f"{url} cannot be reached ({reason})")
    try:
        there = [file for file in files if hub.file_exists(repository, file, revision=revision or None)]
        if there:
            return Path(hub.hf_hub_download(repository, there[0], revision=revision or None))
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"the weights of {recipe.name} are gated: accept their licence on {constants.ENDPOINT}/{repository}, "
            "then run `hf auth login`; or pass weights=PATH"
        ) from error
    except Exception as error:  # The hub and the connection have many kinds of them.
        raise _not_had(recipe, where, str(error).partition("\n")[0]) from error
    raise _not_had(recipe, where, f"{repository} has neither {' nor '.join(files)}")


def _from_url(url: str, recipe: Recipe) -> Path:
    """The file of weights in torch's cache."""
    hub = torch_module().hub
    file = Path(hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if file.exists():
        return file
    if reason := _unreachable(url):
        raise _not_had(recipe, f"the cache {file.parent}", f"{url} cannot be reached ({reason})")
    file.parent.mkdir(parents=True, exist_ok=True)
    named = re.search(r"-([0-9a-f]{8,})\.", file.name)  # by the first digits of its SHA-256
    try:
        hub.download_url_to_file(url, str(file), named and named[1], progress=True)
    except (OSError, RuntimeError) as error:
        raise _not_had(recipe, f"the cache {file.parent}", f"{url} failed ({error})") from error
    return file


def _not_had(recipe: Recipe, where: str, reason: str) -> OSError:
    return OSError(
        f"the weights of {recipe.name} are not in {where} and {reason}: connect and try again, or pass "
        "weights=PATH of a downloaded file (what is in the cache needs no connection, and with HF_HUB_OFFLINE=1 "
        "none is tried)"
    )


def _unreachable(url: str, seconds: float = 2.0) -> str:
    """Why a URL does not answer; empty if it does. The libraries' own retries take up to a minute."""
    answers: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            answers.append("")
        except urllib.error.HTTPError as error:
            answers.append("" if error.code < 500 and error.code != 407 else str(error))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            # The libraries bring certificates of their own.
            answers.append("" if isinstance(reason, ssl.SSLError) else str(reason))

    # In a thread, since looking a host's name up has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else f"no answer in {seconds:g} s"
