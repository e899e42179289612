"""Published weights: from a hub on this machine, from the cache, and without any connection."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from safetensors.torch import save_file
from saved_networks import random_state

from deepspec.backbones import load_backbone

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a hub that has one network and refuses a gated one, and the network's file."""
    file = tmp_path_factory.mktemp("hub") / "model.safetensors"
    save_file(random_state("test_vit"), file)
    content = file.read_bytes()

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            headers = {"X-Repo-Commit": COMMIT, "ETag": '"1234567890abcdef"'}
            status, data = 404, b""
            if self.path == "/timm/test_vit.r160_in1k/resolve/main/model.safetensors":
                status, data = 200, content
            elif "dinov3" in self.path:
                status, headers = 403, {"X-Error-Code": "GatedRepo"}
            else:
                headers = {"X-Error-Code": "EntryNotFound"}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", file
    server.shutdown()
    thread.join()
    server.server_close()


def run(script: str, endpoint: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The hub's settings are read when its library is imported, so each case is a process."""
    proxies = {f"{scheme}_proxy": "" for scheme in ("http", "https", "all", "HTTP", "HTTPS", "ALL")}
    settings = {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "TORCH_HOME": str(home),
        **proxies,
        **environment,
    }
    script = "import numpy as np\nfrom deepspec.backbones import load_backbone\nimport timm\n" + script
    command = [sys.executable, "-W", "error", "-W", "ignore::FutureWarning", "-c", script]
    return subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )


def test_weights_are_downloaded_once_and_then_need_no_connection(
    hub: tuple[str, Path], tmp_path: Path
) -> None:
    endpoint, file = hub
    script = f"""
image = np.arange(64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
network = load_backbone("test_vit", device="cpu")
from_file = load_backbone("test_vit", {str(file)!r}, device="cpu")
assert np.array_equal(network(image).array, from_file(image).array)
print(network.settings["weights"])
"""
    # The bar is for terminals; this position asks for it elsewhere too.
    first = run(script, endpoint, tmp_path, TQDM_POSITION="-1")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == f"timm/test_vit.r160_in1k@{COMMIT}"
    assert "model.safetensors" in first.stderr  # the progress bar
    for offline in ("0", "1"):
        again = run(script, UNREACHABLE, tmp_path, HF_HUB_OFFLINE=offline)
        assert again.returncode == 0, again.stderr
        assert again.stdout == first.stdout


def test_gated_weights_are_explained(hub: tuple[str, Path], tmp_path: Path) -> None:
    done = run("load_backbone('dinov3_vits16')", hub[0], tmp_path)
    assert "PermissionError: the weights of dinov3_vits16 are gated: accept their licence on" in done.stderr
    assert "hf auth login" in done.stderr


FAILING = """
for name in {names}:
    try:
        load_backbone(name)
    except OSError as error:
        print(error)
"""


def errors(names: list[str], endpoint: str, home: Path, **environment: str) -> list[str]:
    done = run(FAILING.format(names=names), endpoint, home, **environment)
    messages = done.stdout.splitlines()
    assert len(messages) == len(names), done.stderr
    return messages


def test_without_connection_and_cache_the_error_names_the_ways_out(tmp_path: Path) -> None:
    # "cannot be reached" is the quick probe's word: the hub's own retries take 23 seconds and more.
    names = ["dino_vits16", "squeezenet1_0"]
    for name, message in zip(
        names, errors(names, UNREACHABLE, tmp_path, https_proxy=UNREACHABLE), strict=True
    ):
        for part in (
            name,
            "cannot be reached ([Errno",
            "weights=PATH",
            "HF_HUB_OFFLINE",
            f"the cache {tmp_path}",
        ):
            assert part in message
    (message,) = errors(["dino_vits16"], UNREACHABLE, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set: " in message


def test_a_host_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # listens and serves nobody
        (message,) = errors(["dino_vits16"], f"http://127.0.0.1:{silent.server_port}", tmp_path)
    assert "cannot be reached (no answer in 2 s)" in message or "cannot be reached (timed out)" in message


def test_torchvisions_weights_are_looked_for_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(random_state("squeezenet1_0"), cache / "squeezenet1_0-b66bff10.pth")
    source = load_backbone("squeezenet1_0", device="cpu").settings["weights"]
    assert source == "https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("dino_resnet50", "dino_resnet50_pretrain.pth"),
        ("dino_xcit_small_12_p8", "dino_xcit_small_12_p8_pretrain.pth"),
        ("mocov3_vitb16", "vit-b-300ep.pth.tar"),
    ],
)
def test_names_without_a_hub_point_to_the_official_file(name: str, file: str) -> None:
    with pytest.raises(ValueError, match=f"https://dl.fbaipublicfiles.com/.*{file} and pass weights=PATH"):
        load_backbone(name)
