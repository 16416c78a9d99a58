"""A run's model as files: ``python -m apps.classification.export --workdir=RUN --output=FOLDER``.

``load_pretrained``, ``predict``, ``--config.weights`` and timm read the folder, and as a repository
of the Hugging Face Hub it is ``hf-hub:OWNER/NAME``.
"""

import argparse
import logging
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from scenax.common import config as config_lib
from scenax.models import save_pretrained
from scenax.train import workdir
from scenax.train.checkpoints import CheckpointError

from .config import Config
from .train import read_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the newest checkpoint's model. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.export",
        description="Writes model.safetensors and config.json of a run's newest checkpoint.",
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="the run's folder")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="where they are put")
    parser.add_argument("--data_dir", help="where prepared datasets lie")
    flags = parser.parse_args(arguments)
    try:
        data = config_lib.load(flags.workdir / workdir.CONFIG_NAME)
        run = read_run(config_lib.resolve(Config, data, {}), flags.workdir, flags.data_dir)
        save_pretrained(
            run.model.flax_model,
            run.start.state.eval_variables,
            flags.output,
            label_names=run.dataset.meta_data.label_names,
        )
    except (ValueError, OSError, CheckpointError) as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    Console().print(
        f"{flags.output} holds the model of step {int(run.start.state.step)}. Try next:\n"
        f"  python -m {__package__}.predict --weights={flags.output} IMAGE...",
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
