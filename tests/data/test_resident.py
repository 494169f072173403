"""What stays on the host and what moves to the device; test_pairs compares the batches."""

import pytest
import torch

from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.resident import to_device


@pytest.mark.parametrize(
    "kind, spare, moves", [("cpu", 9, 0), ("cuda", 1.01, 1), ("cuda", 0.99, 0)]
)
def test_what_fits_moves_to_the_device(monkeypatch, kind, spare, moves):
    data, device, asked = DATASETS["ndigits"].load(LoadSpec(steps=2)), torch.device(kind, 0), []
    needed = data.frames.nbytes + data.images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (spare * needed / 0.4, 1 << 40))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: asked.append(device) or self)
    placed = to_device(data, device)
    assert asked == [device] * 2 * moves
    assert placed.labels is data.labels and placed.names is data.names
    assert moves or placed is data
