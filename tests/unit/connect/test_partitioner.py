from __future__ import annotations

import random

import confluent_kafka
import numpy as np
import pytest

from streamlab.connect.partitioner import NO_PARTITION, murmur2, partitions_of

# from Apache Kafka's UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_murmur2_is_that_of_the_java_client(key):
    assert murmur2(key) == JAVA[key]


def test_both_ways_to_a_partition_agree_for_keys_of_every_length_and_byte():
    draw = random.Random(7)  # noqa: S311  # repeatable, not secret
    keys = [draw.randbytes(length % 70) for length in range(2000)] + [b"", b"\xff" * 9, b"\x00", "ключ".encode()]
    expected = [(murmur2(key) & 0x7FFFFFFF) % 12 for key in keys]
    assert partitions_of(keys, 12).tolist() == expected
    assert expected == [confluent_kafka.murmur2(key, 12) for key in keys]
    assert set(expected) == set(range(12))


def test_a_record_without_a_key_has_no_partition_of_its_own_but_an_empty_key_has():
    placed = partitions_of([None, b"", None], 5)
    assert placed.dtype == np.int64
    assert placed.tolist() == [NO_PARTITION, (murmur2(b"") & 0x7FFFFFFF) % 5, NO_PARTITION]


def test_no_keys_have_no_partitions():
    assert partitions_of([], 3).tolist() == []
