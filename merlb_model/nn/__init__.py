"""The networks. TensorFlow enters the process here, without its start-up noise.

Code outside of ``nn``, ``training`` and ``evaluation`` takes ``tf`` and ``keras`` from here.
"""

import importlib
import os
import tempfile
from types import ModuleType
from typing import TYPE_CHECKING

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # a machine without a GPU is no error; real ones are raised as exceptions
    "KERAS_BACKEND": "tensorflow",
}


def _import_quietly(module: str) -> ModuleType:
    """Import ``module`` with the process's stderr held back; what it said is shown only if it fails.

    TensorFlow's C++ libraries greet on stderr before any log level is read, so no setting silences them.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr has nothing to keep clean
        return importlib.import_module(module)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            return importlib.import_module(module)
        except BaseException:
            noise.seek(0)
            os.write(kept, noise.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    tf = _import_quietly("tensorflow")
    keras = _import_quietly("keras")
    tf.get_logger().setLevel("ERROR")  # its warnings are for who wrote the program, not for who runs it

__all__ = ["keras", "tf"]
