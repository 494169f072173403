"""Embeddings of a data set's images and class names, written once."""

from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..data import TransferData
from ..errors import UserError
from .encoders import ConSE, Encoder, OpenCLIP
from .files import save_teacher
from .kinds import Embeddings, fingerprint, seen
from .network import teacher_input, views

BATCH = 64
ALIKE = 0.999  # cosine of two names that an encoder does not tell apart


def make_embeddings(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """Write them to ``--teacher-checkpoint``."""
    path = Path(own.teacher_checkpoint)
    encoder = ConSE(own, device) if own.encoder == "conse" else OpenCLIP(own.encoder, device)
    with torch.no_grad():
        text = _of_names(encoder, data.classes, own.prompt)
        images = _of_images(encoder, data, device)
    nearest = (images @ text.mT).argmax(dim=-1)
    accuracy = 100 * (nearest == data.image_labels.cpu()).double().mean().item()
    about = list(data.classes), seen(options, "vlm"), fingerprint(data, "vlm")
    save_teacher(path, Embeddings(encoder.name, *about, accuracy, images, text))
    print(
        f"{encoder.name}: {len(images)} images and {len(text)} class names in {images.shape[1]} "
        f"dimensions; the nearest name is right for {accuracy:.2f} % of the images. Written: {path}"
    )


def _of_names(encoder: Encoder, classes: tuple[str, ...], prompt: str) -> Tensor:
    """``[N, E]``; a UserError for names that the encoder does not tell apart."""
    text = encoder.texts([prompt.format(name.replace("_", " ").lower()) for name in classes])
    likeness = (text @ text.mT).fill_diagonal_(-1)
    if likeness.max() > ALIKE:
        a, b = divmod(int(likeness.argmax()), len(classes))
        raise UserError(
            f"{encoder.name} does not tell the class names {classes[a]!r} and {classes[b]!r} "
            "apart: it lacks their language, or they are no words. Choose another --encoder or "
            "--text-encoder."
        )
    return text


def _of_images(encoder: Encoder, data: TransferData, device: torch.device) -> Tensor:
    """``[S, E]`` of all static images, as a teacher sees them."""
    pixels = views(data, "static", encoder.size)
    chunks = torch.arange(len(pixels)).split(BATCH)
    bar = tqdm(chunks, desc="embedding images", disable=None, dynamic_ncols=True)
    inputs = (teacher_input(pixels, chunk.numpy(), encoder.size).to(device) for chunk in bar)
    return torch.cat([encoder.images(x).float().cpu() for x in inputs])
