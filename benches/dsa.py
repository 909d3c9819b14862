#!/usr/bin/env python3
"""Times `ckc dsa` on tables of buffers: a line a table. The time is the user CPU time of the whole process, the least of some runs.

usage: dsa.py CKC [TABLE.csv ...]

Without tables: those of $CKC_SHARED/planner, if it is there, each as it is and transformed, and three that are made like the
layers of a training run. A name like `A.1048576.csv` holds a capacity. With $CKC_SHARED every layout is also checked by
the script there.
"""

import csv
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MODES = {"capacity": None, "least": [], "fast": ["--fast"], "bound": ["--lb"]}
HEADER = ["table", "buffers", "mode", "peak", "lower bound", "status", "nodes", "s"]

Buffer = tuple[str, int, int, int]


def read(path: Path) -> list[Buffer]:
    with path.open() as f:
        return [(r["id"], int(r["lower"]), int(r["upper"]), int(r["size"])) for r in csv.DictReader(f)]


def write(path: Path, buffers: list[Buffer]) -> Path:
    with path.open("w") as f:
        f.write("id,lower,upper,size\n")
        f.writelines(f"{i},{lo},{hi},{size}\n" for i, lo, hi, size in buffers)
    return path


def training(seed: int, layers: int) -> list[Buffer]:
    """Forward and backward: what a layer saves lives until its gradient, the rest for a few steps."""
    rng = random.Random(seed)
    buffers: list[Buffer] = []
    end = 48 * layers
    for layer in range(layers):
        begin = 24 * layer
        back = end - begin
        saved, short = rng.randrange(3, 7), rng.randrange(10, 21)
        spans = [(begin + rng.randrange(24), back - rng.randrange(24)) for _ in range(saved)]
        for at in (begin, back - 24):
            first = [at + rng.randrange(22) for _ in range(short)]
            spans += [(lo, lo + rng.randrange(1, 12)) for lo in first]
        sizes = [64 * rng.choice([1, 8, 96, 344, 512, 1024, 3000]) for _ in spans]
        buffers += [(f"{layer}.{k}", lo, hi, size) for k, ((lo, hi), size) in enumerate(zip(spans, sizes))]
    return buffers


def transformed(buffers: list[Buffer], seed: int) -> dict[str, list[Buffer]]:
    """The same problem in other words."""
    rng = random.Random(seed)
    end = max(b[2] for b in buffers)
    shuffled = rng.sample(buffers, len(buffers))
    warp, at = {}, 0
    for t in sorted({t for b in buffers for t in b[1:3]}):
        warp[t], at = at, at + rng.choice([1, 2, 5, 10, 50, 200])
    return {
        "reversed": [(i, end - hi, end - lo, size) for i, lo, hi, size in buffers],
        "warped": [(i, warp[lo], warp[hi], size) for i, lo, hi, size in buffers],
        "shuffled": [(str(n), lo, hi, size) for n, (_, lo, hi, size) in enumerate(shuffled)],
        "twice": buffers + [(f"{i}'", 2 * end - hi, 2 * end - lo, size) for i, lo, hi, size in buffers],
    }


def run(ckc: str, table: Path, mode: str, judge: Path | None) -> list[str] | None:
    """A row of the result; `None` where the mode does not apply."""
    args = MODES[mode]
    if args is None:
        capacity = re.search(r"\.(\d+)\.csv$", table.name)
        if not capacity:
            return None
        args = ["--capacity", capacity[1]]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        output = [] if mode == "bound" else ["-o", str(out)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run([ckc, "dsa", str(table), *args, *output], capture_output=True, text=True)
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        if out.exists() and judge:
            subprocess.run([sys.executable, judge, table, out], check=True, stdout=subprocess.DEVNULL)
    line = re.fullmatch(r"(?:peak (\d+) )?lower bound (\d+)(?: (.*) nodes (\d+))?", done.stdout.strip())
    if done.returncode not in (0, 3) or not line:
        sys.exit(f"{table}: {done.stderr}")
    peak, bound, status, nodes = (group or "" for group in line.groups())
    return [mode, peak, bound, status, nodes, f"{seconds:.2f}"]


def main() -> None:
    ckc, *given = sys.argv[1:]
    shared = Path(os.environ.get("CKC_SHARED", "/nonexistent")) / "planner"
    judge = shared / "check_dsa.py" if (shared / "check_dsa.py").exists() else None
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    with tempfile.TemporaryDirectory() as folder:
        tables = [(Path(t), MODES) for t in given]
        if not given:
            for table in sorted(shared.glob("*.csv")):
                tables.append((table, MODES))
                capacity = re.search(r"\.(\d+)\.csv$", table.name)
                for name, buffers in transformed(read(table), 1).items() if capacity else ():
                    path = Path(folder) / f"{table.name.split('.')[0]}-{name}.{capacity[1]}.csv"
                    tables.append((write(path, buffers), ["capacity"]))
            for layers in (560, 855, 1860):
                buffers = training(layers, layers)
                tables.append((write(Path(folder) / f"training-{layers}.csv", buffers), ["least", "fast", "bound"]))
        for table, modes in tables:
            for mode in modes:
                row = run(ckc, table, mode, judge)
                if row:
                    print(f"| {table.name} | {len(read(table))} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
