"""Whether virtual time and real processes come to the same, again and again. `python benchmarks/parity.py [--times=20]`.

Runs tests/suites/test_parity.py so many times with the machine to itself, and so many times while two busy loops take
processor time from it, each time with another seed. Says how often it passed, and of each failure which figures were off.
Exit status 1 if it ever failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUSY = 2  # as many as the cores of the machine that CI has


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes beside it that do nothing but compute. They end with this one, however it ends."""
    loop = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
    processes = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def once(seed: int) -> tuple[bool, str]:
    """Whether it passed, and if not the figures that were off."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--seed={seed}",
        "tests/suites/test_parity.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if re.match(r"E +\S", line)]
    return done.returncode == 0, "\n".join(lines) or done.stdout[-2000:] + done.stderr[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="how often with each load (default 20)")
    parser.add_argument("--load", choices=["quiet", "busy", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    asked = parser.parse_args()
    loads = {"quiet": 0, "busy": BUSY}
    failed = 0
    for name in loads if asked.load == "both" else [asked.load]:
        passed = 0
        with busy(loads[name]):
            for number in range(asked.times):
                began, load = time.monotonic(), os.getloadavg()[0]
                ok, why = once(asked.seed + number)
                passed += ok
                took = time.monotonic() - began
                word = f"{'passed' if ok else 'FAILED'}, seed {asked.seed + number}, {took:.0f} s"
                print(f"{name} {number + 1}: {word}, load before it {load:.1f}", flush=True)
                if not ok:
                    print(why, flush=True)
        print(f"{name}: {passed} of {asked.times} passed", flush=True)
        failed += asked.times - passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
