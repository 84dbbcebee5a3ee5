"""Koopman forecasts inside the training loops of other libraries.

Each module needs its library and is imported at first use: ``lightning`` (`KoopmanCallback`),
``transformers`` (`KoopmanTrainerCallback`), ``accelerate`` (`koopman_accelerator`, `unwrap`).
"""

from importlib import import_module

_HOMES = {
    "KoopmanCallback": "lightning",
    "KoopmanTrainerCallback": "transformers",
    "koopman_accelerator": "accelerate",
    "unwrap": "accelerate",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
