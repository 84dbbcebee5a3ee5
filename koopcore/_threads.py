"""Makes koopcore's threads known to threadpoolctl, where that is installed.

``threadpoolctl.threadpool_limits`` then limits them together with those of the BLAS libraries,
whose work they do, and ``threadpool_info`` lists them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from koopcore import _core


def make_known() -> None:
    """Register a controller; nothing where threadpoolctl is missing or knows no others."""
    try:
        threadpoolctl: Any = import_module("threadpoolctl")
    except ImportError:
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "blas"
        internal_api = "koopcore"
        filename_prefixes = ("_core",)
        check_symbols = ("koopcore_num_threads",)

        def get_num_threads(self) -> int:
            return _core.num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            # What is the default anyway stays one, which follows the processors a thread may use.
            _core.set_num_threads(0)
            if _core.num_threads() != num_threads:
                _core.set_num_threads(num_threads)

        def get_version(self) -> str:
            return _core.__version__

        def set_additional_attributes(self) -> None:
            self.threading_layer = "own"
            self.architecture = _core.instruction_set()

    threadpoolctl.register(Controller)
