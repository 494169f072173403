"""``tmkt report best.pt``: the model card of a checkpoint, from what it says of itself."""

import shlex
from pathlib import Path

import yaml

from ..data.preparation import Preparation
from ..errors import UserError
from ..files import replacing
from ..options import model_text, words_of
from .network import Network, load

TAGS = ["spiking-neural-network", "event-camera", "image-classification", "braincog"]
MOST_CLASSES = 20
USE = """\
With [tmkt_braincog](https://github.com/tmkt-braincog/tmkt_braincog) installed:

```bash
tmkt predict {path} RECORDING...
```

```python
import tmkt_braincog

network = tmkt_braincog.load("{path}")
prediction = network.predict("recording.bin")  # or events with the fields x, y, t (us) and p
print(prediction.label, dict(zip(network.classes, prediction.probabilities)))
```
"""


def write_card(checkpoint: str, output: Path | None) -> str:
    """Write the card, by default ``best.md`` beside ``best.pt``; returns what is to be said."""
    if output is None and checkpoint.startswith("hf:"):
        raise UserError(f"{checkpoint} is on the Hub: give --output FILE.md.")
    path = output or Path(checkpoint).with_suffix(".md")
    if path.suffix != ".md":
        raise UserError(f"The card of {checkpoint} is Markdown: give --output FILE.md, not {path}.")
    if path.exists():
        raise UserError(f"{path} exists. Move it away, or give another --output FILE.md.")
    text = card(load(checkpoint), Path(checkpoint).name)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return f"Written: {path}"


def card(network: Network, path: str) -> str:
    """The card; ``path`` is what it calls the checkpoint: a file's name or ``hf:user/name``."""
    o, about = network.options, network.about
    (method,), target = o.method, about["target"]
    emulated = " (events emulated from the images)" if about["emulated"] else ""
    head = yaml.safe_dump({"library_name": "tmkt_braincog", "tags": TAGS}, sort_keys=False)
    table = "\n".join(f"| {name} | {value} |" for name, value in _facts(network).items())
    limits = [
        "One run: another seed gives another network and another accuracy.",
        *about["remarks"],
    ]
    if emulated:
        limits.append("The events are emulated from images; on a camera it was not tested.")
    parts = [
        f"---\n{head}---",
        f"# {model_text(o)}, {method}, on {target}",
        "A spiking neural network for event recordings, trained with the help of static images by "
        f"[tmkt_braincog](https://github.com/tmkt-braincog/tmkt_braincog): method `{method}`, "
        f"{about['source']} -> {target}{emulated}.",
        f"| | |\n|---|---|\n{table}",
        f"## Use\n\n{USE.format(path=path)}",
        f"## Accuracy\n\n{_accuracy(network)}",
        f"## Training\n\n```bash\n{shlex.join(['tmkt', 'train', *words_of(o)])}\n```",
        about["audit"],
        "## Limitations\n\n" + "\n".join(f"- {line}" for line in limits),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _facts(network: Network) -> dict[str, str]:
    o, about, n = network.options, network.about, sum(p.numel() for p in network.model.parameters())
    names = [name.replace("|", "&#124;") for name in network.classes[:MOST_CLASSES]]
    if rest := len(network.classes) - len(names):
        names.append(f"and {rest} more")
    how = Preparation(**(about["preparation"] or {"steps": o.step}))
    sensors = {f" ({end})" if end else "": size for end, size in how.sensors.items()}
    sensors = {"": how.sensor} if how.sensor else sensors
    sensor = ", ".join(f"{w} x {h}{end}" for end, (w, h) in sensors.items()) or "as the files say"
    parts = ", ".join(f"{n:,} {part}" for part, n in about["recordings"].items())
    versions = ("tmkt_braincog", "python", "torch", "timm", "braincog")
    return {
        "network": f"{model_text(o)}, {o.node_type}, {n:,} parameters",
        "input": f"T = {o.step} frames of 2 x {o.event_size} x {o.event_size}, {o.frame_mode}s",
        "classes": f"{len(network.classes)}: {', '.join(names)}",
        "seed, epoch": f"{o.seed[0]}, {network.reached.get('epoch', 'in the middle of one')}",
        "recordings": f"{parts}; protocol `{o.protocol}`",
        "sensor": "each its own" if how.sensor_by == "events" else sensor,
        "data fingerprint": f"`{how.fingerprint or 'none'}`",
        "versions": ", ".join(f"{name} {about['environment'][name]}" for name in versions),
        "trained on": about["environment"]["device"],
    }


def _accuracy(network: Network) -> str:
    """Top-1 of the recordings held out, by head."""
    row = network.reached
    names = {"val": "validation", "test": "test"}
    parts = [part for part in names if f"{part}_top1" in row]
    if not parts:
        return "Not evaluated at the moment at which it was saved."
    heads = {"event head": "top1", "static head": "top1_static", "mean of both": "top1_both"}
    held = {head: name for head, name in heads.items() if f"{parts[0]}_{name}" in row}
    lines = [f"| top-1 in percent | {' | '.join(held)} |", "|---" * (len(held) + 1) + "|"]
    for part in parts:
        values = " | ".join(f"{row[f'{part}_{name}']:.2f}" for name in held.values())
        lines.append(f"| {names[part]} recordings | {values} |")
    said = "One seed; predictions are the event head's."
    if "val" not in parts:
        said += " Without validation recordings the best epoch is chosen on the test ones."
    return "\n".join([*lines, "", said])
