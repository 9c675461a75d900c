"""The energy that processors used, where Linux exposes their counters (RAPL)."""

from __future__ import annotations

from pathlib import Path

from edgewhisper_runtime.errors import NotMeasurableError

_MICRO = 1e-6


class EnergyMeter:
    """Counts the energy of all processor packages, idle or not, from the moment it is made.

    Source: Documentation/power/powercap/powercap.rst. Its driver for AMD has the same names.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """Begin; raise NotMeasurableError where there are no counters or they cannot be read."""
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        try:
            self._packages = [
                zone for zone in zones if (zone / "name").read_text().startswith("package")
            ]
            if not self._packages:
                raise NotMeasurableError("this machine exposes no counters of energy (RAPL)")
            self._began = self._read()
        except PermissionError as error:
            raise NotMeasurableError(
                f"{error.filename} may only be read by root: run as root, or let the user read it"
            ) from error
        except (OSError, ValueError) as error:
            raise NotMeasurableError(f"the counters of energy cannot be read ({error})") from error

    def joules(self) -> float:
        """Return the energy since the meter was made; a counter may have begun again once."""
        used = 0
        for package, before, after in zip(self._packages, self._began, self._read(), strict=True):
            used += after - before
            if after < before:
                used += int((package / "max_energy_range_uj").read_text())
        return used * _MICRO

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]
