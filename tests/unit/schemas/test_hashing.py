"""The shared hash: what it computes and how well it mixes."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.hashing import DEFAULT_SEED, PARTITION_SEED, hash_words, partitions
from schemas.record import PACKET, Packets, as_words

MASK = (1 << 64) - 1


def twin_mix(h: int, word: int) -> int:
    h = ((h ^ word) * 0x9FB21C651E98DF25) & MASK
    return h ^ (h >> 32)


def twin_finish(h: int) -> int:
    h = ((h ^ (h >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    h = ((h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return h ^ (h >> 33)


def twin_hash(words: list[int], seed: int) -> int:
    for word in words:
        seed = twin_mix(seed, word)
    return twin_finish(seed)


def twin_partition(packet: np.void, count: int) -> int:
    def end(field: str) -> int:
        data = packet[field].tobytes()
        words = [int.from_bytes(data[i : i + 8], "little") for i in (0, 8)]
        return twin_hash(words, PARTITION_SEED)

    src, dst = end("src_addr"), end("dst_addr")
    words = [(src + dst) & MASK, src ^ dst, int(packet["ip_proto"])]
    return twin_hash(words, PARTITION_SEED) % count


def random_packets(count: int, seed: int = 1) -> Packets:
    return np.frombuffer(np.random.default_rng(seed).bytes(count * 88), PACKET).copy()


@pytest.mark.parametrize("width", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", [0, DEFAULT_SEED, MASK])
def test_hash_equals_its_plain_python_twin(width: int, seed: int) -> None:
    """Kernel and specification agree for every width and seed."""
    words = np.random.default_rng(width).integers(0, MASK, (50, width), np.uint64, endpoint=True)
    expected = [twin_hash([int(word) for word in row], seed) for row in words]
    assert hash_words(words, seed).tolist() == expected


def test_hash_is_the_same_for_ever() -> None:
    """A known input has the value that other processes and later versions rely on."""
    words = np.arange(4, dtype=np.uint64).reshape(2, 2)
    assert hash_words(words).tolist() == [0x117C85A3C9DC0470, 0x4C5E9EE1600141C0]


def test_hash_without_the_compiler_is_the_same() -> None:
    """With the JIT off numpy's own arithmetic gives the same values."""
    code = (
        "import numpy as np; from schemas.hashing import hash_words;"
        "print(hash_words(np.arange(4, dtype=np.uint64).reshape(2, 2)).tolist())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, check=True
    )
    words = np.arange(4, dtype=np.uint64).reshape(2, 2)
    assert json.loads(done.stdout) == hash_words(words).tolist()


def test_partition_equals_its_plain_python_twin() -> None:
    """Kernel and specification agree on arbitrary records."""
    packets = random_packets(200)
    expected = [twin_partition(packet, 12) for packet in packets]
    assert partitions(as_words(packets), 12).tolist() == expected


def test_one_flipped_bit_changes_half_of_the_hash() -> None:
    """Avalanche: whichever bit flips, each output bit flips in 45 to 55 % of the cases."""
    words = np.random.default_rng(3).integers(0, MASK, (4000, 2), np.uint64, endpoint=True)
    before = hash_words(words)
    for bit in range(128):
        flipped = words.copy()
        flipped[:, bit // 64] ^= np.uint64(1 << (bit % 64))
        changed = (before ^ hash_words(flipped)).astype("<u8").view(np.uint8).reshape(-1, 8)
        rate = np.unpackbits(changed, axis=1).mean(axis=0)
        assert rate.min() > 0.45, bit
        assert rate.max() < 0.55, bit


def test_inputs_that_differ_in_one_word_never_collide() -> None:
    """Neighbouring values of one word, the others equal, all have different hashes."""
    words = np.zeros((100_000, 3), np.uint64)
    words[:, 1] = np.arange(len(words))
    assert len(np.unique(hash_words(words))) == len(words)


def test_requests_replies_and_fragments_share_a_partition() -> None:
    """Swapped addresses and other ports, times or MACs leave the partition as it is."""
    packets = random_packets(500)
    other = random_packets(500, seed=2)
    other["src_addr"], other["dst_addr"] = packets["dst_addr"], packets["src_addr"]
    other["ip_proto"] = packets["ip_proto"]
    expected = partitions(as_words(packets), 12).tolist()
    assert partitions(as_words(other), 12).tolist() == expected


def test_protocol_is_part_of_the_partition() -> None:
    """The protocols of one host pair are spread over the partitions."""
    packets = np.zeros(256, PACKET)
    packets["ip_proto"] = np.arange(256)
    assert len(np.unique(partitions(as_words(packets), 12))) == 12


def test_partitions_of_a_network_are_even() -> None:
    """Consecutive IPv4 addresses talking to one server fill 12 partitions within 10 %."""
    packets = np.zeros(24_000, PACKET)
    mapped = b"\0" * 10 + b"\xff\xff"
    first = int(ipaddress.ip_address("10.0.0.0"))
    sources = b"".join(mapped + (first + i).to_bytes(4, "big") for i in range(len(packets)))
    packets["src_addr"] = np.frombuffer(sources, np.uint8).reshape(-1, 16)
    packets["dst_addr"] = np.frombuffer(mapped + b"\x0a\x01\x00\x01", np.uint8)
    packets["ip_proto"] = 6
    counts = np.bincount(partitions(as_words(packets), 12), minlength=12)
    assert abs(counts / 2000 - 1).max() < 0.1
