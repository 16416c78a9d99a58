"""Makes asv's own pages fetch nothing from elsewhere: ``python -m benchmarks.dashboard.vendor``.

``asv publish`` writes a page that loads ten files from three servers, and shows an error where it
cannot. They are taken from npm's registry once, checked against what is pinned here, and put
beside the page. The registry is the one that npm would use if the environment names it.
"""

import argparse
import base64
import dataclasses
import hashlib
import io
import os
import pathlib
import re
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence

REGISTRY = "https://registry.npmjs.org"


class VendorError(RuntimeError):
    """The pages cannot be made independent; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of npm's registry."""

    name: str
    version: str
    sha512: str
    """Of the archive, as npm writes it."""
    files: dict[str, str]
    """What asv's page calls a file to where the archive has it."""

    @property
    def archive(self) -> str:
        """Returns the name of the archive's file."""
        return f"{self.name}-{self.version}.tgz"


PACKAGES = (
    Package(
        "jquery",
        "3.3.1",
        "Ubldcmxp5np52/ENotGxlLe6aGMvmF4R8S6tZjsP6Knsaxd/xp3Zrh50cG93lR6nPXyUFwzN3ZSOQI0wRJNdGg==",
        {"jquery-3.3.1.min.js": "dist/jquery.min.js"},
    ),
    Package(
        "flot",
        "0.8.3",
        "xg2otcTJDvS+ERK+my4wxG/ASq90QURXtoM4LhacCq0jQW2jbyjdttbRNqU2cPykrpMvJ6b2uSp6SAgYAzj9tQ==",
        {
            "jquery.flot.min.js": "jquery.flot.js",
            "jquery.flot.time.min.js": "jquery.flot.time.js",
            "jquery.flot.selection.min.js": "jquery.flot.selection.js",
            "jquery.flot.categories.min.js": "jquery.flot.categories.js",
        },
    ),
    Package(
        "flot-orderbars",
        "1.0.0",
        "Jv51fvzevUjNXEeozpwEKfPjhiZhfiJddv0WHjduUTCmSF+7T5K7C9c9Y1wIVmUhDBv5fLMjgbwKecT0GIKPZA==",
        {"jquery.flot.orderBars.js": "js/jquery.flot.orderBars.js"},
    ),
    Package(
        "stupid-table-plugin",
        "1.1.3",
        "2Vk7XouQPxUQPRe9w0Fu7ZZ8kHLK7rDoLMsCgtKxRNJ7f4dSOGvW9CkHsq5wD6QsaEnWoyLBYH3xOEsrK3yWBg==",
        {"stupidtable.min.js": "stupidtable.min.js"},
    ),
    Package(
        "blueimp-md5",
        "2.19.0",
        "DRQrD6gJyy8FbiE4s+bDoXS9hiW3Vbx5uCdwvcCf3zLHL+Iv7LtGHLpr+GZV8rHG8tK766FGYBwRbu8pELTt+w==",
        {"md5.min.js": "js/md5.min.js"},
    ),
    Package(
        "bootstrap",
        "3.1.1",
        "TAzqS8E/ISpVHP29gYhy+1NSV+FJwApDVQhDfgLYsIuUDJiqJzH2DfORN5tiu+Ie2iBLrzEG34t4Rf465cigqg==",
        {
            "bootstrap.min.js": "dist/js/bootstrap.min.js",
            "bootstrap.min.css": "dist/css/bootstrap.min.css",
        },
    ),
)

_TAG = re.compile(r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*>", re.IGNORECASE)
_ADDRESS = re.compile(r"""\b(?:src|href|data)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
# asv leaves its page when a script fails, which no longer can.
_FOREIGN_ONLY = re.compile(r"""\s+(?:integrity|crossorigin|referrerpolicy)\s*=\s*["'][^"']*["']""")


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrites the pages that the command line names, and returns the command's status."""
    parser = argparse.ArgumentParser(description="Makes asv's pages fetch nothing from elsewhere.")
    parser.add_argument("folder", type=pathlib.Path, help="what asv publish wrote")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="of npm's archives")
    options = parser.parse_args(argv)
    try:
        vendor(options.folder, options.cache)
    except VendorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def vendor(folder: pathlib.Path, cache: pathlib.Path) -> None:
    """Puts what asv's page loads beside it, in ``vendor/``, and points the page there.

    Args:
      folder: what ``asv publish`` wrote.
      cache: where archives are kept, and looked for first.

    Raises:
      VendorError: if an archive cannot be had, is not what is pinned, or the page loads something
        that is not known here.
    """
    page = folder / "index.html"
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise VendorError(f"{page} cannot be read ({error}): run 'asv publish' first.") from error
    rewritten, names = rewrite(text)
    contents: dict[str, bytes] = {}
    for package in PACKAGES:
        if wanted := names & package.files.keys():
            archive = _archive(package, cache)
            contents |= {name: _member(archive, package.files[name]) for name in wanted}
    (folder / "vendor").mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / "vendor" / name).write_bytes(content)
    page.write_text(rewritten, encoding="utf-8")


def rewrite(text: str) -> tuple[str, set[str]]:
    """Returns a page that loads its files from ``vendor/``, and the names of these files.

    Raises:
      VendorError: if the page loads something that no package here has.
    """
    known = {name for package in PACKAGES for name in package.files}
    names: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        tag = match[0]
        address = _ADDRESS.search(tag)
        if address is None:
            return tag
        name = address[1].rpartition("/")[2]
        if name not in known:
            raise VendorError(
                f"asv's page loads {address[1]}, which is not among PACKAGES in {__name__}: add "
                "the package that has it, or use the version of asv that the lock names."
            )
        names.add(name)
        return _FOREIGN_ONLY.sub("", tag.replace(address[1], f"vendor/{name}"))

    return _TAG.sub(replace, text), names


def _archive(package: Package, cache: pathlib.Path) -> bytes:
    path = cache / package.archive
    content = path.read_bytes() if path.exists() else _download(package, cache)
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != package.sha512:
        raise VendorError(
            f"{package.archive} is not what is pinned: sha512-{digest}. Delete it from {cache} if "
            "it is there, and ask where it came from."
        )
    cache.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def _download(package: Package, cache: pathlib.Path) -> bytes:
    registry = os.environ.get("npm_config_registry", REGISTRY).rstrip("/")  # noqa: SIM112
    try:
        with urllib.request.urlopen(
            f"{registry}/{package.name}/-/{package.archive}", timeout=60
        ) as answer:
            return answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise VendorError(
            f"{package.archive} cannot be downloaded ({error}). Without a network, put the files "
            f"that 'npm pack {package.name}@{package.version}' makes elsewhere into {cache}; with "
            "a mirror of npm's registry, set npm_config_registry to its address."
        ) from error


def _member(archive: bytes, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
        member = members.extractfile(f"package/{path}")
        if member is None:
            raise VendorError(f"The archive has no file {path}.")
        return member.read()


if __name__ == "__main__":
    sys.exit(main())
