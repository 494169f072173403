import colorsys

import numpy as np
import pytest
from PIL import Image

from tmkt_braincog.data.images import MAX_PIXELS, load_images, read_image
from tmkt_braincog.errors import UserError


def write(path, shape=(40, 61, 3), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_v_is_that_of_hsv(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    v = read_image(tmp_path / "a.png", 12)
    expected = [
        [round(colorsys.rgb_to_hsv(*(c / 255 for c in rgb))[2] * 255) for rgb in row]
        for row in pixels
    ]
    assert v.tolist() == expected


def test_before_or_after_resizing(tmp_path):
    path = write(tmp_path / "a.png")
    image = Image.open(path)
    resized = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_image(path, 20), resized.max(-1))
    v = Image.fromarray(np.asarray(image).max(-1))
    expected = np.asarray(v.resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_image(path, 20, resize_first=False), expected)
    assert (read_image(path, 20) != expected).any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
def test_other_kinds_of_pixels(tmp_path, mode):
    image = Image.fromarray(
        np.random.default_rng(1).integers(0, 2, (10, 10), np.uint8) * 255
    ).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png", 10), np.asarray(image.convert("L"))
    )


def test_load_caches_by_file_size_and_order(tmp_path, monkeypatch):
    files = [write(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    images = load_images(files, 16, "test", tmp_path)
    assert images.shape == (3, 16, 16) and images.dtype == np.uint8
    for i, path in enumerate(files):
        np.testing.assert_array_equal(images[i], read_image(path, 16))
    for changed in ({"size": 17}, {"resize_first": False}):
        options = {"size": 16, **changed}
        found = load_images(files, name="test", root=tmp_path, **options)
        for i, path in enumerate(files):
            np.testing.assert_array_equal(found[i], read_image(path, **options))
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(load_images(files, 16, "test", tmp_path), images)


def test_faults_are_named(tmp_path):
    with pytest.raises(UserError, match=r"No image at .*gone\.jpg"):
        read_image(tmp_path / "gone.jpg", 8)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"Cannot read .*text\.jpg"):
        read_image(tmp_path / "text.jpg", 8)
    whole = write(tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"Cannot read .*cut\.jpg"):
        read_image(tmp_path / "cut.jpg", 8)


def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)).save(path)
    with pytest.raises(UserError, match=r"claims 10000 x 5001 pixels.* at most 50000000"):
        read_image(path, 8)
