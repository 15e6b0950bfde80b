import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import DCIGN, CodeLayout, clamping, load_model
from dcign_tf.errors import DcignError

SIZE = 38
RNG = np.random.default_rng(0)
DEGREES = {
    "azimuth": RNG.uniform(-90, 90, 200),
    "elevation": RNG.uniform(-25, 25, 200),
    "light_azimuth": RNG.uniform(-80, 80, 200),
}


def tiny(**arguments):
    keras.utils.set_random_seed(1)
    return DCIGN(
        **{
            "image_size": SIZE,
            "encoder_filters": (3, 2, 2),
            "decoder_filters": (2, 2, 3),
            "layout": CodeLayout.paper(8),
            **arguments,
        }
    )


def images(*shape):
    return np.random.default_rng(5).integers(0, 256, (*shape, SIZE, SIZE, 1), np.uint8)


def compiled(**arguments):
    return model_compiled(tiny(**arguments))


def model_compiled(model):
    model.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def calibrated():
    model = tiny()
    model.calibrate(images(200), DEGREES)
    return model


def test_the_default_is_the_papers_model():
    model = DCIGN()
    assert model.layout == CodeLayout.paper()
    assert model.settings.invariance_strength == 0.01
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == 4_991_473
    assert not model.calibrated


def test_bytes_and_floats_are_the_same_images():
    model = tiny()
    some = images(3)
    for from_bytes, from_floats in zip(
        model.encode(some), model.encode(some.astype(np.float32) / 255), strict=True
    ):
        np.testing.assert_allclose(from_bytes, from_floats, atol=1e-6)
    decoded = model.decode(model.encode(some)[0]).numpy()
    assert decoded.shape == (3, SIZE, SIZE, 1) and 0 <= decoded.min() and decoded.max() <= 1
    np.testing.assert_allclose(model(some), decoded, atol=1e-6)


class Section31:
    """Section 3.1 of the paper, step by step in NumPy, for linear encoder and decoder of flat images."""

    def __init__(self, weights, strength):
        self.w_mean, self.w_log_variance, self.w_out = weights
        self.strength = strength

    def gradients(self, x, active_latents, noise):
        x = x.reshape(len(x), -1)
        # Steps 1-3: a mini-batch in which one factor varies is encoded.
        mean, log_variance = x @ self.w_mean, x @ self.w_log_variance
        # Steps 4-5: inactive latents are replaced by their averages.
        clamped_mean = np.where(active_latents, mean, mean.mean(0))
        clamped_log_variance = np.where(active_latents, log_variance, log_variance.mean(0))
        deviation = np.exp(clamped_log_variance / 2)
        z = clamped_mean + deviation * noise
        # Step 6: reconstruction error, propagated back through the decoder as SGVB does.
        p = 1 / (1 + np.exp(-(z @ self.w_out)))
        d_logits = p - x
        d_w_out = z.T @ d_logits
        d_z = d_logits @ self.w_out.T
        d_mean = d_z + clamped_mean
        d_log_variance = d_z * noise * deviation / 2 + (np.exp(clamped_log_variance) - 1) / 2
        # Step 7: the gradient of clamped latents is their difference from the mean; others pass unchanged.
        d_mean = np.where(active_latents, d_mean, self.strength * (mean - mean.mean(0)))
        d_log_variance = np.where(
            active_latents, d_log_variance, self.strength * (log_variance - log_variance.mean(0))
        )
        # Step 8: on through the encoder.
        return x.T @ d_mean, x.T @ d_log_variance, d_w_out


@pytest.mark.parametrize("active", [0, 1, 2, 3])
def test_gradients_are_those_of_section_3_1(active):
    keras.config.set_dtype_policy("float64")
    try:
        model = tiny()
        inputs = keras.Input((SIZE, SIZE, 1), dtype="float64")
        flat = keras.layers.Flatten()(inputs)
        dense = [keras.layers.Dense(8, use_bias=False)(flat) for _ in range(2)]
        model.encoder = keras.Model(inputs, dense)
        codes = keras.Input((8,), dtype="float64")
        out = keras.layers.Dense(SIZE * SIZE, use_bias=False)(codes)
        model.decoder = keras.Model(codes, keras.layers.Reshape((SIZE, SIZE, 1))(out))
    finally:
        keras.config.set_dtype_policy("float32")
    variables = model.encoder.trainable_variables + model.decoder.trainable_variables
    rng = np.random.default_rng(active)
    for variable in variables:
        variable.assign(rng.normal(size=variable.shape) * 0.05)
    x = rng.uniform(size=(2, 5, SIZE, SIZE, 1))
    factors = np.array([active, 3])
    with tf.GradientTape() as tape:
        total, _ = model.measure(x, factors)
    computed = tape.gradient(total, [v.value for v in variables])

    noise = model._noise(2, 5).numpy()
    by_hand = Section31([v.numpy() for v in variables], model.settings.invariance_strength)
    expected = [0.0, 0.0, 0.0]
    for g in range(2):  # Groups only add up.
        masks = model.layout.masks[factors[g]]
        parts = by_hand.gradients(x[g], masks, noise[g])
        expected = [e + p for e, p in zip(expected, parts, strict=True)]
    for ours, theirs in zip(computed, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_only_the_active_factors_latents_learn_from_the_objective():
    model = compiled(invariance_strength=0.0)
    before = [w.copy() for w in model.encoder.get_layer("mean").get_weights()]
    tf.function(model.train_step)((images(1, 6), np.array([1], np.int32)))
    after = model.encoder.get_layer("mean").get_weights()
    changed = np.abs(after[0] - before[0]).max(axis=0) > 0
    assert changed.tolist() == [False, True] + [False] * 6


@pytest.mark.parametrize("arguments", [{}, {"clamp_to": "first", "invariance_strength": 3.0}])
def test_the_clamp_without_options_is_the_plain_one_bit_for_bit(arguments, monkeypatch):
    @tf.custom_gradient
    def plain(z, active, strength, anchor):
        def gradient(upstream):
            return tf.where(active, upstream, (z - anchor) * strength), None, None, None

        return tf.where(active, z, anchor), gradient

    def old_clamp(z, active, strength, reference, *options):
        assert options[:2] == ("replace", "absolute")
        anchor = tf.reduce_mean(z, axis=1, keepdims=True) if reference == "mean" else z[:, :1]
        return plain(z, active[:, tf.newaxis], tf.cast(strength, z.dtype), anchor)

    model = tiny(**arguments)
    x, active = images(2, 5), np.array([1, 3], np.int32)
    ours, logs = derivatives(model_compiled(model), x, active)
    monkeypatch.setattr(clamping, "clamp", old_clamp)
    expected, expected_logs = derivatives(model_compiled(model), x, active)
    for gradient, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(gradient, other)
    assert logs == expected_logs


PROCEDURES = (
    {"procedure": "exchange"},
    {"procedure": "ml_vae"},
    {"procedure": "group_vae", "beta": 2.0},
    {"procedure": "ada_gvae"},
    {"procedure": "sgvb"},
    {"procedure": "beta_vae", "beta": 4.0},
    {"clamp_gradient": "add", "invariance_strength": 3.0},
    {"clamp_to": "another", "invariance_strength": 3.0},
    {"kl_warmup_steps": 10, "invariance_warmup_steps": 20, "invariance_strength": 3.0},
)
RELATIVE = (
    {"invariance": "relative"},
    {"clamp_gradient": "add", "invariance": "relative", "clamp_to": "first"},
)


@pytest.mark.parametrize("settings", [*PROCEDURES, *RELATIVE])
def test_a_loss_scale_scales_all_of_a_procedures_gradient(settings):
    model = compiled(**settings)
    model.optimizer.iterations.assign(5)
    x, active = images(2, 4), np.array([0, 3], np.int32)
    expected, expected_logs = derivatives(model, x, active)
    scaled, logs = derivatives(model, x, active, 64.0)
    for ours, theirs in zip(scaled, expected, strict=True):
        assert np.linalg.norm(theirs) > 0
        assert relative(ours, theirs) < 1e-5
    assert logs == pytest.approx(expected_logs, rel=1e-5)
    beta = 0.5 if "kl_warmup_steps" in settings else settings.get("beta", 1.0)
    assert logs["objective"] == pytest.approx(
        logs["negative_log_likelihood"] + beta * logs["kl"], rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "arguments", "jit_compile", "tolerance"),
    [
        ({"procedure": "ml_vae", "kl_warmup_steps": 10}, {"dtype": "mixed_float16"}, False, 0.1),
        ({**PROCEDURES[-1], **RELATIVE[1]}, {}, True, 1e-3),
    ],
)
def test_procedures_are_computed_alike_by_xla_and_in_float16(
    settings, arguments, jit_compile, tolerance
):
    common = {"encoder_filters": (8, 8, 8), "decoder_filters": (8, 8, 8), **settings}
    x, active = images(2, 6), np.array([1, 3], np.int32)
    plain, other = compiled(**common), compiled(**common, **arguments)
    other.set_weights(plain.get_weights())
    other.compile(optimizer=other.optimizer, jit_compile=jit_compile)
    for model in (plain, other):
        model.optimizer.iterations.assign(5)
    expected, _ = derivatives(plain, x, active)
    computed, _ = derivatives(other, x, active, 64.0)
    for variable, ours, theirs in zip(plain.trainable_variables, computed, expected, strict=True):
        assert relative(ours, theirs) < tolerance, variable.path


def test_shared_divergence_counts_once_for_the_group():
    """What all images have in common costs as much as it would in one image."""
    x = np.repeat(images(1, 1), 5, axis=1)
    active = np.array([0], np.int32)
    logs = {p: compiled(procedure=p).test_step((x, active)) for p in ("group_vae", "sgvb")}
    assert float(logs["group_vae"]["kl/azimuth"]) == pytest.approx(
        float(logs["sgvb"]["kl/azimuth"]), rel=1e-5
    )
    assert float(logs["group_vae"]["kl/intrinsic"]) == pytest.approx(
        float(logs["sgvb"]["kl/intrinsic"]) / 5, rel=1e-4
    )


def test_plain_sgvb_clamps_nothing():
    model = compiled(procedure="sgvb")
    before = model.encoder.get_layer("mean").get_weights()[0].copy()
    tf.function(model.train_step)((images(1, 6), np.array([1], np.int32)))
    after = model.encoder.get_layer("mean").get_weights()[0]
    assert (np.abs(after - before).max(axis=0) > 0).all()


@pytest.mark.parametrize("settings", [{}, *PROCEDURES])
def test_a_stack_of_groups_has_the_sum_of_their_gradients(settings):
    model = tiny(**settings)
    x, active = images(2, 4), np.array([0, 3], np.int32)
    noise = model._noise(2, 4)

    def gradients(x, active, noise):
        with tf.GradientTape() as tape:
            total, _ = model.measure(x, active, noise=noise, step=5)
        return tape.gradient(total, model.trainable_variables)

    together = gradients(x, active, noise)
    apart = [gradients(x[g : g + 1], active[g : g + 1], noise[g : g + 1]) for g in range(2)]
    for both, first, second in zip(together, *apart, strict=True):
        scale = np.abs(both).max() + 1e-6
        np.testing.assert_allclose(both, first + second, atol=1e-4 * scale)


def derivatives(model, x, active, scale=1.0):
    gradients, logs = tf.function(model.differentiate)(x, active, tf.constant(scale))
    return [g.numpy() / scale for g in gradients], {k: float(v) for k, v in logs.items()}


def relative(ours, theirs):
    """The distance of two tensors over the length of the second."""
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize(
    ("arguments", "jit_compile", "scale", "tolerance"),
    [
        # Roundings of 2^-9 and 2^-12, through eight layers and past ReLUs and maxima that they decide otherwise.
        ({"dtype": "mixed_bfloat16"}, False, 1.0, 0.3),
        ({"dtype": "mixed_float16"}, False, 1.0, 0.06),
        ({"dtype": "mixed_float16"}, False, 64.0, 0.06),
        ({}, True, 1.0, 1e-4),
        ({"dtype": "mixed_bfloat16"}, True, 1.0, 0.3),
    ],
)
def test_every_way_to_compute_gives_the_gradients_of_float32(
    arguments, jit_compile, scale, tolerance
):
    x, active = images(2, 6), np.array([1, 3], np.int32)
    common = {
        "invariance_strength": 30.0,
        "encoder_filters": (8, 8, 8),
        "decoder_filters": (8, 8, 8),
    }
    plain, other = compiled(**common), compiled(**common, **arguments)
    other.set_weights(plain.get_weights())
    other.compile(jit_compile=jit_compile)
    assert all(v.dtype == "float32" for v in other.weights)
    expected, expected_logs = derivatives(plain, x, active)
    computed, logs = derivatives(other, x, active, scale)
    for variable, ours, theirs in zip(plain.trainable_variables, computed, expected, strict=True):
        assert relative(ours, theirs) < tolerance, variable.path
    for name, value in expected_logs.items():
        assert logs[name] == pytest.approx(value, rel=tolerance, abs=1e-6), name
    # Azimuth and light vary in neither group: what their latents learn is the invariance signal alone.
    by_path = {
        v.path: g for v, *g in zip(plain.trainable_variables, computed, expected, strict=True)
    }
    for head in ("mean/kernel", "log_variance/kernel"):
        ours, theirs = by_path[head]
        for column in (0, 2):
            assert relative(ours[:, column], theirs[:, column]) < tolerance


def test_precision_is_not_saved(calibrated, tmp_path):
    model = tiny(dtype="mixed_float16")
    model.set_weights(calibrated.get_weights())
    some = images(2)
    for output in (*model.encode(some), model.rerender(some, azimuth=3.0), model(some)):
        assert output.dtype == tf.float32
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = load_model(path)
    assert again.compute_dtype == "float32"
    assert {layer.compute_dtype for layer in again.encoder.layers} == {"float32"}
    np.testing.assert_array_equal(again(some), calibrated(some))
    assert 0 < np.abs(model(some).numpy() - again(some).numpy()).max() < 0.01


def test_logs_add_up():
    model = compiled()
    logs = model.test_step((images(2, 4), np.array([2, 3], np.int32)))
    assert float(logs["objective"]) == pytest.approx(
        float(logs["negative_log_likelihood"] + logs["kl"]), rel=1e-5
    )
    nll = "negative_log_likelihood"
    assert float(logs[f"{nll}/light_azimuth"] + logs[f"{nll}/intrinsic"]) == pytest.approx(
        float(logs[nll]), rel=1e-5
    )
    assert [float(logs[f"share/{factor}"]) for factor in model.layout.factors] == [0, 0, 0.5, 0.5]
    by_factor = sum(float(logs[f"kl/{factor}"]) for factor in model.layout.factors)
    assert by_factor == pytest.approx(float(logs["kl"]), rel=1e-4)
    assert int(logs["active"]) == 2


def test_noise_depends_on_step_and_group_alone():
    model = compiled()
    first = model._noise(3, 4)
    np.testing.assert_array_equal(first[:2], model._noise(2, 4))
    assert not np.array_equal(first[0], first[1])
    model.optimizer.iterations.assign_add(1)
    assert not np.array_equal(first, model._noise(3, 4))


def test_rerendering_needs_calibration():
    with pytest.raises(DcignError, match="was not calibrated"):
        tiny().rerender(images(1), azimuth=3.0)
    with pytest.raises(DcignError, match="was not calibrated"):
        tiny().infer(images(1))


def test_rerendering_sets_one_latent_and_keeps_the_others(calibrated):
    some = images(3)
    codes = calibrated.encode(some)[0].numpy()
    edited = calibrated.edit(codes, elevation=[5.0, float("nan"), -5.0]).numpy()
    expected = calibrated.calibration.latent_of("elevation", [5.0, -5.0]).numpy()
    np.testing.assert_allclose(edited[[0, 2], 1], expected)
    np.testing.assert_array_equal(edited[1], codes[1])
    np.testing.assert_array_equal(np.delete(edited, 1, 1), np.delete(codes, 1, 1))
    np.testing.assert_allclose(
        calibrated.rerender(some, elevation=[5.0, np.nan, -5.0]),
        calibrated.decode(edited),
        atol=1e-6,
    )
    np.testing.assert_allclose(calibrated.rerender(some), calibrated(some), atol=1e-6)


def test_rerendering_unknown_factors_is_refused(calibrated):
    with pytest.raises(ValueError, match="yaw: not a factor of this model; it has azimuth"):
        calibrated.rerender(images(1), yaw=3.0)


def test_inference_is_in_degrees(calibrated):
    inferred = calibrated.infer(images(4))
    for factor, (low, high) in calibrated.factor_ranges.items():
        values = inferred[factor].numpy()
        assert values.shape == (4,) and (low <= values).all() and (values <= high).all()


def test_several_latents_cannot_be_calibrated():
    model = tiny(layout={"azimuth": 2, "intrinsic": 3})
    with pytest.raises(DcignError, match="azimuth: has 2 latents"):
        model.calibrate(images(100), {"azimuth": np.arange(100.0)})


def test_saving_keeps_everything(calibrated, tmp_path):
    path = str(tmp_path / "model.keras")
    calibrated.save(path)
    again = load_model(path)
    assert again.get_config() == calibrated.get_config()
    assert again.factor_ranges == calibrated.factor_ranges
    some = images(2)
    np.testing.assert_array_equal(
        again.rerender(some, azimuth=20.0), calibrated.rerender(some, azimuth=20.0)
    )


NEWER = ("clamp_gradient", "invariance", "invariance_warmup_steps", "beta", "kl_warmup_steps")


def test_settings_are_saved_and_files_without_them_are_the_papers(calibrated, tmp_path):
    settings = {
        "procedure": "group_vae",
        "invariance_strength": 0.5,
        "clamp_to": "first",
        "clamp_gradient": "add",
        "invariance": "relative",
        "invariance_warmup_steps": 7,
        "beta": 2.0,
        "kl_warmup_steps": 9,
    }
    model = tiny(**settings)
    path = tmp_path / "model.keras"
    model.save(path)
    again = load_model(str(path))
    assert again.get_config() == model.get_config()
    assert again.get_config().items() >= settings.items()
    assert again.settings.procedure_settings() == settings
    # A file that is older than these settings.
    calibrated.save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    for name in NEWER:
        del config["config"][name]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)
    old = load_model(str(path))
    assert old.get_config() == calibrated.get_config()
    np.testing.assert_array_equal(old(images(2)), calibrated(images(2)))


def test_loading_something_else_is_an_error_with_the_files_name(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(DcignError, match="model.keras: no such file"):
        load_model(str(path))
    path.write_bytes(b"no zip")
    with pytest.raises(DcignError, match=r"model.keras: not a .keras file"):
        load_model(str(path))
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(DcignError, match="holds a Sequential"):
        load_model(str(path))


def test_a_damaged_file_is_told_as_such(calibrated, tmp_path):
    path = tmp_path / "model.keras"
    calibrated.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(len(whole), size=12), -1]:
        damaged = whole[:position] if position > 0 else whole[:-30]
        path.write_bytes(damaged)
        with pytest.raises(DcignError, match="model.keras"):
            load_model(str(path))
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(DcignError, match="model.keras: .* is damaged"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 71}, "nearest: 70 and 86"),
        ({"clamp_to": "median"}, "clamp_to: got 'median'"),
        ({"procedure": "magic"}, "procedure: got 'magic'"),
        ({"invariance_strength": -1}, "invariance_strength: got -1"),
        ({"procedure": "beta_vae"}, "beta: got 1, must be another number"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


TURNING = CodeLayout({"light_azimuth": 1, "azimuth": 2, "intrinsic": 5}, ["azimuth"])


@pytest.fixture(scope="module")
def turning():
    model = tiny(layout=TURNING)
    turns = RNG.uniform(0, 360, 200)
    values = {"light_azimuth": DEGREES["light_azimuth"], "azimuth": turns}
    model.calibrate(images(200), values, {"azimuth": 360.0})
    # An untrained encoder gives all images one angle, so for a curve that turns these are made up.
    latents = {"light_azimuth": DEGREES["light_azimuth"], "azimuth": 1 - np.radians(turns)}
    model.calibration.fit(latents, values, {"azimuth": 360.0})
    return model


def test_a_code_on_a_circle_closes(turning):
    codes = turning.encode(images(3))[0].numpy()
    turned = [turning.edit(codes, azimuth=a).numpy() for a in (-180.0, 180.0, 0.0, 540.0)]
    np.testing.assert_allclose(turned[0], turned[1], atol=1e-3)
    np.testing.assert_allclose(turned[0], turned[3], atol=1e-3)
    assert np.abs(turned[0] - turned[2]).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(turned[0][:, 1:3], axis=1), 1, atol=1e-6)
    for column in (0, *range(3, 8)):
        np.testing.assert_array_equal(turned[0][:, column], codes[:, column])
    some = turning.edit(codes, azimuth=[np.nan, 10.0, np.nan]).numpy()
    np.testing.assert_array_equal(some[[0, 2]], codes[[0, 2]])
    # Only the direction counts.
    further = codes.copy()
    further[:, 1:3] *= 100
    nearer = codes.copy()
    nearer[:, 1:3] *= 1 / np.linalg.norm(codes[:, 1:3], axis=1, keepdims=True)
    np.testing.assert_allclose(turning.decode(further), turning.decode(nearer), atol=1e-4)


def test_a_code_on_a_circle_is_read_saved_and_sped_up(turning, tmp_path):
    some = images(4)
    inferred = turning.infer(some)
    low, high = turning.factor_ranges["azimuth"]
    assert high - low == pytest.approx(360, abs=0.1)
    assert ((inferred["azimuth"] >= low) & (inferred["azimuth"] <= high)).numpy().all()
    turning.save(tmp_path / "model.keras")
    again = load_model(str(tmp_path / "model.keras"))
    assert again.layout == TURNING
    for model in (again, turning.for_inference()):
        np.testing.assert_allclose(model.infer(some)["azimuth"], inferred["azimuth"], rtol=1e-5)
        np.testing.assert_allclose(
            model.rerender(some, azimuth=77.0), turning.rerender(some, azimuth=77.0), atol=1e-5
        )


def test_a_code_on_a_circle_trains():
    model = compiled(layout=TURNING)
    before = model.get_weights()
    model.train_step((images(2, 4), [1, 2]))
    assert any(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights(), strict=True))
