"""Writes ``schedules.json``, what other libraries' schedules give.

    python make_schedules.py FILE

Run by hand where timm 1.0.31, torch and ml_collections are installed. ``FILE`` is
``scenic/train_lib/lr_schedules.py`` of github.com/google-research/scenic, of which ``COMMIT`` was
used.
"""

import importlib.util
import json
import pathlib
import sys

import torch
from timm import scheduler

COMMIT = "4a38d475ee89cb821078c0e2bf2065ee030e1535"
RATE, TOTAL = 0.4, 100
STEPS = [0, 1, 4, 9, 10, 11, 24, 25, 26, 39, 40, 41, 55, 60, 61, 75, 99]

COMPOUND = [
    {"factors": "constant"},
    {"factors": "constant * linear_warmup", "warmup_steps": 10, "warmup_alpha": 0.2},
    {"factors": "constant*linear_warmup", "warmup_steps": 0},
    {"factors": "constant * polynomial", "decay_steps": 60, "end_factor": 0.1, "power": 3},
    {
        "factors": "constant * piecewise_constant",
        "decay_events": [25, 60],
        "decay_factors": [0.5, 0.1],
    },
    {
        "factors": "constant * linear_warmup * piecewise_linear",
        "warmup_steps": 10,
        "decay_events": [25, 60],
        "decay_factors": [0.5, 0.1],
    },
    {"factors": "constant * linear_warmup * rsqrt_decay", "warmup_steps": 10, "timescale": 30},
    {"factors": "constant * rsqrt_decay"},
    {"factors": "constant * decay_every", "steps_per_decay": 25, "decay_factor": 0.3},
    {"factors": "constant * exponential_decay", "decay_steps": 25, "decay_rate": 0.5},
    {
        "factors": "constant * exponential_decay",
        "decay_steps": 25,
        "decay_rate": 0.5,
        "staircase": True,
    },
    {
        "factors": "constant * linear_warmup * cosine_decay",
        "warmup_steps": 10,
        "steps_per_cycle": 100,
        "alpha": 0.05,
    },
    {
        "factors": "constant * linear_warmup * cosine_decay",
        "warmup_steps": 9,
        "steps_per_cycle": 30,
        "m_mul": 0.5,
        "start_decay_step": 2,
    },
    {
        "factors": "constant * cosine_decay",
        "steps_per_cycle": 12,
        "t_mul": 2,
        "m_mul": 0.7,
    },
    {
        "factors": "constant * linear_warmup * linear_decay",
        "warmup_steps": 10,
        "end_learning_rate": 0.01,
    },
    {
        "factors": "constant * linear_warmup * rsqrt_decay * linear_cooldown",
        "warmup_steps": 10,
        "cooldown_steps": 45,
    },
]


def case(name: str, options: dict, rates: list[float]) -> dict:
    return {"name": name, "options": options, "rates": [float(f"{rate:.7g}") for rate in rates]}


def scenic(path: str) -> list[dict]:
    """What Scenic's own code gives for ``COMPOUND``."""
    import ml_collections

    spec = importlib.util.spec_from_file_location("lr_schedules", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases = []
    for options in COMPOUND:
        config = ml_collections.ConfigDict(
            {**options, "base_learning_rate": RATE, "total_steps": TOTAL}
        )
        rate = module.compound_lr_scheduler(config)
        cases.append(case("compound", options, [float(rate(step)) for step in STEPS]))
    return cases


def parameters() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)


def timm() -> list[dict]:
    """What timm's schedulers give, step by step."""
    warmup = {"warmup_t": 10, "warmup_lr_init": 0.0}
    cases = [
        (
            "cosine",
            {"warmup_steps": 10, "final": 0.03},
            scheduler.CosineLRScheduler(
                parameters(), t_initial=90, lr_min=0.03, warmup_prefix=True, **warmup
            ),
        ),
        (
            "polynomial",
            {"warmup_steps": 10, "final": 0.03, "power": 3.0},
            scheduler.PolyLRScheduler(
                parameters(), t_initial=90, power=3.0, lr_min=0.03, warmup_prefix=True, **warmup
            ),
        ),
        (
            "step",
            {"warmup_steps": 10, "every_steps": 25, "factor": 0.3},
            scheduler.StepLRScheduler(
                parameters(), decay_t=25, decay_rate=0.3, warmup_prefix=False, **warmup
            ),
        ),
    ]
    return [
        case(name, options, [made._get_lr(step)[0] for step in STEPS])
        for name, options, made in cases
    ]


def torchs() -> list[dict]:
    """What torch's schedulers give, step by step."""
    cases = [
        ("constant", {}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (
            "linear",
            {"final": 0.1},
            lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=TOTAL),
        ),
        ("cosine", {}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, TOTAL)),
        (
            "step",
            {"boundary_steps": [25, 60], "factor": 0.3},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [25, 60], gamma=0.3),
        ),
    ]
    found = []
    for name, options, make in cases:
        optimizer = parameters()
        schedule = make(optimizer)
        rates = []
        for _ in range(TOTAL):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        found.append(case(name, options, [rates[step] for step in STEPS]))
    return found


def main() -> None:
    """Writes one case a line."""
    lines = [json.dumps(case) for case in [*torchs(), *timm(), *scenic(sys.argv[1])]]
    head = f'{{"learning_rate": {RATE}, "total_steps": {TOTAL}, "steps": {STEPS}, "cases": [\n'
    path = pathlib.Path(__file__).with_name("schedules.json")
    path.write_text(head + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
