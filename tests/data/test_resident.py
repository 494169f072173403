from dataclasses import replace

import pytest
import torch

from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.resident import to_device


@pytest.fixture(scope="module")
def data():
    return DATASETS["ndigits"].load(LoadSpec(steps=2))


def test_the_cpu_keeps_the_map(data):
    assert to_device(data, torch.device("cpu")) is data


@pytest.mark.parametrize("spare, moves", [(1.01, True), (0.99, False)])
def test_what_fits_moves_to_the_device(data, monkeypatch, spare, moves):
    needed = data.frames.nbytes + data.images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (spare * needed / 0.4, 1 << 40))
    asked = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: asked.append(device) or self)
    placed = to_device(data, torch.device("cuda", 0))
    assert asked == [torch.device("cuda", 0)] * 2 * moves
    assert placed.labels is data.labels and placed.names is data.names
    assert moves or placed is data


@pytest.mark.gpu
def test_batches_of_resident_data_are_those_of_the_host(data):
    from tmkt_braincog.data import TSMDataset

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    placed = replace(data, frames=data.frames.cuda(), images=data.images.cuda())
    options = {"size": 28, "augment": "dvs-da", "seed": 3}
    here, there = (
        TSMDataset(d.frames, d.labels, d.images, d.image_labels, **options) for d in (data, placed)
    )
    for ours, theirs in zip(there[range(16)], here[range(16)], strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-5, atol=1e-5)
