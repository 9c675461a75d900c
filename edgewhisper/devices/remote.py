"""A bundle profiled on a device over ssh: what is missing is copied, the report comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewhisper.devices import contents, platforms, zips
from edgewhisper.devices.ssh import Device
from edgewhisper.progress import Progress, ignore
from edgewhisper_runtime import audio
from edgewhisper_runtime.bundle import MANIFEST, Artefact, describe_file, parse
from edgewhisper_runtime.errors import DeviceError, StorageError
from edgewhisper_runtime.measure.figures import ProfileReport

_CHUNK = 2**18
_SPARE_BYTES = 16 * 2**20  # for bytecode and temporary files


@dataclass(frozen=True)
class _Cargo:
    """A file to copy, by the SHA-256 that names it on the device."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> _Cargo:
        file = describe_file(path)
        return cls(path, file.bytes, file.sha256)

    def read(self, start: int, progress: Progress) -> Iterator[bytes]:
        """Yield the content from a byte on, reporting how much of it is copied."""
        with self.path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk
                progress(f"copying {self.path.name}", file.tell(), self.size)


def profile(
    bundle: Path,
    destination: str,
    files: Sequence[Path] = (),
    arguments: Sequence[str] = (),
    *,
    ssh_options: Sequence[str] = (),
    keep: bool = False,
    progress: Progress = ignore,
) -> ProfileReport:
    """Return the profile of a bundle on the device at `destination`, such as "pi@192.168.1.7".

    `arguments` are options of `edgewhisper-runtime profile`, `files` the audio to measure with,
    `ssh_options` OpenSSH's, such as "Port=2222". The runtime is that of `edgewhisper package`,
    for the platform and the Python found there. It all goes into ~/.cache/edgewhisper/device, which
    is deleted afterwards unless `keep`. An interrupted copy stays and is resumed by the next call.
    Raises NetworkError where ssh fails, DeviceError for a device that nothing can be made for,
    StorageError where it is full, and what profiling raises there.
    """
    artefact = Artefact.verified(bundle)
    for path in files:
        audio.load(path)  # a file that cannot be read is not worth a copy
    with Device(destination, ssh_options) as device, tempfile.TemporaryDirectory() as temporary:
        runtime = _make_runtime(artefact, device, Path(temporary))
        of_bundle = {
            name: _Cargo(bundle / name, file.bytes, file.sha256)
            for name, file in artefact.manifest.files.items()
        }
        of_bundle[MANIFEST] = _Cargo.of(bundle / MANIFEST)
        of_audio = {f"{number}/{path.name}": _Cargo.of(path) for number, path in enumerate(files)}
        _copy(device, (runtime, *of_bundle.values(), *of_audio.values()), progress)
        try:
            answer = device.ask(
                "profile",
                talks=True,
                runtime=runtime.sha256,
                bundle={"name": artefact.manifest.name, "files": _hashes(of_bundle)},
                audio=_hashes(of_audio),
                arguments=list(arguments),
            )
        finally:
            if not keep:
                device.ask("remove")
    return parse(ProfileReport, answer["report"], ignore_unknown=True)


def _hashes(cargo: dict[str, _Cargo]) -> dict[str, str]:
    return {name: each.sha256 for name, each in cargo.items()}


def _make_runtime(artefact: Artefact, device: Device, directory: Path) -> _Cargo:
    """Return a package of the runtime for the device."""
    found = device.ask("probe", files=[])
    platform = platforms.of_device(found["system"], found["machine"], found["libc"])
    python = found["python"]
    if python not in platforms.PYTHONS:
        raise DeviceError(
            f"python3 on {device.destination} is Python {python}; the runtime needs one of "
            f"{', '.join(platforms.PYTHONS)}. Install one of these there."
        )
    path = directory / f"runtime-{platform.name}-python{python}.zip"
    with contents.gather(artefact, platform, python, with_bundle=False) as gathered:
        zips.write_zip(gathered, path)
    return _Cargo.of(path)


def _copy(device: Device, cargo: Sequence[_Cargo], progress: Progress) -> None:
    """Copy what the device lacks of the files, each from where an earlier copy broke off."""
    unique = {each.sha256: each for each in cargo}
    found = device.ask("probe", files=list(unique))
    partial: dict[str, int] = found["partial"]
    missing = [each for name, each in unique.items() if name not in found["whole"]]
    needed = sum(each.size - partial.get(each.sha256, 0) for each in missing)
    if found["free"] < needed + _SPARE_BYTES:
        raise StorageError(
            f"{device.destination} has {found['free'] / 1e6:.0f} MB free in the file system of its "
            f"home, and {needed / 1e6:.0f} MB are to be copied. Free some there."
        )
    for each in missing:
        device.ask(
            "receive",
            data=each.read(partial.get(each.sha256, 0), progress),
            name=each.sha256,
            bytes=each.size,
            title=each.path.name,
        )
