"""The C library inside confluent-kafka, reached directly for the little that its Python side does not offer."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from pathlib import Path

import confluent_kafka

from streamlab.errors import BrokerError

# where the wheels put it: Linux and Windows beside the package, macOS inside it
WHEEL_PLACES = (
    "../confluent_kafka.libs/librdkafka*.so*",
    "../confluent_kafka.libs/librdkafka*.dll",
    ".dylibs/librdkafka*.dylib",
)

_POINTER = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_destroy": (None, (_POINTER,)),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        (_POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t),
    ),
    "rd_kafka_new": (_POINTER, (ctypes.c_int, _POINTER, ctypes.c_char_p, ctypes.c_size_t)),
    "rd_kafka_destroy": (None, (_POINTER,)),
    "rd_kafka_mock_cluster_new": (_POINTER, (_POINTER, ctypes.c_int)),
    "rd_kafka_mock_cluster_destroy": (None, (_POINTER,)),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, (_POINTER,)),
    "rd_kafka_mock_topic_create": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (_POINTER, ctypes.c_int32)),
}
_MESSAGE_BYTES = 512


def find_library(package: Path | None = None) -> str:
    """Return the path of the librdkafka that confluent-kafka runs on.

    Parameters
    ----------
    package
        Folder of the installed `confluent_kafka`; the one that is imported unless given.

    Raises
    ------
    BrokerError
        If there is neither a bundled library nor one installed on this system.

    Examples
    --------
    >>> "rdkafka" in find_library()
    True
    """
    package = package or Path(confluent_kafka.__file__).parent
    for place in WHEEL_PLACES:
        folder, _, pattern = place.rpartition("/")
        for path in sorted((package / folder).glob(pattern)):
            return str(path.resolve())
    installed = ctypes.util.find_library("rdkafka")
    if installed is None:
        raise BrokerError(
            f"no librdkafka beside {package} (looked for {', '.join(WHEEL_PLACES)}) and none installed on this system. "
            "Install confluent-kafka from a wheel (`pip install --only-binary :all: confluent-kafka`), "
            "or librdkafka with the system's package manager."
        )
    return installed


@cache
def library() -> ctypes.CDLL:
    """Load librdkafka with the signatures of the functions that are used here.

    Raises
    ------
    BrokerError
        If it is not found, cannot be loaded or lacks a function.
    """
    path = find_library()
    try:
        loaded = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        version = confluent_kafka.libversion()[0]
        raise BrokerError(
            f"{path} cannot be used directly: {error}. It must be the librdkafka {version} that confluent-kafka came with."
        ) from error
    return loaded


def refusal(name: str, value: str) -> str | None:
    """Return why librdkafka refuses a setting, or None where it takes it.

    Nothing is connected or started: the setting is tried on a configuration that is thrown away.

    Examples
    --------
    >>> refusal("linger.ms", "20") is None
    True
    >>> refusal("lingr.ms", "20")
    'No such configuration property: "lingr.ms"'
    """
    try:
        calls = library()
    except BrokerError:
        return None  # it cannot be tried; a client will say so when it is made
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    conf = calls.rd_kafka_conf_new()
    try:
        if calls.rd_kafka_conf_set(conf, name.encode(), value.encode(), message, _MESSAGE_BYTES) == 0:
            return None
    finally:
        calls.rd_kafka_conf_destroy(conf)
    return message.value.decode(errors="replace").strip()


def quiet_handle() -> int:
    """Start a librdkafka handle that connects nowhere and writes no log.

    Raises
    ------
    BrokerError
        If librdkafka cannot start it.
    """
    calls = library()
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    conf = calls.rd_kafka_conf_new()
    calls.rd_kafka_conf_set(conf, b"log_level", b"0", message, _MESSAGE_BYTES)
    handle = calls.rd_kafka_new(0, conf, message, _MESSAGE_BYTES)
    if not handle:
        calls.rd_kafka_conf_destroy(conf)
        raise BrokerError(f"librdkafka could not be started: {message.value.decode(errors='replace')}.")
    return int(handle)
