#!/usr/bin/env python3
"""Our runner beside llama.cpp: the same GGUF, interleaved, on a quiet machine. Writes a Markdown table.

usage: peers.py MODEL.yaml MODEL.gguf [MODEL.yaml MODEL.gguf ...] [--threads 1,2] [-p 512] [-n 128] [-r 5]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = "<!-- results -->"


def busy(limit: float, seconds: float = 3.0) -> float | None:
    """The machine's load by others, in cores, if it is above `limit`."""

    def cpu() -> tuple[int, int]:
        fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(fields[:8]), fields[3] + fields[4]

    total, idle = cpu()
    time.sleep(seconds)
    total2, idle2 = cpu()
    load = (1 - (idle2 - idle) / max(1, total2 - total)) * (os.cpu_count() or 1)
    return load if load > limit else None


def build(yaml: Path, folder: Path) -> Path:
    """Compiles a model and builds its runner; the program."""
    ckc = ["cargo", "run", "--release", "--quiet", "-p", "ckc", "--"]
    subprocess.run([*ckc, "compile", yaml.resolve(), "-o", folder], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, check=True)
    manifest = (folder / "Cargo.toml").read_text()
    name = next(line.split('"')[1] for line in manifest.splitlines() if line.startswith("name"))
    return folder / "target/release" / name


def ours(runner: Path, threads: int, prompt: int, decode: int) -> dict[str, float]:
    """Tokens per second of one process: the warm-up is the runner's own."""
    command = [runner, "bench", "-p", prompt, "-n", decode, "-r", 1, "--threads", threads, "--json"]
    text = subprocess.run([str(c) for c in command], cwd=runner.parents[2], check=True, capture_output=True).stdout
    result = json.loads(text)
    return {entry: result[entry]["median_tok_per_s"] for entry in ("prefill", "decode")}


def theirs(gguf: Path, threads: int, prompt: int, decode: int) -> dict[str, float]:
    """The same by llama.cpp, in a process of its own."""
    args = [sys.executable, __file__, "--peer", str(gguf), str(threads), str(prompt), str(decode)]
    lines = subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip().splitlines()
    return json.loads(lines[-1])


def peer(gguf: str, threads: int, prompt: int, decode: int) -> None:
    """Measures llama.cpp in this process: the second of two passes counts."""
    from llama_cpp import Llama

    model = Llama(
        gguf, n_ctx=max(prompt, decode) + 16, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocab = model.n_vocab()
    ids = [(i * 2_654_435_761) % vocab for i in range(max(prompt, decode))]
    for _ in range(2):
        model.reset()
        begin = time.perf_counter()
        model.eval(ids[:prompt])
        prefill = prompt / (time.perf_counter() - begin)
        model.reset()
        begin = time.perf_counter()
        for token in ids[:decode]:
            model.eval([token])
        speed = decode / (time.perf_counter() - begin)
    print(json.dumps({"prefill": prefill, "decode": speed}))


def cell(rates: list[float]) -> str:
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def table(pairs: list[tuple[Path, Path]], options: argparse.Namespace) -> str:
    rows = [
        f"{platform.machine()}, {os.cpu_count()} CPUs, {cpu_name()}; prefill {options.p}, decode {options.n}; tokens per "
        f"second, median (lowest to highest) of {options.r} rounds.",
        "",
        "| model | threads | | ckc | llama.cpp | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for yaml, gguf in pairs:
        with tempfile.TemporaryDirectory(prefix="ckc-bench-") as folder:
            runner = build(yaml, Path(folder) / "runner")
            for threads in options.threads:
                rounds: list[tuple[dict[str, float], dict[str, float]]] = []
                for i in range(options.r + 1):
                    pair = (ours(runner, threads, options.p, options.n), theirs(gguf, threads, options.p, options.n))
                    if i > 0:
                        rounds.append(pair)
                    print(f"{yaml.stem}, {threads} threads, round {i}: {pair}", file=sys.stderr)
                for entry in ("prefill", "decode"):
                    a, b = ([side[entry] for side in column] for column in zip(*rounds))
                    ratio = statistics.median(a) / statistics.median(b)
                    rows.append(f"| {yaml.stem} | {threads} | {entry} | {cell(a)} | {cell(b)} | {ratio:.2f} |")
    return "\n".join(rows) + "\n"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def main() -> int:
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], *map(int, sys.argv[3:6]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="pairs of a description and the GGUF file it names")
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2])
    parser.add_argument("-p", type=int, default=512, help="tokens of prefill")
    parser.add_argument("-n", type=int, default=128, help="tokens of decode")
    parser.add_argument("-r", type=int, default=5, help="rounds that count")
    parser.add_argument("--max-load", type=float, default=0.2, help="cores that others may use")
    parser.add_argument("--write", type=Path, help="replace what follows the results mark of this file")
    options = parser.parse_args()
    if len(options.files) % 2:
        parser.error("a description and a GGUF file each")
    pairs = list(zip(options.files[::2], options.files[1::2]))
    if (load := busy(options.max_load)) is not None:
        print(f"error: the machine is busy, others use {load:.1f} cores; numbers would mean nothing", file=sys.stderr)
        return 1
    text = table(pairs, options)
    print(text)
    if options.write:
        head = options.write.read_text().split(MARK)[0]
        options.write.write_text(f"{head}{MARK}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
