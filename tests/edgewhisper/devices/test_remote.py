"""A bundle profiled over a real ssh server on loopback, with a home of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Run
from devices import Host, ssh_server
from edgewhisper.devices.ssh import Device
from edgewhisper_runtime.bundle import describe_file, parse
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure.figures import ProfileReport

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="sshd is not installed (apt install openssh-server)",
)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Host]:
    with ssh_server(tmp_path) as host:
        yield host


def ssh_options(host: Host) -> list[str]:
    return [part for option in host.options for part in ("--ssh-option", option)]


def test_a_report_comes_back(
    device: Host, onnx_bundle: Path, speech: list[Path], tmp_path: Path, run: Run
) -> None:
    clip, output = tmp_path / "it's one.flac", tmp_path / "report.json"
    shutil.copy(speech[0], clip)
    decoder = onnx_bundle / "decoder.onnx"
    kept = (
        device.home / ".cache" / "edgewhisper" / "device" / "files" / describe_file(decoder).sha256
    )
    kept.parent.mkdir(parents=True)
    half = decoder.read_bytes()[: decoder.stat().st_size // 2]
    kept.with_name(f"{kept.name}.part").write_bytes(half)  # as an interrupted copy leaves it
    common = ["profile", onnx_bundle, "--audio", clip, "--repeat", 1, "--threads", 1]
    common += ["--on", device.destination, *ssh_options(device)]

    done = run(*common, "--output", output, "--keep")
    assert done.returncode == 0, done.stderr
    assert "RTF" in done.stdout
    report = parse(ProfileReport, json.loads(output.read_text()))
    assert (report.files, report.threads, len(report.runs)) == ((clip.name,), 1, 1)
    assert report.summary.rtf > 0
    assert kept.read_bytes() == decoder.read_bytes()

    kept.write_bytes(half)  # damaged there
    failed = run(*common, "--keep", "--device", "cuda")
    assert failed.returncode not in {0, 70}
    assert "127.0.0.1: edgewhisper-runtime profile ended with exit code" in failed.stderr
    assert "Traceback" not in failed.stderr
    copied = set(re.findall(r"copying (\S+):", failed.stderr))
    assert copied == {decoder.name}
    assert kept.read_bytes() == decoder.read_bytes()

    done = run(*common)
    assert done.returncode == 0, done.stderr
    assert "copying" not in done.stderr
    assert list(device.home.iterdir()) == []


def test_what_arrives_damaged_is_refused_and_deleted(device: Host) -> None:
    with Device(device.destination, device.options) as reached:
        reached.ask("probe", files=[])
        with pytest.raises(EdgeWhisperError, match="speech was damaged on the way"):
            reached.ask("receive", data=[b"noise"], name="0" * 64, bytes=5, title="speech")
    files = device.home / ".cache" / "edgewhisper" / "device" / "files"
    assert list(files.iterdir()) == []


def test_a_full_disk_is_named(device: Host, onnx_bundle: Path, small_disk, run: Run) -> None:
    disk = small_disk("24m")
    device.home.rmdir()
    device.home.symlink_to(disk)
    done = run("profile", onnx_bundle, "--on", device.destination, *ssh_options(device))
    assert done.returncode == 12
    assert "MB free in the file system of its home" in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("UserKnownHostsFile=/dev/null", "Host key verification failed"),
        ("IdentityFile=/dev/null", "Permission denied"),
        ("Port=1", "Connection refused"),
    ],
)
def test_a_connection_that_fails_says_why(
    device: Host, onnx_bundle: Path, run: Run, option: str, message: str
) -> None:
    name, _, _ = option.partition("=")
    others = [each for each in device.options if not each.startswith(f"{name}=")]
    given = [part for each in (*others, option) for part in ("--ssh-option", each)]
    done = run("profile", onnx_bundle, "--on", device.destination, *given)
    assert done.returncode == 11
    assert message in done.stderr
    assert "Try `ssh 127.0.0.1` by itself first" in done.stderr


def test_a_device_without_python_is_named(tmp_path: Path, onnx_bundle: Path, run: Run) -> None:
    with ssh_server(tmp_path, path="/nowhere") as device:
        done = run("profile", onnx_bundle, "--on", device.destination, *ssh_options(device))
    assert done.returncode == 15
    assert "127.0.0.1 has no python3" in done.stderr


def test_a_destination_is_never_an_option(onnx_bundle: Path, tmp_path: Path, run: Run) -> None:
    mark = tmp_path / "mark"
    done = run("profile", onnx_bundle, f"--on=-oProxyCommand=touch {mark}")
    assert done.returncode == 11
    assert not mark.exists()


def test_without_ssh_the_way_around_is_named(
    onnx_bundle: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("profile", onnx_bundle, "--on", "pi@device")
    assert done.returncode == 7
    assert "edgewhisper-runtime profile --output FILE" in done.stderr


def test_a_report_is_written_on_the_device_itself(
    onnx_bundle: Path, smoke_clip: Path, tmp_path: Path, run: Run
) -> None:
    output = tmp_path / "report.json"
    options = ["--audio", smoke_clip, "--repeat", 1, "--output", output]
    done = run("profile", onnx_bundle, *options, script="edgewhisper-runtime")
    assert done.returncode == 0, done.stderr
    assert parse(ProfileReport, json.loads(output.read_text())).summary.rtf > 0
