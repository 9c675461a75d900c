"""A bundle profiled over a real ssh server on loopback, with a home of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Run
from devices import Host, ssh_server
from edgewhisper.devices.ssh import Device
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


def left(host: Host) -> list[str]:
    return [str(path.relative_to(host.home)) for path in host.home.rglob("*")]


def test_a_report_comes_back_and_nothing_stays(
    device: Host, onnx_bundle: Path, speech: list[Path], tmp_path: Path, run: Run
) -> None:
    clip, output = tmp_path / "it's one.flac", tmp_path / "report.json"
    shutil.copy(speech[0], clip)
    common = ["profile", onnx_bundle, "--audio", clip, "--repeat", 1, "--threads", 1]
    common += ["--on", device.destination, *ssh_options(device)]
    done = run(*common, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "RTF" in done.stdout
    report = json.loads(output.read_text())
    assert report["files"] == [clip.name]
    assert (report["threads"], report["summary"]["repetitions"]) == (1, 1)
    assert report["summary"]["rtf"] > 0
    assert left(device) == []


def test_an_interrupted_copy_goes_on_and_kept_files_are_not_copied_again(
    device: Host, onnx_bundle: Path, speech: list[Path], run: Run
) -> None:
    from edgewhisper_runtime.bundle import describe_file

    decoder = onnx_bundle / "decoder.onnx"
    name = describe_file(decoder).sha256
    files = device.home / ".cache" / "edgewhisper" / "device" / "files"
    files.mkdir(parents=True)
    half = decoder.read_bytes()[: decoder.stat().st_size // 2]
    (files / f"{name}.part").write_bytes(half)
    common = ["profile", onnx_bundle, "--audio", speech[0], "--repeat", 1]
    common += ["--on", device.destination, *ssh_options(device), "--keep"]
    assert run(*common).returncode == 0
    assert (files / name).read_bytes() == decoder.read_bytes()
    times = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}

    (files / name).write_bytes(half)  # damaged on the disk there
    done = run(*common)
    assert done.returncode == 0, done.stderr
    again = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}
    assert [each for each in times if times[each] != again[each]] == [name]
    assert (files / name).read_bytes() == decoder.read_bytes()


def test_what_arrives_damaged_is_refused_and_deleted(device: Host) -> None:
    from edgewhisper_runtime.errors import EdgeWhisperError

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


def test_the_error_on_the_device_is_the_error_here(
    device: Host, onnx_bundle: Path, smoke_clip: Path, run: Run
) -> None:
    done = run(
        "profile", onnx_bundle, "--device", "cuda", "--repeat", 1, "--audio", smoke_clip,
        "--on", device.destination, *ssh_options(device),
    )  # fmt: skip
    assert done.returncode not in {0, 70}
    assert "127.0.0.1: edgewhisper-runtime profile ended with exit code" in done.stderr
    assert "Traceback" not in done.stderr
    assert left(device) == []


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
    from edgewhisper_runtime.bundle import parse

    output = tmp_path / "report.json"
    options = ["--audio", smoke_clip, "--repeat", 1, "--output", output]
    done = run("profile", onnx_bundle, *options, script="edgewhisper-runtime")
    assert done.returncode == 0, done.stderr
    assert parse(ProfileReport, json.loads(output.read_text())).summary.rtf > 0
