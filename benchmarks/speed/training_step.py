"""Time and memory of a training step: any recipe, on random pictures and random weights.

    python benchmarks/speed/training_step.py stage1-1024-lr16-paper --batch 1 --weights metrics
    python benchmarks/speed/training_step.py stage1-faces-256-lr16-fine --device cuda --steps 20

Generator and discriminator have random weights too, so no data is needed, only the networks of perceptual losses
(`edgegrain metrics fetch`). Steps are taken near the end of the schedule, where every loss has begun. Prints the mean
time of a step after the first, the longest one, and the peak: on a CPU the process's resident memory, libraries and
metric networks included, on CUDA the largest sum of torch's allocations. Recipes that update the discriminator every
few steps need --steps that reach one. Measure one recipe at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import ROOT

sys.path.insert(0, str(ROOT))

from edgegrain.training.distributed import Distributed, keep_freed_memory, start_distributed
from edgegrain.training.family import RunOptions, family_of, find_recipe

PROGRESS = 0.9
"""Part of the run at which the steps are taken."""


def measure(recipe: str, weights: Path | None, batch: int, steps: int, distributed: Distributed
            ) -> dict[str, str | int | float]:
    """Mean and longest time of a step, pictures a second and peak memory in GB of a recipe; plain JSON data.

    Args:
        recipe: its name.
        weights: folder of the metrics' weights; None for the fetched ones.
        batch: pictures of a step; 0 for the recipe's.
        steps: to take, the first of which is not counted; at least 2.
        distributed: the device.

    Raises:
        EdgegrainError: there is no such recipe, or metric networks are missing.
    """
    config = find_recipe(recipe)
    config = replace(config, batch=batch or config.batch, random_pictures=max(8, batch or config.batch))
    device = distributed.device
    with tempfile.TemporaryDirectory() as folder:
        trainer = family_of(config).open(config, RunOptions(weights=weights), Path(folder), distributed)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        trainer.step(PROGRESS)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    peak = (torch.cuda.max_memory_allocated(device) if device.type == "cuda"
            else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    step = statistics.fmean(seconds[1:])
    return {"recipe": recipe, "batch": config.batch, "device": device.type, "threads": torch.get_num_threads(),
            "torch": torch.__version__, "step_s": round(step, 2), "longest_s": round(max(seconds[1:]), 2),
            "pictures_per_s": round(config.batch / step, 3), "peak_gb": round(peak / 1e9, 2),
            "skipped": trainer.skipped}


def main() -> None:
    """Measure one recipe and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="name of a recipe: edgegrain train --list")
    parser.add_argument("--weights", type=Path, help="folder of the metrics' weights, by default the fetched ones")
    parser.add_argument("--batch", type=int, default=0, help="pictures of a step, by default the recipe's")
    parser.add_argument("--steps", type=int, default=3, help="number of steps, the first of which is not counted")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--usual-allocator", action="store_true",
                        help="on a CPU: return freed memory to the system, which `edgegrain train` does not")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("the first step is not counted; take at least 2")
    with start_distributed(arguments.device) as distributed:
        if distributed.device.type == "cpu" and not arguments.usual_allocator:
            keep_freed_memory()
        print(json.dumps(measure(arguments.recipe, arguments.weights, arguments.batch, arguments.steps, distributed)))


if __name__ == "__main__":
    main()
