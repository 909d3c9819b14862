#!/usr/bin/env python3
"""What a scheduling model says of the matrix unit's loops: compiles the kernels, cuts the loops out, asks llvm-mca.

usage: mca.py [LLVM-MCA] [CPU]

llvm-mca knows neither caches nor the matrix unit: a load of a tile counts as its sixteen loads, a product of tiles (16 cycles of
a unit of its own) as nothing. What is printed is what the rest of the core is busy with meanwhile.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "mca"
MCA = sys.argv[1] if len(sys.argv) > 1 else "llvm-mca-19"
CPU = sys.argv[2] if len(sys.argv) > 2 else "sapphirerapids"
ROUNDS = 200


def assembly() -> str:
    options = ["-Csymbol-mangling-version=v0", "-Ccodegen-units=1", "-Cllvm-args=-x86-asm-syntax=intel"]
    command = ["cargo", "rustc", "--release", "-p", "ck-kernels", "--lib", "--target-dir", str(TARGET), "--", "--emit", "asm"]
    subprocess.run(command + options, cwd=ROOT, check=True)
    newest = max((TARGET / "release/deps").glob("ck_kernels-*.s"), key=lambda path: path.stat().st_mtime)
    return newest.read_text()


def model(lines: list[str]) -> tuple[float, float]:
    """Cycles and micro-operations of a round."""
    code = []
    for line in lines:
        operation = line.split()[0]
        if operation == "tileloadd":
            place = re.search(r"\[.*\]", line).group()
            code += [f"vmovups zmm31, zmmword ptr {place}"] * 16
        elif operation not in ("tdpbf16ps", "ret", "push", "pop") and not operation.startswith("j"):
            code.append(line)
    text = ".intel_syntax noprefix\n" + "\n".join(code) + "\n"
    command = [MCA, "-mtriple=x86_64", f"-mcpu={CPU}", f"-iterations={ROUNDS}"]
    told = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return tuple(int(re.search(rf"{what}:\s+(\d+)", told).group(1)) / ROUNDS for what in ("Total Cycles", "Total uOps"))


def instructions(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.match(r"\t[a-z]", line)]


def main() -> None:
    functions = re.findall(r"^(_R\w+):\n(.*?)\.cfi_endproc", assembly(), re.S | re.M)
    print(f"{'':34}{'cycles':>8}{'uops':>8}")
    for name, body in functions:
        if kind := re.search(r"amx9quantised.*quant4(q\d_\w)\d.*7Weights3raw", name):
            print("{:34}{:8.0f}{:8.0f}".format(f"{kind.group(1)}: a tile readied", *model(instructions(body))))
        if re.search(r"8Hardware\w*4Unit8multiply", name):
            loops = re.findall(r"^(\.L\w+):\n((?:(?!^\.L\w+:\n).)*?)\tj(?:ne|ae)\t\1\n", body, re.S | re.M)
            steps = [instructions(loop) for _, loop in loops if "tdpbf16ps" in loop]
            making = [line for line in steps[0] if re.match(r"v\w+ .*zmm|v\w+\s+(zmm|zmmword)", line)]
            print("{:34}{:8.0f}{:8.0f}".format("any: half a tile made", *model(making)))
            print("{:34}{:8.0f}{:8.0f}".format("8 products, that made (128)", *model(steps[0])))
            print("{:34}{:8.0f}{:8.0f}".format("8 products (128)", *model(steps[1])))


if __name__ == "__main__":
    main()
