"""How long the door takes to open: `import peregrine` and `peregrine --help`, in fresh processes.

    python benchmarks/startup.py [--rounds 20]

The time of the import is what it adds to a bare interpreter, taken inside the process. That of the help is what a
person waits for: from the start of the process to its end. One run of each warms the disk cache and is left out; rounds
alternate, so that a drifting machine hits both alike. The limits hold for a warm, idle machine; the exit status is 1
above them.
"""

import argparse
import statistics
import subprocess
import sys
import time

from peregrine import host

IMPORT = "import time; start = time.perf_counter_ns(); import peregrine; print(time.perf_counter_ns() - start)"
LIMITS_MS = {"import peregrine": 50, "peregrine --help": 200}


def import_ms() -> float:
    ended = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return int(ended.stdout) / 1e6


def help_ms() -> float:
    start = time.perf_counter_ns()
    subprocess.run([sys.executable, "-m", "peregrine", "--help"], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter_ns() - start) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="processes of each kind (20)")
    rounds = parser.parse_args().rounds

    measures = {"import peregrine": import_ms, "peregrine --help": help_ms}
    samples: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            taken = measure()
            if number:
                samples[name].append(taken)

    machine = f"{host.threads()} threads of {host.processor()}, Python {sys.version.split()[0]}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}, {rounds} rounds")
    print(f"{'':18}{'median':>10}{'p90':>10}{'limit':>10}")
    for name, values in samples.items():
        p90 = statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        print(f"{name:18}{statistics.median(values):7.1f} ms{p90:7.1f} ms{LIMITS_MS[name]:7} ms")
    return any(statistics.median(values) > LIMITS_MS[name] for name, values in samples.items())


if __name__ == "__main__":
    sys.exit(main())
