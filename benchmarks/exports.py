"""How much faster the exports of a run are than its ONNX file by ONNX Runtime's defaults, all test images at once.

    peregrine export RUN --to all
    python benchmarks/exports.py RUN [--only onnx-int8@openvino …] [--rounds 7] [--batches 32 250 1000] [--out X.json]

The yardstick is what people write first: `onnxruntime.InferenceSession("model.onnx")`, without any option, fed with the
images batch by batch; of the sizes in `--batches`, the fastest counts. Beside it every Candidate of the run that was
not refused classifies the same images by `Runtime.predict`. Each has a process of its own that is warmed up and then
waits; rounds are interleaved, so that a machine that slows down hits all alike. Given are medians over the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

YARDSTICK = "onnx, ONNX Runtime's defaults"


def prepared(run: Path, what: str) -> Callable[[Any], Any]:
    """What classifies images here: a Candidate by its key, or the yardstick at a batch size, `250`."""
    from peregrine.artifact import Artifact
    from peregrine.candidate import candidates
    from peregrine.rundir import RunDirectory

    directory = RunDirectory.open(run)
    if not what.isdecimal():
        (candidate,) = (each for made in directory.artifacts() for each in candidates(made) if each.key == what)
        return candidate.open().predict
    import onnxruntime

    batch = int(what)
    session: Any = onnxruntime.InferenceSession(str(Artifact.open(directory.artifact_path("onnx")).model_path))

    def classify(images: Any) -> None:
        for start in range(0, len(images), batch):
            session.run(None, {"images": images[start : start + batch]})

    return classify


def serve(run: Path, what: str, images: Path) -> None:
    """Classify all images whenever a line comes in, and print the seconds."""
    import numpy as np

    pixels = np.load(images)
    classify = prepared(run, what)
    classify(pixels[: len(pixels) // 4])
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        classify(pixels)
        print(time.perf_counter() - start, flush=True)


def keys(run: Path) -> list[str]:
    """The Candidates of the run's exports that were not refused."""
    from peregrine.candidate import candidates
    from peregrine.rundir import RunDirectory

    return [
        each.key
        for made in RunDirectory.open(run).artifacts()
        for each in candidates(made)
        if made.evidence().get("parity", {}).get(each.key, {}).get("verdict") in ("passed", "inconclusive")
    ]


def measure(run: Path, wanted: list[str], images: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds for all images, by Candidate and round."""
    command = [sys.executable, __file__, str(run), "--images", str(images), "--serve"]
    servers = {
        what: subprocess.Popen([*command, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for what in wanted
    }
    seconds: dict[str, list[float]] = {what: [] for what in wanted}

    def answer(server: "subprocess.Popen[str]") -> str:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended with status {server.wait()}")
        return line

    for server in servers.values():
        answer(server)
    for _ in range(rounds):
        for what, server in servers.items():
            print("now", file=server.stdin, flush=True)
            seconds[what].append(float(answer(server)))
    for server in servers.values():
        server.communicate()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run with an onnx export")
    parser.add_argument("--only", nargs="+", metavar="CANDIDATE", help="measure these Candidates, not all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[32, 250, 1000], help="of the yardstick (32 250 1000)"
    )
    parser.add_argument("--out", type=Path, help="write all samples as JSON")
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="WHAT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.run, arguments.serve, arguments.images)
        return 0

    from peregrine import host
    from peregrine.stages.exporting import images_file
    from peregrine.stages.target import Target

    test = Target.find(arguments.run).splits().test
    wanted = [*map(str, arguments.batches), *(arguments.only or keys(arguments.run))]
    with images_file(test.images) as images:
        seconds = measure(arguments.run, wanted, images, arguments.rounds)
    medians = {what: statistics.median(values) for what, values in seconds.items()}
    best = min(map(str, arguments.batches), key=medians.__getitem__)
    print(f"{host.processor()}, {host.threads()} threads; {len(test):,} images, {arguments.rounds} rounds")
    for what, median in sorted(medians.items(), key=lambda item: item[1]):
        name = f"{YARDSTICK}, batch {what}" if what.isdecimal() else what
        between = f"{min(seconds[what]):.2f} to {max(seconds[what]):.2f}"
        ratio = statistics.median(mine / its for mine, its in zip(seconds[best], seconds[what], strict=True))
        print(f"{name:44} {median:6.2f} s ({between})  {len(test) / median:8,.0f} images/s  {ratio:5.2f} times")
    if arguments.out:
        about = {"host": host.describe(), "versions": host.versions(), "run": arguments.run.name, "images": len(test)}
        arguments.out.write_text(json.dumps({**about, "yardstick": best, "seconds": seconds}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
