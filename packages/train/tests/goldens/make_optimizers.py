"""Writes ``optimizers.json``, where torch's and timm's optimizers lead in five steps.

Run by hand where timm 1.0.31 and torch are installed. ``kernel`` has our layout, inputs before
outputs; it has weight decay and ``bias`` has none.
"""

import json
import math
import pathlib

import timm.optim
import torch
from timm.utils import adaptive_clip_grad

STEPS, RATE, DECAY = 5, 0.03, 0.2
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def start(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape)
    values = [round(math.sin(3 * i + len(name)), 3) for i in range(count)]
    return torch.tensor(values).reshape(shape)


def gradient(parameter: torch.Tensor, step: int) -> torch.Tensor:
    """Of a bowl whose middle moves."""
    wave = torch.arange(parameter.numel(), dtype=torch.float32).reshape(parameter.shape)
    return 0.5 * parameter - torch.round(torch.cos(wave + step) * 1000) / 1000


CASES = {
    "sgd": ({"momentum": 0.8}, lambda g: torch.optim.SGD(g, RATE, momentum=0.8)),
    "sgd-nesterov": (
        {"momentum": 0.8, "nesterov": True},
        lambda g: torch.optim.SGD(g, RATE, momentum=0.8, nesterov=True),
    ),
    "sgd-plain": ({"momentum": 0.0}, lambda g: torch.optim.SGD(g, RATE)),
    "adam": ({"b1": 0.8, "b2": 0.95}, lambda g: torch.optim.Adam(g, RATE, betas=(0.8, 0.95))),
    "adamw": (
        {"b1": 0.8, "b2": 0.95, "eps": 1e-3},
        lambda g: torch.optim.AdamW(g, RATE, betas=(0.8, 0.95), eps=1e-3),
    ),
    "lamb": (
        {"b1": 0.8, "b2": 0.95},
        lambda g: timm.optim.Lamb(g, RATE, betas=(0.8, 0.95), max_grad_norm=None),
    ),
    "lion": ({"b1": 0.8, "b2": 0.95}, lambda g: timm.optim.Lion(g, RATE, betas=(0.8, 0.95))),
    "rmsprop": (
        {"decay": 0.8, "momentum": 0.7, "eps": 1e-3},
        lambda g: timm.optim.RMSpropTF(g, RATE, alpha=0.8, momentum=0.7, eps=1e-3),
    ),
    "adafactor": (
        {"min_dim_size_to_factor": 2},
        lambda g: torch.optim.Adafactor(g, RATE),
    ),
}
WITHOUT_DECAY = ("adafactor",)  # Torch's scales by what weight decay has left of the parameters.


def run(name: str, make) -> dict[str, list]:
    parameters = {key: start(key, shape).requires_grad_() for key, shape in SHAPES.items()}
    decay = 0.0 if name in WITHOUT_DECAY else DECAY
    optimizer = make(
        [
            {"params": [parameters["kernel"]], "weight_decay": decay},
            {"params": [parameters["bias"]], "weight_decay": 0.0},
        ]
    )
    for step in range(STEPS):
        for parameter in parameters.values():
            parameter.grad = gradient(parameter.detach(), step)
        optimizer.step()
    return {key: rounded(value) for key, value in parameters.items()}


def rounded(tensor: torch.Tensor) -> list:
    return json.loads(
        json.dumps(tensor.tolist()), parse_float=lambda text: float(f"{float(text):.7g}")
    )


def clipped() -> dict[str, list]:
    """Gradients of a convolution, a linear layer and a bias after timm's adaptive clipping.

    Torch's layouts have outputs first.
    """
    found = {}
    for name, shape, order in (
        ("conv", (2, 2, 3, 4), (3, 2, 0, 1)),
        ("linear", (4, 3), (1, 0)),
        ("bias", (3,), (0,)),
    ):
        theirs = start(name, shape).permute(order).contiguous().requires_grad_()
        theirs.grad = gradient(start(name, shape), 1).permute(order).contiguous()
        adaptive_clip_grad([theirs], clip_factor=0.3)
        back = [order.index(axis) for axis in range(len(order))]
        found[name] = rounded(theirs.grad.permute(back))
    return found


def main() -> None:
    """Writes the file, one case a line."""
    cases = []
    for name, (options, make) in CASES.items():
        decay = 0.0 if name in WITHOUT_DECAY else DECAY
        case = {
            "name": name.partition("-")[0],
            "options": {**options, "weight_decay": decay},
            "end": run(name, make),
        }
        cases.append(json.dumps(case))
    head = {"steps": STEPS, "learning_rate": RATE, "adaptive_clip": 0.3, "clipped": clipped()}
    text = json.dumps(head)[:-1] + ',\n"cases": [\n' + ",\n".join(cases) + "\n]}\n"
    pathlib.Path(__file__).with_name("optimizers.json").write_text(text)


if __name__ == "__main__":
    main()
