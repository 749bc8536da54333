"""A model's folder: where everything lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from routesim.sim.folders import Kind

_DOCUMENT, _UNCERTAINTY, _SUPPORT, _OUTAGES, _QUARANTINE = (
    "model.json", "uncertainty.parquet", "support.parquet", "outages.parquet", "quarantine.parquet")
MODEL = Kind("model", (_DOCUMENT, _UNCERTAINTY, _SUPPORT, _OUTAGES, _QUARANTINE), shared=True)


@dataclass(frozen=True)
class ModelFolder:
    """The folder is replaced as a whole, so that its files are always of one calibration."""

    path: Path

    @property
    def document(self) -> Path:
        """The model's numbers."""
        return self.path / _DOCUMENT

    @property
    def uncertainty(self) -> Path:
        """How well each of them is known; absent where the model is known exactly."""
        return self.path / _UNCERTAINTY

    @property
    def support(self) -> Path:
        """The cells that history has attempts in."""
        return self.path / _SUPPORT

    @property
    def outages(self) -> Path:
        """The outages that history shows."""
        return self.path / _OUTAGES

    @property
    def quarantine(self) -> Path:
        """The rows of history that were set aside."""
        return self.path / _QUARANTINE
