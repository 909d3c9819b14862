#!/usr/bin/env python3
"""What the matrix unit's matmul asks of L2: walks through its loads, prefetches and stores with a model of the L1 cache.

usage: tiles.py [--square TOKENSxGROUPS] [--tiles N] [--rows N] [--bytes N] [--ahead here|next] [--lru] [KxROWS ...]

A square is TOKENS by GROUPS tiles of sums (1x4: 16 tokens by 64 rows), a panel N tiles of columns; the sums of --rows rows
wait together. What is not given is as in `isa/amx/matmul.rs`. --bytes is a packed tile of weights: 288 for Q4_0, 544 for
Q8_0, 1024 for BF16, which is a tile already. Two steps ahead of a square's last are the next square's activations, or with
--ahead here the same square's further columns. L1 is 48 KiB in 12 ways; of those not used lately one is replaced, with --lru
the one not used for longest. Printed are bytes per cycle of the unit, 16 a product, once everything has been used before.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "runtime/kernels/src/isa/amx/matmul.rs"
LINE, TILE = 64, 1024
L1, WAYS = 48 * 1024, 12
SHAPES = ["2048x512", "8192x512", "896x512", "4864x512", "576x512", "1536x512"]


def constant(name: str) -> int:
    return int(re.search(rf"\bconst {name}: usize = (\d+);", SOURCE.read_text()).group(1))


class L1Cache:
    def __init__(self, lru: bool):
        self.lru, self.filled = lru, Counter()
        self.sets = [({}, [None] * WAYS, set()) for _ in range(L1 // LINE // WAYS)]

    def line(self, what: str, line: int, write: bool) -> None:
        lines, places, recent = self.sets[line % len(self.sets)]
        if line in lines:
            place, written = lines.pop(line)
            write |= written
        else:
            self.filled[what] += 1
            if len(lines) < WAYS:
                place = len(lines)
            else:
                place = lines[next(iter(lines))][0] if self.lru else next(i for i in range(WAYS) if i not in recent)
                self.filled["back"] += lines.pop(places[place])[1]
            places[place] = line
        lines[line] = (place, write)
        recent.add(place)
        if len(recent) == WAYS:
            recent.clear()
            recent.add(place)

    def touch(self, what: str, at: int, size: int = LINE, write: bool = False) -> None:
        for line in range(at // LINE, (at + size - 1) // LINE + 1):
            self.line(what, line, write)


def matmul(a: argparse.Namespace, m: L1Cache, k: int, rows: int) -> int:
    """Cycles of the unit."""
    high, groups = a.square
    tiles, tokens, side = -(-k // 32), constant("TOKENS"), 16 * high
    chunk = tiles if tiles <= a.tiles else (-(-tiles // -(-tiles // a.tiles)) + 1) // 2 * 2
    chunks, width, squares = -(-tiles // chunk), 16 * groups, tokens // side
    x_stride = -(-(72 if a.bytes < TILE else 64) * (k // 32) // LINE) * LINE
    if a.bytes == TILE:
        x_stride |= LINE
    x0, w0, out0, waiting = (i << 32 for i in range(1, 5))
    rooms = waiting + tokens * 4 * max(a.rows, 512)
    raws = rooms + 2 * groups * chunk * TILE
    panels = [
        (r0, r, c) for r0 in range(0, rows, a.rows) for c in range(chunks) for r in range(r0, min(rows, r0 + a.rows), width)
    ]
    cols = lambda c: min(chunk, tiles - c * chunk)
    packed = lambda r, c, i: w0 + ((r // 16 + i // cols(c)) * tiles + c * chunk + i % cols(c)) * a.bytes
    for n, (r0, r, c) in enumerate(panels):
        room, other = (rooms + (n + i) % 2 * groups * chunk * TILE for i in range(2))
        _, next_r, next_c = panels[(n + 1) % len(panels)]
        most = groups * cols(next_c)
        for s in range(squares):
            out = out0 + s * side * rows * 4 + r * 4
            made = range(most * s // squares, most * (s + 1) // squares) if a.bytes < TILE else ()
            for j, i in enumerate(made):
                m.touch("making", packed(next_r, next_c, i), a.bytes)
                m.touch("making", raws + j * 768, 768, True)
            sums = waiting + ((r - r0) * tokens + s * side * width) * 4
            if c > 0:
                m.touch("sums", sums, side * width * 4)
            for step in range(cols(c)):
                for g in range(groups):
                    at = (g * cols(c) + step) * TILE
                    m.touch("weights", room + at if a.bytes < TILE else packed(r, c, g * cols(c) + step), TILE)
                for ahead in (step, step + 2):
                    here = ahead < cols(c) or a.ahead == "here"
                    square, at = (s, ahead) if here else ((s + 1) % squares, ahead - cols(c))
                    for t in range(side):
                        m.touch("activations", x0 + (square * side + t) * x_stride + (c * chunk + at) * 64)
                for j, i in enumerate(made):
                    if (j + 1) * cols(c) // len(made) - 1 == step:
                        m.touch("making", raws + j * 768, 768)
                        m.touch("making", other + i * TILE, TILE, True)
            if c + 1 < chunks:
                m.touch("sums", sums, side * width * 4, True)
            else:
                for t in range(side):
                    m.touch("outputs", out + t * rows * 4, width * 4, True)
    return tiles * 16 * (rows // 16) * (tokens // 16)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--square", default="1x4", type=lambda text: tuple(map(int, text.split("x"))))
    parser.add_argument("--tiles", type=int, default=constant("TILES"))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--bytes", type=int, default=288)
    parser.add_argument("--ahead", choices=["here", "next"], default="next")
    parser.add_argument("--lru", action="store_true")
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    a = parser.parse_args()
    given, parts = a.rows, ["weights", "activations", "sums", "making", "outputs"]
    print(f"{'K x rows':12}" + "".join(f"{title:>12}" for title in ["from L2:", *parts, "back", "together"]))
    for shape in a.shapes:
        k, rows = map(int, shape.split("x"))
        a.rows = given or (256 if k <= 2048 else constant("OUTPUTS"))
        cache = L1Cache(a.lru)
        matmul(a, cache, k, rows)
        cache.filled.clear()
        cycles = matmul(a, cache, k, rows)
        told = [sum(cache.filled[part] for part in parts), *(cache.filled[part] for part in [*parts, "back"])]
        print(f"{shape:12}" + "".join(f"{n * LINE / cycles:12.1f}" for n in [*told, told[0] + told[-1]]))


if __name__ == "__main__":
    main()
