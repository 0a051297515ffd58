"""How fast the ring is read: ``python -m tests.bench.ring`` (as root, from the repository).

The generator is a process on the first processor that makes the kernel run a program
(``BPF_PROG_TEST_RUN``) in bursts at a given rate; the reader is pinned to the last one. By
default the program only fills the ring (``ring.bpf.c``, compiled by clang); ``--object`` takes
another one, such as the capture programs. Rate 0 is as fast as it goes.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from probe.ebpf import libbpf
from probe.ebpf.counters import Counters
from probe.ebpf.knobs import pack_knobs
from probe.ebpf.loaded import LoadFiles, LoadRequest
from probe.ebpf.ring import Ring
from probe.live import CaptureOptions
from schemas.record import PACKET
from tests.support.bpf_load import run_program
from tests.support.ebpf import UDP_FRAME

BURST_S = 0.0005
NAP_S = 0.002


def generate(program_fd: int, rate: float, seconds: float) -> None:
    os.sched_setaffinity(0, {0})
    burst = int(rate * BURST_S) or 1000
    start, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < seconds:
        if rate and sent > elapsed * rate:
            time.sleep(BURST_S / 10)
            continue
        run_program(program_fd, UDP_FRAME, repeat=burst)
        sent += burst
    print(f"{sent / elapsed:.0f}")


def measure(
    files: LoadFiles, rate: float, seconds: float, reader_limit: float | None = None
) -> dict[str, float]:
    """Generate at ``rate`` for ``seconds``; the reader stops at ``reader_limit`` records/s."""
    options = CaptureOptions(interfaces=())
    request = LoadRequest(
        programs=("tc_ingress",),
        knobs=pack_knobs(options),
        ring_bytes=options.ring_bytes,
        flow_entries=1,
    )
    loaded = libbpf.load(request, files)
    ring = Ring(loaded.map_fd("packets"), options.ring_bytes)
    counters = Counters(loaded.map_fd("counters"))
    out = np.zeros(65_536, PACKET)
    ring.read(out, 0)
    ring._data[::512].sum()  # pages that are touched now are no growth later
    out["packets"] = 0
    program_fd = loaded.program_fd("tc_ingress")
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(affinity)})
    os.set_inheritable(program_fd, True)
    command = [sys.executable, "-m", "tests.bench.ring", "--generate", str(program_fd)]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    generator = subprocess.Popen(
        command, pass_fds=(program_fd,), cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    gc.collect()
    read, packets, highest = 0, 0, 0.0
    start, cpu, rss = 0.0, 0.0, 0
    try:
        while generator.poll() is None or ring.fill() > 0:
            highest = max(highest, ring.fill())
            count = ring.read(out, 0)
            if count and not read:
                start, cpu = time.monotonic(), time.process_time()
                rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            read += count
            packets += int(out["packets"][:count].sum()) if reader_limit is None else count
            if reader_limit is not None:
                ahead = read / reader_limit - (time.monotonic() - start)
                time.sleep(max(ahead, 0))
            if count < len(out) // 4:
                time.sleep(NAP_S)
        used = time.process_time() - cpu
        elapsed = time.monotonic() - start
    finally:
        os.sched_setaffinity(0, affinity)
        generator.wait()
    sums = counters.read()[0]
    assert generator.stdout is not None
    with generator.stdout as told:
        sent = float(told.read())
    result = {
        "rate": sent,
        "seen": int(sums["seen"]),
        "read": packets,
        "lost": int(sums["ring_full"]),
        "consumer_cpu": used / elapsed,
        "highest_fill": highest,
        "grown_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss,
    }
    ring.close()
    loaded.close()
    return result


def compiled(folder: Path) -> Path:
    """The program that only fills the ring."""
    built = folder / "ring.bpf.o"
    machine = f"/usr/include/{platform.machine()}-linux-gnu"
    options = ["-target", "bpf", "-O2", "-g", "-idirafter", machine]
    source = Path(__file__).with_name("ring.bpf.c")
    subprocess.run(["clang", *options, "-c", source, "-o", built], check=True)
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--object", type=Path)
    parser.add_argument("--rate", type=float, action="append")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--reader-limit", type=float)
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate is not None:
        generate(arguments.generate, arguments.rate[0], arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = LoadFiles(compiled=arguments.object or compiled(Path(folder)))
        show(files, arguments.rate or [1e6, 4e6, 0], arguments.seconds, arguments.reader_limit)


def show(files: LoadFiles, rates: list[float], seconds: float, limit: float | None) -> None:
    for rate in rates:
        result = measure(files, rate, seconds, limit)
        print("  ".join(f"{name}={value:.6g}" for name, value in result.items()))
        if result["seen"] != result["read"] + result["lost"]:
            sys.exit("seen isn't read + lost")


if __name__ == "__main__":
    main()
