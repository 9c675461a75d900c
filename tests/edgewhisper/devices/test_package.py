"""Packages installed where there is Python, no network and nothing else; there they transcribe."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import devices
from conftest import Run
from edgewhisper.devices import package, platforms, wheels
from edgewhisper.devices.contents import unpack
from edgewhisper.wheel import write_runtime_wheel
from edgewhisper_runtime.bundle import describe_file

HERE = "linux-x86_64"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
pytestmark = pytest.mark.skipif(
    (sys.platform, os.uname().machine) != ("linux", "x86_64"), reason="packages are run here"
)
Packed = Callable[[str], Path]


@pytest.fixture(scope="session")
def packed(onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Packages of the tiny bundle for this machine, by format, each written once."""
    directory = tmp_path_factory.mktemp("packages")

    def find(to_format: str) -> Path:
        path = directory / f"tiny{package.SUFFIXES[to_format]}"
        if not path.exists():
            package.write(onnx_bundle, HERE, to_format, PYTHON, output=path)
        return path

    return find


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory: pytest.TempPathFactory, speech: list[Path]) -> Path:
    """A root directory with Python, the C library and a recording, /speech.flac."""
    allowed = os.geteuid() == 0 and shutil.which("unshare") is not None
    if not allowed or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("a root directory without a network needs root, and a system that lets unshare")
    root = devices.make_root(tmp_path_factory.mktemp("device"))
    shutil.copy(speech[0], root / "speech.flac")
    return root


@pytest.fixture
def text(onnx_bundle: Path, speech: list[Path], run: Run) -> str:
    """What the bundle makes of the recording here."""
    return str(run("transcribe", speech[0], "--bundle", onnx_bundle).stdout)


def test_the_root_has_no_network_and_no_library(clean_root: Path) -> None:
    reach = "import socket; socket.create_connection(('1.1.1.1', 53), 5)"
    for program, error in ((reach, "Network is unreachable"), ("import numpy", "No module named")):
        done = devices.run_in(clean_root, f"python{PYTHON}", "-c", program)
        assert error in done.stderr


def test_a_zip_installs_and_transcribes(clean_root: Path, packed: Packed, text: str) -> None:
    shutil.copy(packed("zip"), clean_root / "tiny.zip")
    done = devices.run_in(clean_root, f"python{PYTHON}", "/tiny.zip", "install", "/opt/ew here")
    assert done.returncode == 0, done.stderr
    program = "/opt/ew here/bin/edgewhisper-runtime"
    done = devices.run_in(clean_root, program, "transcribe", "/speech.flac")
    assert done.stdout == text, done.stderr
    (bundle,) = (clean_root / "opt" / "ew here" / "bundle").iterdir()
    inside = f"/opt/ew here/bundle/{bundle.name}"
    profiled = devices.run_in(
        clean_root, program, "profile", inside, "--audio", "/speech.flac", "--repeat", "1", "--json"
    )
    assert json.loads(profiled.stdout)["summary"]["rtf"] > 0, profiled.stderr
    again = devices.run_in(clean_root, f"python{PYTHON}", "/tiny.zip", "install", "/opt/ew here")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in (clean_root / "opt").iterdir()] == ["ew here"]


def test_a_zipapp_runs_itself(clean_root: Path, packed: Packed, text: str) -> None:
    shutil.copy(packed("zipapp"), clean_root / "tiny.pyz")
    (clean_root / "usr" / "bin" / "env").unlink(missing_ok=True)
    shutil.copy("/usr/bin/env", clean_root / "usr" / "bin" / "env")
    first = devices.run_in(clean_root, "/tiny.pyz", "transcribe", "/speech.flac")
    assert first.stdout == text, first.stderr
    assert "installing into /tmp/.cache/edgewhisper/packages/" in first.stderr
    second = devices.run_in(clean_root, "/tiny.pyz", "transcribe", "/speech.flac")
    assert (second.stdout, second.stderr) == (text, "")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb reads the package")
def test_a_deb_puts_the_runtime_on_the_path(clean_root: Path, packed: Packed, text: str) -> None:
    deb = packed("deb")
    fields = subprocess.run(
        ["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True
    )
    assert "Package: edgewhisper-runtime\n" in fields.stdout
    assert "Architecture: amd64\n" in fields.stdout
    assert f"python3 (>= {PYTHON})" in fields.stdout
    subprocess.run(["dpkg-deb", "--extract", deb, clean_root], check=True)
    subprocess.run(["dpkg-deb", "--control", deb, clean_root / "DEBIAN"], check=True)
    sums = ["md5sum", "--quiet", "--check", clean_root / "DEBIAN" / "md5sums"]
    subprocess.run(sums, cwd=clean_root, check=True)
    configured = devices.run_in(clean_root, "/DEBIAN/postinst", "configure")
    assert configured.returncode == 0, configured.stderr
    assert list((clean_root / "usr" / "lib" / "edgewhisper").rglob("__pycache__"))
    done = devices.run_in(clean_root, "edgewhisper-runtime", "transcribe", "/speech.flac")
    assert done.stdout == text, done.stderr
    assert devices.run_in(clean_root, "/DEBIAN/prerm", "remove").returncode == 0
    assert not list((clean_root / "usr" / "lib" / "edgewhisper").rglob("__pycache__"))


def test_an_image_is_its_base_and_a_layer(
    clean_root: Path, onnx_bundle: Path, text: str, tmp_path: Path
) -> None:
    base, image = tmp_path / "base.tar", tmp_path / "image.tar"
    with tarfile.open(base, "w") as archive:
        for name in ("bin", "lib", "lib64", "dev", "proc", "tmp", "speech.flac", "usr"):
            archive.add(clean_root / name, name, filter=_without_packages)
    package.write(onnx_bundle, HERE, "oci", PYTHON, base=base, output=image)
    layout = tmp_path / "layout"
    with tarfile.open(image) as archive:
        archive.extractall(layout, filter="data")
    config, root = _apply(layout, tmp_path / "root")
    done = devices.run_in(root, *config["config"]["Entrypoint"], "transcribe", "/speech.flac")
    assert done.stdout == text, done.stderr

    # and an image is a base too
    package.write(onnx_bundle, HERE, "oci", PYTHON, base=layout, output=image)
    with tarfile.open(image) as archive:
        assert len(json.load(archive.extractfile(_manifest_of(archive)))["layers"]) == 3


def _without_packages(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "edgewhisper" in member.name else member


def _manifest_of(archive: tarfile.TarFile) -> str:
    (descriptor,) = json.load(archive.extractfile("index.json"))["manifests"]
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _apply(layout: Path, root: Path) -> tuple[dict, Path]:
    """Unpack an image's layers as an engine does; return its configuration and the root."""

    def blob(descriptor: dict) -> Path:
        return layout / "blobs" / descriptor["digest"].replace(":", "/")

    (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(descriptor).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer)) as archive:
            archive.extractall(root, filter="tar")
    return json.loads(blob(manifest["config"]).read_text()), root


def test_an_image_needs_a_base_that_fits(onnx_bundle: Path, tmp_path: Path, run: Run) -> None:
    common = ["package", onnx_bundle, "--for", HERE, "--format", "oci"]
    done = run(*common)
    assert (done.returncode, "--base" in done.stderr) == (15, True)
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    garbage = tmp_path / "garbage.tar"
    garbage.write_bytes(b"\x1f\x8b noise")
    other = tmp_path / "other.tar.xz"  # which no image's layer may be
    tarfile.open(other, "w:xz").close()
    for base, reason in (
        (empty, "it has no glibc"), (garbage, ""), (other, ""), (tmp_path, "index.json"),
    ):  # fmt: skip
        done = run(*common, "--base", base, "--output", tmp_path / "image.tar")
        assert done.returncode == 15, done.stderr
        assert f"{base} is no base to build on" in done.stderr
        assert reason in done.stderr
        assert not (tmp_path / "image.tar").exists()


def test_the_same_contents_are_the_same_bytes(
    onnx_bundle: Path, packed: Packed, tmp_path: Path
) -> None:
    again = package.write(onnx_bundle, HERE, "deb", PYTHON, output=tmp_path / "again.deb")
    assert again.read_bytes() == packed("deb").read_bytes()


def test_a_damaged_package_is_not_installed(packed: Packed, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(packed("zip")) as source, zipfile.ZipFile(damaged, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("tokenizer.json"):
                content = content[:-1] + b" "
            target.writestr(entry, content)
    done = _install(damaged, tmp_path / "target")
    assert done.returncode == 1
    assert "tokenizer.json was altered" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.zip"]


def test_damage_anywhere_in_a_package_is_told(packed: Packed, tmp_path: Path) -> None:
    """Also in the middle of what is compressed, where no checksum is reached."""
    content = packed("zip").read_bytes()
    draws = random.Random(1)
    for number, length in enumerate((16, 16, 16, 16, 512, 4096)):
        damaged = tmp_path / f"{number}.zip"
        at = draws.randrange(len(content) // 10, len(content) * 9 // 10)
        damaged.write_bytes(content[:at] + bytes(length) + content[at + length :])
        done = _install(damaged, tmp_path / "target")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "target").exists()


def test_the_runtime_is_ours_whatever_wheel_a_bundle_brings(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    brought = write_runtime_wheel(copy)
    with zipfile.ZipFile(brought, "a") as archive:
        archive.writestr("edgewhisper_runtime/stranger.py", "print('run')")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][brought.name] = vars(describe_file(brought))
    (copy / "manifest.json").write_text(json.dumps(manifest))
    package.write(copy, HERE, "zip", PYTHON, output=tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        names = archive.namelist()
    assert "lib/edgewhisper_runtime/cli/__init__.py" in names
    assert "lib/edgewhisper_runtime/stranger.py" not in names


def test_a_wheel_with_directories_of_data_is_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "foo-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.mkdir("foo-1.data")
        archive.writestr("foo-1.data/purelib/foo.py", "")
        archive.writestr("foo-1.data/scripts/foo", "")
    unpack(wheel, tmp_path / "lib")
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["foo.py"]


def test_another_directory_is_not_replaced(packed: Packed, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    done = _install(packed("zip"), tmp_path)
    assert (done.returncode, "holds something else" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("python", "3.99", "this package is for Python 3.99"),
        ("machine", "aarch64", "on x86_64. Make one for this system"),
        ("glibc", [99, 0], "needs glibc 99.0 or later"),
    ],
)
def test_a_package_for_another_device_says_so(
    packed: Packed, tmp_path: Path, key: str, value: object, message: str
) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(packed("zip")) as source, zipfile.ZipFile(other, "w") as target:
        for name in ("__main__.py", "unpacking.py", "package.json"):
            content = source.read(name)
            if name == "package.json":
                content = json.dumps(json.loads(content) | {key: value}).encode()
            target.writestr(name, content)
    done = _install(other, tmp_path / "target")
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def _install(path: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, path, "install", target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        ("linux-musl-aarch64", "no wheels for musl"),
        ("linux-armv7l", "no wheels for 32-bit ARM"),
        ("macos-x86_64", "Intel Macs"),
        ("windows-arm64", "soxr"),
        ("amiga", "not a platform known here. Known: linux-aarch64"),
    ],
)
def test_a_platform_without_wheels_is_refused(
    onnx_bundle: Path, run: Run, platform: str, reason: str
) -> None:
    done = run("package", onnx_bundle, "--for", platform)
    assert (done.returncode, reason in done.stderr) == (15, True), done.stderr


def test_a_device_is_known_by_what_its_python_says() -> None:
    assert platforms.of_device("Linux", "aarch64", "glibc 2.36").name == "linux-aarch64"
    with pytest.raises(platforms.DeviceError, match="musl"):
        platforms.of_device("Linux", "aarch64", "")
    with pytest.raises(platforms.DeviceError, match="32-bit"):
        platforms.of_device("Linux", "armv7l", "glibc 2.36")


def test_a_bundle_that_needs_pytorch_is_refused(tiny_bundle: Path, run: Run) -> None:
    done = run("package", tiny_bundle, "--for", HERE)
    assert (done.returncode, "--export onnx" in done.stderr) == (15, True), done.stderr


def test_formats_of_linux_are_for_linux(onnx_bundle: Path, run: Run) -> None:
    done = run("package", onnx_bundle, "--for", "windows-x86_64", "--format", "deb")
    assert (done.returncode, "Use zip or zipapp" in done.stderr) == (15, True)


@pytest.mark.parametrize("platform", platforms.PLATFORMS.values(), ids=lambda each: each.name)
def test_all_wheels_are_for_the_platform(platform: platforms.Platform, tmp_path: Path) -> None:
    """The oldest Python and the newest, with every part of the runtime that has wheels there."""
    runtime = write_runtime_wheel(tmp_path)
    for python in (platforms.PYTHONS[0], platforms.PYTHONS[-1]):
        downloads = tmp_path / python
        downloads.mkdir()
        found = wheels.collect(runtime, platform, python, downloads, ("serve", "vad"))
        names = {path.name.split("-")[0].lower() for path in found}
        assert {"onnxruntime", "numpy", "soxr", "uvicorn", "edgewhisper_runtime"} <= names
        tags = {path.stem.rsplit("-", 1)[1] for path in found}
        assert all(
            tag == "any" or set(tag.split(".")) & {*platform.tags} or _mac(tag) for tag in tags
        ), tags


def _mac(tag: str) -> bool:
    return tag.startswith("macosx_") and tag.endswith(("_arm64", "_universal2"))
