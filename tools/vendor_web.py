"""Fetch what pages of `medseg export --format web` compute with: onnxruntime-web, from npm.

The package is pinned by version and hash. Of its 100 MB the page needs two files, which are kept
in src/medseg/export/web/vendor: the library, and the WebAssembly module, compressed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

VERSION = "1.30.0"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""The archive's sha512 as npm states it (`npm view onnxruntime-web@VERSION dist.integrity`)."""
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/{ARCHIVE}"

FOLDER = Path(__file__).parents[1] / "src" / "medseg" / "export" / "web" / "vendor"
LIBRARY = "ort.wasm.bundle.min.mjs"
MODULE = "ort-wasm-simd-threaded.wasm"
STAMP = "version.txt"


def download() -> bytes:
    """The archive, by npm where that is installed, else from its address."""
    npm = shutil.which("npm")
    if npm is not None:
        with tempfile.TemporaryDirectory() as folder:
            packed = subprocess.run(
                [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"], cwd=folder, check=False
            )
            archive = Path(folder) / ARCHIVE
            if packed.returncode == 0 and archive.is_file():
                return archive.read_bytes()
    with urllib.request.urlopen(URL, timeout=60) as response:
        content: bytes = response.read()
    return content


def extract(archive: bytes) -> dict[str, bytes]:
    """What is kept, by file name.

    Raises:
        ValueError: the archive is another one than that which is pinned.
    """
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"{URL} has the sha512 {found}, and not {INTEGRITY}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        library, module = (_read(package, f"package/dist/{name}") for name in (LIBRARY, MODULE))
    return {
        LIBRARY: library,
        f"{MODULE}.gz": gzip.compress(module, 9, mtime=0),
        STAMP: VERSION.encode(),
    }


def _read(package: tarfile.TarFile, name: str) -> bytes:
    member = package.extractfile(name)
    if member is None:
        raise ValueError(f"{URL} holds no file {name}")
    return member.read()


def main() -> int:
    stamp = FOLDER / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == VERSION:
        return 0
    print(f"Fetching onnxruntime-web {VERSION} for src/medseg/export/web/vendor", flush=True)
    try:
        files = extract(download())
    except (OSError, ValueError, tarfile.TarError) as error:
        print(
            f"onnxruntime-web could not be fetched ({error}). Web pages cannot be exported without "
            "it; repeat with a connection to registry.npmjs.org.",
            file=sys.stderr,
        )
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():  # the stamp comes last
        (FOLDER / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
