"""routesim: what would have happened to these card payments had we routed, retried and failed over differently?"""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("routesim")
