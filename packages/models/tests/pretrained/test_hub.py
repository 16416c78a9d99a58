"""The real client of the Hub, in processes of its own, against a server that answers as the Hub."""

import hashlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import save

from scenax.models.pretrained import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Repositories on loopback, and what was asked of them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.checksums: dict[str, str] = {}  # What the server says if it is not the truth.
        self.log: list[tuple[str, str, str | None]] = []
        self.cut = 0  # How many answers still stop half-way.

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self, name):
        """The ranges that were asked for of a file, of which None is all of it."""
        return [span for method, each, span in self.log if (method, each) == ("GET", name)]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/?]+)(\?.*)?", self.path)
        if match is None:
            self.server.log.append((self.command, self.path, None))
            return self.refuse("EntryNotFound")
        repository, revision, name, _ = match.groups()
        self.server.log.append((self.command, name, self.headers.get("Range")))
        if repository not in self.server.files:
            return self.refuse("RepoNotFound")
        if revision not in ("main", "v2", COMMIT):
            return self.refuse("RevisionNotFound")
        if name not in self.server.files[repository]:
            return self.refuse("EntryNotFound")
        return self.answer(name, self.server.files[repository][name])

    do_GET = do_HEAD

    def answer(self, name, content):
        checksum = self.server.checksums.get(name, hashlib.sha256(content).hexdigest())
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        self.send_response(206 if span else 200)
        if span:
            end = f"{start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {end}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{checksum}"')
        self.send_header("X-Linked-Etag", f'"{checksum}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = content[start:]
        if self.server.cut > 0 and name.endswith((".safetensors", ".bin")):
            self.server.cut -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        server.files["timm/test_vit.r160_in1k"] = {"model.safetensors": WEIGHTS}
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(server, tmp_path):
    """A function that runs code, as users' processes do, and returns the process."""

    def run(code, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment = {
            **kept,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=120
        )

    return run


def fetching(repository):
    return f"from scenax.models.pretrained import hub; print(hub.fetch({repository!r}))"


FETCH = fetching("timm/test_vit.r160_in1k")


def content(done):
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip()).read_bytes()


def test_a_file_is_downloaded_once_and_then_is_in_the_cache(server, run):
    assert content(run(FETCH)) == WEIGHTS
    assert server.gets("model.safetensors") == [None]
    assert content(run(FETCH)) == WEIGHTS
    assert server.gets("model.safetensors") == [None]

    asked = len(server.log)
    assert content(run(FETCH, HF_HUB_OFFLINE="1")) == WEIGHTS
    assert len(server.log) == asked
    assert content(run(FETCH, HF_ENDPOINT="http://127.0.0.1:9")) == WEIGHTS


def test_what_is_not_in_the_cache_needs_a_network(run):
    done = run(FETCH, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "HubError: The Hub cannot be reached, or is not to be (HF_HUB_OFFLINE)" in done.stderr
    assert "timm/test_vit.r160_in1k is not in the cache" in done.stderr


def test_a_download_that_breaks_off_goes_on_where_it_was(server, run):
    large = bytes(100) * 250_000  # The library keeps what it has in steps of 10 MiB.
    server.files["timm/test_vit.r160_in1k"]["model.safetensors"] = large
    server.cut = 1
    done = run(FETCH)
    if done.returncode:  # Before version 1 the library leaves it to the next call to go on.
        done = run(FETCH)
    assert content(done) == large
    whole, rest = server.gets("model.safetensors")
    assert whole is None
    assert int(re.fullmatch(r"bytes=(\d+)-", rest)[1]) >= 10 * 2**20


def test_a_download_that_failed_is_made_good_by_the_next(server, run):
    server.cut = 1000
    done = run(FETCH)
    assert done.returncode == 1
    assert "HubError: timm/test_vit.r160_in1k: model.safetensors could not be" in done.stderr
    server.cut = 0
    assert content(run(FETCH)) == WEIGHTS


def test_a_file_that_is_not_what_the_hub_says_is_refused(server, run, tmp_path):
    server.checksums["model.safetensors"] = hashlib.sha256(b"another").hexdigest()
    done = run(FETCH)
    assert done.returncode == 1
    assert "HubError: model.safetensors of timm/test_vit.r160_in1k arrived damaged" in done.stderr
    assert hashlib.sha256(WEIGHTS).hexdigest() in done.stderr
    assert not list((tmp_path / "home").rglob("*.safetensors"))

    server.checksums.clear()
    assert content(run(FETCH)) == WEIGHTS


@pytest.mark.parametrize("name", hub.FILES[1:3])
def test_other_names_of_weights_are_found_when_there_is_no_better_one(server, run, name):
    server.files["owner/clip"] = {name: WEIGHTS, "README.md": b""}
    fetch = fetching("owner/clip")
    done = run(fetch)
    assert content(done) == WEIGHTS
    assert done.stdout.strip().endswith(name)
    assert content(run(fetch, HF_HUB_OFFLINE="1")) == WEIGHTS


def test_a_repository_without_weights(server, run):
    server.files["owner/text"] = {"README.md": b""}
    done = run(fetching("owner/text"))
    assert "HubError: The repository owner/text has no weights: none of model.safe" in done.stderr


def test_an_unknown_repository_gets_the_nearest_tags(run):
    done = run(fetching("timm/vit_base_patch16_224.augreg_in21"))
    assert "HubError: The Hub has no repository 'timm/vit_base_patch16_224.aug" in done.stderr
    assert "'vit_base_patch16_224.augreg_in21k'" in done.stderr


def test_revisions(server, run):
    assert content(run(fetching("timm/test_vit.r160_in1k@v2"))) == WEIGHTS
    done = run(fetching("timm/test_vit.r160_in1k@v3"))
    assert "HubError: timm/test_vit.r160_in1k has no revision 'v3'." in done.stderr


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(hub.HubError, match=r"pip install 'scenax-models\[hub\]'"):
        hub.fetch("timm/test_vit.r160_in1k")


LOAD = """
import jax.numpy as jnp
from scenax.models import create_model, load_pretrained
model = create_model("test_vit", embed_dim=8, depth=1, num_classes=3, img_size=32)
for source in ("test_vit.r160_in1k", "hf-hub:me/mine"):
    params = load_pretrained(model, source)["params"]
    print(float(params["norm"]["bias"][0]), float(jnp.abs(params["head"]["bias"]).sum()))
"""


def test_from_a_tag_and_from_a_repository_to_variables(server, run):
    shapes = {
        "cls_token": (1, 1, 8),
        "pos_embed": (1, 5, 8),
        "patch_embed.proj.weight": (8, 3, 16, 16),
        "blocks.0.attn.qkv.weight": (24, 8),
        "blocks.0.attn.qkv.bias": (24,),
        "blocks.0.attn.proj.weight": (8, 8),
        "blocks.0.attn.proj.bias": (8,),
        "blocks.0.mlp.fc1.weight": (24, 8),
        "blocks.0.mlp.fc1.bias": (24,),
        "blocks.0.mlp.fc2.weight": (8, 24),
        "blocks.0.mlp.fc2.bias": (8,),
        "head.weight": (3, 8),
        "head.bias": (3,),
    }
    norms = ("blocks.0.norm1", "blocks.0.norm2", "norm")
    norms = [f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")]
    shapes |= {name: (8,) for name in ("patch_embed.proj.bias", *norms)}
    content = save({name: np.full(shape, 2, np.float32) for name, shape in shapes.items()})
    server.files["timm/test_vit.r160_in1k"] = {"model.safetensors": content}
    config = {"num_classes": 3, "pretrained_cfg": {"classifier": "head"}}
    server.files["me/mine"] = {
        "model.safetensors": content,
        "config.json": json.dumps(config).encode(),
    }
    # The tag's weights are said to have a head of 1000, and so it starts fresh: at zeros.
    done = run(LOAD)
    assert (done.stdout, done.returncode) == ("2.0 0.0\n2.0 6.0\n", 0), done.stderr
