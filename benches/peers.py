#!/usr/bin/env python3
"""Our runner beside llama.cpp and candle: the same GGUF, interleaved, on a quiet machine. Writes a Markdown table.

usage: peers.py MODEL.yaml MODEL.gguf [MODEL.yaml MODEL.gguf ...] [--candle] [--threads 1,2] [-p 128,512] [-n 128]
                [--depth 0,2048] [-r 5]
       peers.py --kernels [--tokens 1,512] [--threads 1,2] [-r 5]
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
KERNELS_MARK = "<!-- kernels -->"
CARGO = ["cargo", "build", "--release", "--quiet"]
# What `benches/peers` measures, and so what is measured of ours.
DTYPES = "f32,q8_0,q4_0,q4_k,q6_k"
OF_READING = "decode, % of reading"
# By whether there is one token: the rate that limits it is that of weights, and that of more the arithmetic.
RATES = {True: ("gb_per_s", "GB/s"), False: ("gop_per_s", "GOP/s")}


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


def build(yaml: Path, folder: Path, context: int | None) -> Path:
    """Compiles a model, for another context if one is given, and builds its runner; the program."""
    ckc = ["cargo", "run", "--release", "--quiet", "-p", "ckc", "--"]
    limits = [] if context is None else ["--context", str(context)]
    subprocess.run([*ckc, "compile", yaml.resolve(), "-o", folder, *limits], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, check=True)
    manifest = (folder / "Cargo.toml").read_text()
    name = next(line.split('"')[1] for line in manifest.splitlines() if line.startswith("name"))
    return folder / "target/release" / name


def rust_peers() -> Path | None:
    """Builds `benches/peers` for this machine's CPU; nothing if that fails, of which cargo has said why."""
    target = ROOT / "target/peers"
    command = [*CARGO, "--locked", "--target-dir", target]
    flags = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
    built = subprocess.run(command, cwd=ROOT / "benches/peers", env=flags)
    return target / "release/peers" if built.returncode == 0 else None


def run_json(*command: object, cwd: Path | None = None) -> dict:
    """What a program prints as JSON."""
    text = subprocess.run([str(c) for c in command], cwd=cwd, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(text)


def ours(runner: Path, threads: int, what: dict) -> dict[str, float]:
    """Tokens per second, each in a process of its own: the warm-up is the runner's. And how near decode comes to reading
    the weights and nothing else, in per cent, token by token in turn."""

    def rate(entry: str, *options: object, value: str = "median_tok_per_s") -> float:
        command = [runner, "bench", *options, "-r", 1, "--threads", threads, "--json"]
        return run_json(*command, cwd=runner.parents[2])[entry][value]

    found = {f"prefill {n}": rate("prefill", "-p", n, "-n", 0) for n in what["prefill"]}
    for depth in what["depth"]:
        found[f"decode at {depth}"] = rate("decode", "-p", 0, "-n", what["decode"], "--depth", depth)
    options = ("-p", 0, "-n", min(what["decode"], 16), "--ceiling")
    found[OF_READING] = rate("decode", *options, value="percent_of_read")
    return found


def theirs(gguf: Path, threads: int, what: dict) -> dict[str, float]:
    """The same by llama.cpp, in a process of its own."""
    args = [sys.executable, __file__, "--peer", str(gguf), str(threads), json.dumps(what)]
    lines = subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip().splitlines()
    return json.loads(lines[-1])


def peer(gguf: str, threads: int, what: dict) -> None:
    """Measures llama.cpp in this process: of prefill the second of two passes counts, decode comes after that."""
    from llama_cpp import Llama

    longest = max([*what["prefill"], max(what["depth"]) + what["decode"]])
    model = Llama(gguf, n_ctx=longest + 16, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    vocab = model.n_vocab()
    ids = [(i * 2_654_435_761) % vocab for i in range(longest)]
    found = {}
    for n in what["prefill"]:
        for _ in range(2):
            model.reset()
            begin = time.perf_counter()
            model.eval(ids[:n])
            found[f"prefill {n}"] = n / (time.perf_counter() - begin)
    for depth in what["depth"]:
        model.reset()
        if depth > 0:
            model.eval(ids[:depth])
        begin = time.perf_counter()
        for token in ids[depth : depth + what["decode"]]:
            model.eval([token])
        found[f"decode at {depth}"] = what["decode"] / (time.perf_counter() - begin)
    print(json.dumps(found))


def cell(rates: list[float]) -> str:
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def command() -> list[str]:
    """What was called, to call it again; without folders, and without where the results go."""
    said = [Path(a).name if Path(a).is_file() else a for a in sys.argv[1:]]
    if "--write" in said:
        at = said.index("--write")
        del said[at : at + 2]
    return ["    benches/peers.py " + " ".join(said), ""]


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {cpu_name()}"


def table(pairs: list[tuple[Path, Path]], candle: Path | None, options: argparse.Namespace) -> str:
    """Whole models: each peer's column, and our median over its."""
    names = ["llama.cpp", *(["candle"] if candle else [])]
    rows = [
        f"{machine()}; tokens per second, median (lowest to highest) of {options.r} rounds; decode of {options.n}. "
        "Reading: the weights are read after every token, and nothing is done with them.",
        "",
        *command(),
        "| model | threads | | ckc |" + "".join(f" {name} | ratio |" for name in names),
        "|---" * (4 + 2 * len(names)) + "|",
    ]
    what = {"prefill": options.p, "decode": options.n, "depth": options.depth}
    context = max(options.depth) + options.n if max(options.depth) > 0 else None
    for yaml, gguf in pairs:
        with tempfile.TemporaryDirectory(prefix="ckc-bench-") as folder:
            runner = build(yaml, Path(folder) / "runner", context)
            for threads in options.threads:
                rounds: list[list[dict[str, float]]] = []
                for i in range(options.r + 1):
                    sides = [ours(runner, threads, what), theirs(gguf, threads, what)]
                    if candle:
                        rates = ("model", gguf, "--threads", threads, "-p", options.p[0], "-n", options.n, "--json")
                        alone = run_json(candle, *rates)
                        sides.append({f"prefill {options.p[0]}": alone["prefill"], "decode at 0": alone["decode"]})
                    if i > 0:
                        rounds.append(sides)
                    print(f"{yaml.stem}, {threads} threads, round {i}: {sides}", file=sys.stderr)
                for entry in rounds[0][0]:
                    a, *others = ([side[entry] for side in column if entry in side] for column in zip(*rounds))
                    ratio = lambda b: f" {cell(b)} | {statistics.median(a) / statistics.median(b):.2f} |"
                    cells = (ratio(b) if b else " | |" for b in others)
                    rows.append(f"| {yaml.stem} | {threads} | {entry} | {cell(a)} |" + "".join(cells))
    return "\n".join(rows) + "\n"


def kernels_table(peers: Path, options: argparse.Namespace) -> str:
    """Matmuls: one row a type, shape and number of tokens."""
    rows = [
        f"{machine()}; median (lowest to highest) of {options.r} rounds; GB/s of weights at one token, GOP/s at more; "
        "ratio: the peer's time over ours.",
        "",
        *command(),
        "| type | shape | tokens | threads | | ckc | candle | ratio | gemm | ratio |",
        "|---" * 10 + "|",
    ]
    for threads in options.threads:
        common = ("kernels", "--threads", threads, "--tokens", options.tokens, "--json")
        # What is measured, then who: what it says in each round.
        found: dict[tuple[str, str, int], dict[str, list[dict]]] = {}
        for i in range(options.r + 1):
            a = run_json(ROOT / "target/release/ckc", "bench", *common, "--dtype", DTYPES, "--depth", 0)["kernels"]
            b = run_json(peers, *common)["kernels"]
            print(f"kernels, {threads} threads, round {i}: done", file=sys.stderr)
            for row in (*a, *b) if i > 0 else ():
                if row.get("kernel", "matmul") == "matmul":
                    of = found.setdefault((row["dtype"].lower(), row["shape"], row["tokens"]), {})
                    of.setdefault(row.get("peer", "ckc"), []).append(row)
        for (dtype, shape, tokens), sides in found.items():
            rate, unit = RATES[tokens == 1]
            times = {name: statistics.median(row["microseconds"] for row in of) for name, of in sides.items()}
            line = f"| {dtype} | {shape} | {tokens} | {threads} | {unit} | {cell([row[rate] for row in sides['ckc']])} |"
            for name in ("candle", "gemm"):
                of = sides.get(name)
                line += f" {cell([row[rate] for row in of])} | {times[name] / times['ckc']:.2f} |" if of else " | |"
            rows.append(line)
    return "\n".join(rows) + "\n"


def replaced(text: str, mark: str, results: str) -> str:
    """`text` with `results` between `mark` and the next heading."""
    head, found, tail = text.partition(mark)
    if not found:
        raise SystemExit(f"error: there is no {mark} in the file that results are written to")
    heading = tail.find("\n## ")
    return f"{head}{mark}\n\n{results}{tail[heading:] if heading >= 0 else ''}"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def main() -> int:
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pairs of a description and the GGUF file it names")
    parser.add_argument("--kernels", action="store_true", help="matmuls, beside candle and the gemm crate; no files")
    parser.add_argument("--candle", action="store_true", help="models beside candle, too")
    parser.add_argument("--tokens", default="1,512", help="tokens of the matmuls of --kernels")
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("-p", type=numbers, default=[512], help="tokens of prefill; candle has the first number only")
    parser.add_argument("-n", type=int, default=128, help="tokens of decode")
    parser.add_argument("--depth", type=numbers, default=[0], help="tokens in the cache before those of decode")
    parser.add_argument("-r", type=int, default=5, help="rounds that count")
    parser.add_argument("--max-load", type=float, default=0.2, help="cores that others may use")
    parser.add_argument("--write", type=Path, help="replace what follows the results mark of this file")
    options = parser.parse_args()
    if len(options.files) % 2 or bool(options.files) == options.kernels:
        parser.error("a description and a GGUF file each, or --kernels and no files")
    pairs = list(zip(options.files[::2], options.files[1::2]))
    peers = rust_peers() if options.kernels or options.candle else None
    if options.kernels:
        subprocess.run([*CARGO, "-p", "ckc", "--target-dir", ROOT / "target"], cwd=ROOT, check=True)
    if options.candle and not peers:
        print("warning: benches/peers does not build; there is no column for candle", file=sys.stderr)
    if options.kernels and not peers:
        print("error: benches/peers does not build; there is nothing to measure beside", file=sys.stderr)
        return 1
    if (load := busy(options.max_load)) is not None:
        print(f"error: the machine is busy, others use {load:.1f} cores; numbers would mean nothing", file=sys.stderr)
        return 1
    text = kernels_table(peers, options) if options.kernels else table(pairs, peers, options)
    print(text)
    if options.write:
        mark = KERNELS_MARK if options.kernels else MARK
        options.write.write_text(replaced(options.write.read_text(), mark, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
