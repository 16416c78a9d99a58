"""What is measured in training, and how often. Meant to be edited."""

from collections.abc import Mapping
from typing import Any

from scenax.models import ClassificationModel
from scenax.train import step
from scenax.train.evaluate import Evaluator, evaluate
from scenax.train.state import TrainState
from scenax.train.transfer.features import Splits, extract_features, make_feature_step
from scenax.train.transfer.few_shot import few_shot

from .config import EvaluatorChoice
from .task import Task, make_dataset


def make_evaluators(task: Task) -> list[Evaluator]:
    """Returns the evaluators of a run: the validation split, and what its configuration adds.

    Raises:
      ValueError: if one has the name of another, or its dataset other classes than the run's.
    """
    config = task.config
    valid_step = step.make_eval_step(task.model, task.mesh, "validation")
    found = [
        Evaluator(
            "validation",
            config.evaluate_every,
            lambda state: evaluate(valid_step, state, task.dataset.valid_iter, task.mesh),
        )
    ]
    for name, choice in config.evaluators.items():
        if name in ("train", "validation", "test"):
            raise ValueError(f"An evaluator cannot be called {name!r}: the log has that already.")
        measure = _few_shot(task, choice) if choice.shots else _split(task, name, choice)
        found.append(Evaluator(name, choice.every, measure))
    return found


def _split(task: Task, name: str, choice: EvaluatorChoice) -> Any:
    """The model's metrics on a split, of another dataset maybe."""
    dataset: Any = task.dataset
    if choice.dataset is not None:
        dataset = make_dataset(task.config, task.data_dir, choice.dataset)
        classes = dataset.meta_data.num_classes, task.dataset.meta_data.num_classes
        if classes[0] != classes[1]:
            raise ValueError(
                f"The evaluator {name!r} is on {choice.dataset.name} of {classes[0]} classes; the "
                f"model has {classes[1]}. Give it 'shots' to measure features alone."
            )
    eval_step = step.make_eval_step(task.model, task.mesh, "test")
    return lambda state: evaluate(eval_step, state, dataset.once(choice.split), task.mesh)


def _few_shot(task: Task, choice: EvaluatorChoice) -> Any:
    """The accuracy of linear classifiers on the features, by the number of examples."""
    dataset: Any = make_dataset(task.config, task.data_dir, choice.dataset)
    args = {**task.config.model.args, "num_classes": 0}
    headless = ClassificationModel(
        {"architecture": task.config.model.name, "args": args}, task.dataset.meta_data
    )
    feature_step = make_feature_step(
        lambda variables, batch: headless.apply(variables, batch, train=False)[0], task.mesh
    )

    def measure(state: TrainState) -> Mapping[str, float]:
        variables, parts = state.eval_variables, {}
        for split in ("train", "validation", "test"):
            batches = dataset.once(split)
            parts[split] = extract_features(feature_step, variables, batches, task.mesh)
        splits = Splits(**parts, num_classes=dataset.meta_data.num_classes)
        sweeps = few_shot(splits, shots=choice.shots)
        return {f"accuracy_{count}_shot": sweep.test_top_1 for count, sweep in sweeps.items()}

    return measure
