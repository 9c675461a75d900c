"""Four ways to round, each against its definition, on a real layer's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgewhisper.backend import TorchBackend
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.quantizers.activations import measure
from edgewhisper.quantizers.rounding import Codes, rounded
from edgewhisper.quantizers.scope import part_of
from edgewhisper.quantizers.smoothing import smooth
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.schema import Calibration, Method, Rounding, Weights
from variants import LITTLE, quantize, random_model

INT4 = Weights("int4", "asymmetric", "per-group", 32)
ROWS = find_recipe("edgewhisper-int8").weights
FC1 = "model.encoder.layers.0.fc1"


@pytest.fixture(scope="module")
def weight(tiny_en: Checkpoint) -> Any:
    """64 rows of a feed-forward layer, float32 [64, 384]."""
    return tiny_en.load().get_submodule(FC1).weight.detach()[:64]


@pytest.fixture(scope="module")
def moment() -> Any:
    """The mean of x x^T over inputs that depend on each other, some much larger than others."""
    import torch

    draws = torch.Generator().manual_seed(0)
    mixed = torch.randn(2000, 96, generator=draws) @ torch.randn(96, 384, generator=draws)
    inputs = (mixed + torch.randn(2000, 384, generator=draws)) * torch.linspace(0.1, 4, 384)
    return inputs.T @ inputs / len(inputs)


def error(weight: Any, codes: Codes, moment: Any) -> float:
    """Return the mean squared error of a layer's outputs."""
    wrong = codes.values() - weight
    return float(((wrong @ moment) * wrong).sum())


@pytest.mark.parametrize("weights", [INT4, replace(INT4, method="symmetric"), ROWS])
def test_nearest_is_a_grid_over_the_range(weight: Any, weights: Weights) -> None:
    codes = rounded(weight, weights)
    groups = weight.numpy().reshape(len(weight), -1, weights.group_size or 384)
    if weights.method == "symmetric":
        scale = np.abs(groups).max(-1) / ((1 << (weights.bits - 1)) - 1)
    else:
        scale = (np.maximum(groups.max(-1), 0) - np.minimum(groups.min(-1), 0)) / 15
    np.testing.assert_allclose(codes.scale.numpy(), scale, rtol=1e-3)
    wrong = np.abs(codes.values().numpy().reshape(groups.shape) - groups).max(-1)
    assert (wrong <= 1.01 * scale).all()  # the zero point is rounded, too
    assert (codes.codes.numpy() >= (weights == ROWS)).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("method", ["symmetric", "asymmetric"])
def test_each_way_is_better_than_the_one_before(
    weight: Any, moment: Any, bits: int, method: Method
) -> None:
    import torch

    def codes(rounding: Rounding) -> Codes:
        weights = Weights(f"int{bits}", method, "per-group", 32, rounding=rounding)  # type: ignore[arg-type] # a dtype
        return rounded(weight, weights, moment)

    plain, importance = torch.eye(384), moment.diagonal().diag()
    nearest, searched, weighted = map(codes, ("nearest", "searched", "weighted"))
    assert error(weight, searched, plain) < error(weight, nearest, plain)
    assert error(weight, weighted, importance) < error(weight, searched, importance)
    assert error(weight, codes("error-feedback"), moment) < 0.5 * error(weight, weighted, moment)


@pytest.mark.parametrize("rounding", ["weighted", "error-feedback"])
def test_rows_of_8_bits_too(weight: Any, moment: Any, rounding: Rounding) -> None:
    codes = rounded(weight, replace(ROWS, rounding=rounding), moment)
    assert codes.scale.shape == (64, 1)
    assert error(weight, codes, moment) < error(weight, rounded(weight, ROWS), moment)


def test_error_feedback_is_gptq(weight: Any, moment: Any) -> None:
    """Against its plain form: after each input, the inverse loses that input's row and column."""
    weights = replace(INT4, rounding="error-feedback")
    ours = rounded(weight, weights, moment)
    scale, zero = (
        each.numpy().repeat(32, axis=1).astype(np.float64) for each in (ours.scale, ours.zero)
    )
    damped = moment.numpy().astype(np.float64)
    damped += 0.01 * damped.diagonal().mean() * np.eye(384)
    inverse, rest = np.linalg.inv(damped), weight.numpy().astype(np.float64)
    codes = np.empty(rest.shape)
    for at in np.argsort(-moment.diagonal().numpy()):
        codes[:, at] = np.clip(np.round(rest[:, at] / scale[:, at] + zero[:, at]), 0, 15)
        wrong = rest[:, at] - (codes[:, at] - zero[:, at]) * scale[:, at]
        rest -= np.outer(wrong / inverse[at, at], inverse[at])
        inverse -= np.outer(inverse[:, at], inverse[at]) / inverse[at, at]
    same = codes == ours.codes.numpy()
    assert same.mean() > 0.98  # float32 and float64 differ in ties, and what follows a tie differs


def logits(model: Any) -> Any:
    """Return the logits after six tokens, over two windows of noise."""
    features = np.random.default_rng(0).normal(size=(2, 80, 200)).astype(np.float32)
    backend = TorchBackend(model)
    return backend.step(np.array([[3, 1, 4], [1, 5, 9]]), backend.start(backend.encode(features)))


def speaking(model: Any) -> Callable[[], None]:
    """Return a calibration on them."""
    return lambda: logits(model)


def test_statistics_are_those_of_the_inputs() -> None:
    model, kept = random_model(LITTLE), []
    model.get_submodule(FC1).register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    found = measure(model, [FC1, "model.encoder.conv2"], speaking(model))
    rows = kept[0].flatten(0, -2).numpy()
    np.testing.assert_allclose(found[FC1].mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(found[FC1].moment(), rows.T @ rows / len(rows), atol=1e-4)
    np.testing.assert_allclose(found[FC1].covariance, np.cov(rows.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found[FC1].largest, np.abs(rows).max(0))
    assert found["model.encoder.conv2"].mean.shape == (3 * 128,)


def test_smoothing_changes_inputs_and_no_output() -> None:
    import torch

    model = random_model(LITTLE)
    norm = model.model.encoder.layers[0].final_layer_norm
    with torch.no_grad():
        norm.weight[::16] = 40  # outliers, as large models have them
    names = [name for name, _ in model.named_modules() if part_of(name)]
    before, found = logits(model), measure(model, names, speaking(model))
    with torch.no_grad():
        smoothed = smooth(model, names, found, 0.5)
    np.testing.assert_allclose(logits(model), before, atol=1e-4)
    again = measure(model, names, speaking(model))
    fc1 = smoothed[FC1].largest
    np.testing.assert_allclose(again[FC1].largest, fc1, rtol=1e-3)
    spread = [inputs.max() / inputs.median() for inputs in (fc1, found[FC1].largest)]
    assert spread[0] < 0.5 * spread[1]
    fc2 = FC1.replace("fc1", "fc2")
    np.testing.assert_allclose(smoothed[fc2].largest, found[fc2].largest)


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_calibrated_codes_give_closer_outputs(smoothing: float) -> None:
    """The whole way through the adapter: measured, smoothed, rounded, biases corrected."""
    plain = replace(find_recipe("edgewhisper-int4-all"), weights=INT4)
    fed_back = replace(
        plain,
        weights=replace(INT4, rounding="error-feedback"),
        calibration=Calibration("dev-clean", 1),
        smoothing=smoothing,
    )
    exact = logits(random_model(LITTLE))
    wrong = []
    for recipe in (plain, fed_back):
        model = random_model(LITTLE)
        quantize(model, recipe, speaking(model))
        wrong.append(float(np.square(logits(model) - exact).mean()))
    assert wrong[1] < 0.7 * wrong[0]
