"""How like a camera the emulated one is: a real recording beside emulations of its image.

    python benchmarks/likeness.py DATA/NCALTECH101/Caltech101/Faces_easy/image_0001.bin \
        DATA/caltech101/101_ObjectCategories/Faces_easy/image_0001.jpg

Rows: the real recording; the image as large as the sensor that the recording spans, moved along
N-MNIST's path, unscaled; and at 64 pixels by the camera of --source-encoding saccade and by that of
E-CALTECH101. For each: events, events per pixel and second, share of ON, events per movement.

JSON: {"hardware", "versions", "rows": [{"recording", "events", ...}]}.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np
import pandas as pd
from workload import main, write

from tmkt_braincog.data.camera import CORNERS, EventCamera
from tmkt_braincog.data.emulator import emulate
from tmkt_braincog.data.encodings.saccade import source_camera
from tmkt_braincog.data.events import Events, read_bin, shift_to_origin
from tmkt_braincog.data.images import read_image
from tmkt_braincog.data.ncaltech101 import emulated_camera

SIDE = 64


def facts(name: str, events: Events, size: tuple[int, int]) -> dict:
    t = np.asarray(events["t"])
    ends = EventCamera().saccade_us * np.arange(4)
    per_movement = np.histogram(t, ends)[0].tolist()
    rate = len(t) / (size[0] * size[1]) / ((t.max() - t.min()) / 1e6)
    on = float(np.mean(events["p"]))
    return {"recording": name, "sensor": f"{size[0]} x {size[1]}", "events": len(t),
            "per_pixel_s": rate, "on": on, "per_movement": per_movement}  # fmt: skip


def run(words: list[str]) -> int:
    made = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("recording", type=Path)
    made.add_argument("image", type=Path)
    made.add_argument("--json", type=Path, metavar="FILE")
    options = made.parse_args(words)
    real, size = shift_to_origin(read_bin(options.recording))
    rows, side = [facts("real", real, size)], max(size)
    unscaled = EventCamera((side, side), CORNERS, border="edge", flip=True)
    cameras = {
        "emulated, path unscaled": unscaled,
        "emulated, saccade": source_camera(SIDE, SIDE, ["flip=true"]),
        "emulated, E-CALTECH101": emulated_camera(SIDE),
    }
    for name, camera in cameras.items():
        image = read_image(options.image, camera.sensor[0])
        rows.append(facts(name, emulate(image[None], camera=camera)[0], camera.sensor))
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    if options.json:
        write(options.json, "cpu", rows)
    return 0


if __name__ == "__main__":
    main(run)
