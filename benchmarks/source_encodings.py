"""What the source encodings cost.

    python benchmarks/source_encodings.py          # Transfer_SCNN, 28 x 28, batch 32, one thread
    python benchmarks/source_encodings.py --device cuda

Rows: i2e_share, the time of encoding a batch over that of a whole TMKT training step on the same
device; emulator_34 and emulator_64, recordings of 34 x 34 and of 64 x 64 pixels that the emulated
camera makes in a second on one core, with the same camera for all and with one drawn anew for each.

JSON: {"hardware", "versions", "rows": [{"metric", "value"}]}.
"""

import time
from pathlib import Path

import numpy as np
import torch
from workload import Bench, Workload, best, finish, main, parser, prepare

from tmkt_braincog.data.camera import EventCamera
from tmkt_braincog.data.emulator import emulate
from tmkt_braincog.data.encodings import I2E
from tmkt_braincog.data.encodings.saccade import source_camera
from tmkt_braincog.methods import TMKT


def i2e_share(workload: Workload, repeat: int) -> float:
    encoding, B = I2E(workload.steps), workload.batch
    values = torch.rand(B, workload.size, workload.size, device=workload.device)
    draws = np.random.default_rng(0).random((B, encoding.draws))
    bench = Bench(workload, workload.build("fused"), TMKT, "float32")
    step = bench.seconds(repeat)
    return best(lambda: encoding(values, np.arange(B), draws), bench.device, repeat) / step


def recordings_per_second(camera: EventCamera, n: int = 128, at_once: int = 16) -> float:
    side = camera.sensor[0]
    images = np.random.default_rng(0).integers(0, 256, (n, side // 4, side // 4), np.uint8)
    images = images.repeat(4, 1).repeat(4, 2)[:, :side, :side]  # blocks: edges everywhere
    started = time.process_time()
    for first in range(0, n, at_once):
        emulate(images[first : first + at_once], range(first, first + at_once), camera)
    return n / (time.process_time() - started)


def run(words: list[str]) -> int:
    made = parser(__doc__)
    made.add_argument("--json", type=Path, metavar="FILE")
    options = made.parse_args(words)
    prepare(options)
    torch.set_num_threads(1)
    workload = Workload(options.device, 32, 10, 28, 10, "Transfer_SCNN")
    rows = [{"metric": "i2e_share", "value": i2e_share(workload, options.repeat)}]
    for side, camera in ((34, EventCamera()), (64, source_camera(64, 64))):
        for vary in (0.0, 1.0):
            rate = recordings_per_second(camera.changed([f"vary={vary}"]))
            rows.append({"metric": f"emulator_{side}, vary {vary:g}", "value": rate})
    return finish(options, workload, rows)


if __name__ == "__main__":
    main(run)
