"""Photographs to one array of V channels, on all cores, cached."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .cache import Writer, cached, files_digest
from .parallel import decode_files

IMAGES_VERSION = 2  # of all cached images
MAX_PIXELS = 50_000_000  # a larger one is damaged, or none of these data sets'


def load_images(
    files: Sequence[Path], size: int, name: str, root: Path, resize_first: bool = True
) -> np.ndarray:
    """V channels of the images, in the files' order, from the cache where nothing has changed.

    V of HSV is max(R, G, B), in 8 bits; for grey images it is the grey value.

    Args:
        files: paths under ``root``.
        name: the data set, for the cache folder and messages.
        resize_first: resize the colours and then take V (as the reference does for CALTECH101 and
            CIFAR10), or take V and then resize it (as for CEP-DVS). Bilinear, antialiased.

    Returns:
        ``[S, size, size]`` uint8.

    Raises:
        UserError: files that are missing or no images.
    """
    options: dict[str, Any] = {"size": size, "resize_first": resize_first}
    key = {"files": files_digest(files, root), "version": IMAGES_VERSION, **options}

    def build(out: Writer) -> None:
        images = out.create("images", (len(files), size, size), np.uint8)
        decode = partial(read_image, **options)
        for i, image in enumerate(decode_files(decode, files, f"{name}: images")):
            images[i] = image

    return cached(f"{name}-images", key, build)["images"]


def read_image(path: Path, size: int, resize_first: bool = True) -> np.ndarray:
    """One image as :func:`load_images` stores it; of more than 50 million pixels: an error."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it claims {image.width} x {image.height} pixels")
            return v_channel(image.convert("RGB"), size, resize_first)
    except FileNotFoundError:
        raise UserError(f"No image at {path}. Check the data folder, or get it again.") from None
    except Exception as error:  # damaged files fail in Pillow's decoders in many ways
        raise UserError(
            f"Cannot read {path}: {error}. An image of at most {MAX_PIXELS} pixels was expected."
        ) from error


def v_channel(image: Image.Image, size: int, resize_first: bool) -> np.ndarray:
    """``[size, size]`` uint8 of an RGB image, see :func:`load_images`."""
    if resize_first:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).max(-1)
    value = Image.fromarray(np.asarray(image).max(-1))
    return np.asarray(value.resize((size, size), Image.Resampling.BILINEAR))


def of_torchvision(
    data_set: Callable[..., Any], root: Path, name: str, expected: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """uint8 pixels and int64 labels of MNIST or CIFAR10, the training set first, and its length.

    Files that cannot be read are a :class:`UserError` with the ``name`` and the ``expected`` tree.
    """
    try:
        parts = [data_set(str(root), train=train) for train in (True, False)]
        if any(len(part.data) != len(part.targets) for part in parts):
            raise ValueError("a set has not as many images as labels")
    except Exception as error:  # torchvision checks little, and fails in many ways
        raise UserError(f"Cannot read {name}: {error}\n{expected}") from error
    pixels = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    return pixels, labels, len(parts[0].data)
