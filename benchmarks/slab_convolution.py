"""Does a training step of slab convolutions in bfloat16 stay inside its memory? A sweep over sizes, each in a process of its own.

    LD_PRELOAD=libc_malloc_debug.so.0 MALLOC_CHECK_=3 python benchmarks/slab_convolution.py --cases 200 [--plain]

glibc's checking allocator ends a process that wrote past its memory. ``--plain`` tries torch's own instead, which
fail: 3×3×3 convolutions, those of one voxel, and those that enlarge.
"""

from __future__ import annotations

import argparse
import os
import random

import torch
from torch import nn

from napari_medseq.models.slab_convolution import Enlargement, PointConvolution, SlabConvolution

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32, 48)
ROWS = (8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 128, 144, 160, 192, 208, 224, 256)
WIDTHS = (1, 2, 3, 4, 16, 24, 32, 48, 64, 96, 128)
PARTS = ("convolution", "point", "enlargement")
MOST = 12_000_000  # numbers in the input


def drawn(chance: random.Random) -> tuple[tuple[int, ...], int, int, tuple[int, int, int]]:
    """Input size (n, channel, step, y, x), channels made, kernel steps, stride."""
    channels = chance.choice(WIDTHS)
    n, steps, rows, columns = chance.choice((1, 2, 4)), chance.choice(STEPS), chance.choice(ROWS), chance.choice(ROWS)
    while n * channels * steps * rows * columns > MOST:
        n, steps, rows, columns = max(1, n // 2), max(1, steps - 2), max(8, rows * 3 // 4), max(8, columns * 3 // 4)
    made = chance.choice((channels, 2 * channels)) if channels >= 16 else chance.choice((16, 24))
    return (
        (n, channels, steps, rows, columns),
        made,
        chance.choice((3, 3, 1)),
        chance.choice(((1, 1, 1), (1, 2, 2), (2, 2, 2))),
    )


def built(part: str, channels: int, made: int, kernel: int, stride: tuple[int, int, int], plain: bool) -> nn.Module:
    """A convolution of a slab network, or torch's own."""
    if part == "point":
        return (nn.Conv3d if plain else PointConvolution)(channels, 3, 1)
    if part == "enlargement":
        enlarged = max(1, made // 2)
        if plain:
            return nn.ConvTranspose3d(channels, enlarged, stride, stride)
        return Enlargement(channels, enlarged, stride)
    kind = nn.Conv3d if plain else SlabConvolution
    return kind(channels, made, (kernel, 3, 3), stride, (kernel // 2, 1, 1), bias=False)


def survives(
    part: str, size: tuple[int, ...], made: int, kernel: int, stride: tuple[int, int, int], plain: bool, threads: int
) -> bool:
    """Whether two training steps end well, in a process of their own."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(threads)
        conv = built(part, size[1], made, kernel, stride, plain)
        x = torch.randn(size).contiguous(memory_format=torch.channels_last_3d).requires_grad_(size[1] >= 16)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                y = conv(x)
            y.float().square().mean().backward()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance, failed = random.Random(args.seed), 0
    for _ in range(args.cases):
        case = drawn(chance)
        part, threads = chance.choice(PARTS), chance.choice((1, 2))
        if not survives(part, *case, args.plain, threads):
            failed += 1
            print("failed:", part, *case, f"{threads} threads", flush=True)
    print(f"{failed} of {args.cases} sizes failed")


if __name__ == "__main__":
    main()
