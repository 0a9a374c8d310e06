from __future__ import annotations

import ctypes.util

import confluent_kafka
import pytest

from streamlab.connect import librdkafka
from streamlab.errors import BrokerError


@pytest.mark.parametrize(
    "bundled",
    [
        "confluent_kafka.libs/librdkafka-0cb94173.so.1",  # as in the wheels of 2.16.1
        "confluent_kafka/.dylibs/librdkafka.dylib",
        "confluent_kafka.libs/librdkafka-c22ebd06abd15eecc66d013d8d759906.dll",
    ],
)
def test_the_bundled_library_is_found_where_the_wheels_of_each_system_put_it(tmp_path, bundled):
    (tmp_path / bundled).parent.mkdir(parents=True)
    (tmp_path / bundled).touch()
    (tmp_path / "confluent_kafka").mkdir(exist_ok=True)
    assert librdkafka.find_library(tmp_path / "confluent_kafka") == str((tmp_path / bundled).resolve())


def test_a_system_library_stands_in_for_a_bundled_one(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes.util, "find_library", {"rdkafka": "librdkafka.so.1"}.get)
    assert librdkafka.find_library(tmp_path) == "librdkafka.so.1"


def test_without_any_library_the_error_says_where_it_was_looked_for_and_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    with pytest.raises(BrokerError, match=r"confluent_kafka\.libs/librdkafka.*pip install"):
        librdkafka.find_library(tmp_path)


def test_a_library_that_is_none_says_which_one_it_must_be(tmp_path, monkeypatch):
    broken = tmp_path / "librdkafka.so"
    broken.write_text("not a library")
    monkeypatch.setattr(librdkafka, "find_library", lambda: str(broken))
    with pytest.raises(BrokerError, match=f"must be the librdkafka {confluent_kafka.libversion()[0]}"):
        librdkafka.library.__wrapped__()


def test_settings_cannot_be_tried_without_the_library_and_are_left_to_the_client(monkeypatch):
    def missing():
        raise BrokerError("no librdkafka")

    monkeypatch.setattr(librdkafka, "library", missing)
    assert librdkafka.refusal("lingr.ms", "5") is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("acks", "all", None),
        ("enable.idempotence", "true", None),
        ("linger.ms", "soon", 'Invalid value for configuration property "queue.buffering.max.ms"'),
        ("fetch.wait.max.ms", "-1", "outside allowed range"),
        ("no.such", "1", "No such configuration property"),
    ],
)
def test_a_setting_is_tried_on_librdkafka_itself(name, value, reason):
    refusal = librdkafka.refusal(name, value)
    assert (refusal is None) if reason is None else (reason in str(refusal))
