"""The peer: TensorFlow Model Optimization as its guides show it, in an environment of its own.

Run by that environment's Python with one JSON argument; imports nothing of edgepack. Prints
one JSON object: the seconds of training and conversion.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

ADDITIONS = ("math.add", "__operators__.add")
PRUNING = tfmot.sparsity.keras
CLUSTERING = tfmot.clustering.keras
QUANTIZE = tfmot.quantization.keras


def main() -> None:
    """One technique on one model with one seed."""
    job = json.loads(sys.argv[1])
    tf_keras.utils.set_random_seed(job["seed"])
    x, y = rows(job)
    model = loaded(job["model"])
    started = time.perf_counter()
    made = TECHNIQUES[job["technique"]](model, x, y, job)
    trained = time.perf_counter() - started
    content = converted(made, x[: job["calibrate"]], job)
    with pathlib.Path(job["out"]).open("wb") as file:
        file.write(content)
    print(json.dumps({"seconds": trained}))


def rows(job: dict) -> tuple[np.ndarray, np.ndarray]:
    """The training set as the model takes it; calibration rows first, as they are for all."""
    with np.load(job["train"], allow_pickle=False) as archive:
        x, y = archive["x"], archive["y"]
    first = np.asarray(job["calibration"])
    order = np.concatenate([first, np.setdiff1d(np.arange(len(x)), first)])
    job["calibrate"] = len(first)
    return (x[order].astype(np.float32) * job["scale"]).astype(np.float32), y[order]


def loaded(path: str):
    """The model, with additions as Add layers: it takes no layer that stands for an operator."""
    model = tf_keras.models.load_model(path, compile=False)
    config = model.get_config()
    for layer in config["layers"]:
        if layer["class_name"] == "TFOpLambda" and layer["config"]["function"] in ADDITIONS:
            ((name, node, place, kwargs),) = layer["inbound_nodes"]
            layer["class_name"], layer["config"] = "Add", {"name": layer["config"]["name"]}
            layer["inbound_nodes"] = [[[name, node, place, {}], [*kwargs["y"], {}]]]
    made = type(model).from_config(config)
    made.set_weights(model.get_weights())
    return made


def fit(model, x, y, job, epochs, callbacks=()) -> None:
    """Adam with cosine decay, as edgepack's own recipes train."""
    steps = epochs * (len(x) // job["batch_size"])
    rate = tf_keras.optimizers.schedules.CosineDecay(job["learning_rate"], steps)
    model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(
        x, y, batch_size=job["batch_size"], epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


def plain(model, x, y, job):
    """Post-training quantisation alone."""
    return model


def finetune(model, x, y, job):
    """The control: the same training without any technique."""
    fit(model, x, y, job, job["epochs"])
    return model


def qat(model, x, y, job):
    """Quantisation-aware training."""
    made = preserving(model, None)
    fit(made, x, y, job, job["epochs"])
    return made


def pruned(model, x, y, job, epochs):
    """Magnitude pruning with the polynomial schedule over two thirds of the epochs."""
    steps = epochs * (len(x) // job["batch_size"])
    schedule = PRUNING.PolynomialDecay(0.0, job["sparsity"], 0, steps * 2 // 3, frequency=20)
    made = PRUNING.prune_low_magnitude(model, pruning_schedule=schedule)
    fit(made, x, y, job, epochs, [PRUNING.UpdatePruningStep()])
    return PRUNING.strip_pruning(made)


def prune(model, x, y, job):
    """Pruning, then post-training quantisation."""
    return pruned(model, x, y, job, job["epochs"])


def prune_qat(model, x, y, job):
    """Pruning, then plain quantisation-aware training: half of the epochs each."""
    half = job["epochs"] // 2
    return qat(pruned(model, x, y, job, job["epochs"] - half), x, y, {**job, "epochs": half})


def preserving(model, scheme):
    """A model for quantisation-aware training that preserves what came before."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    def annotate(layer):
        """It does not know Conv1D by itself, and its per-channel ranges fail there: as Dense."""
        if isinstance(layer, tf_keras.layers.Conv1D):
            config = registry.Default8BitQuantizeConfig(["kernel"], ["activation"], False)
            return QUANTIZE.quantize_annotate_layer(layer, config)
        return layer

    if any(isinstance(layer, tf_keras.layers.Conv1D) for layer in model.layers):
        model = tf_keras.models.clone_model(weights_kept := model, clone_function=annotate)
        model.set_weights(weights_kept.get_weights())
    annotated = QUANTIZE.quantize_annotate_model(model)
    named = {
        "Default8BitQuantizeConfig": registry.Default8BitQuantizeConfig,
        "QuantizeAnnotate": QUANTIZE.quantize_annotate_layer,
    }
    with QUANTIZE.quantize_scope(named):
        if scheme is None:
            return QUANTIZE.quantize_apply(annotated)
        return QUANTIZE.quantize_apply(annotated, scheme)


def pqat(model, x, y, job):
    """Pruning, then QAT that preserves sparsity."""
    half = job["epochs"] // 2
    made = pruned(model, x, y, job, job["epochs"] - half)
    made = preserving(made, tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme())
    fit(made, x, y, job, half)
    return made


def clustered(model, x, y, job, epochs, preserve=False):
    """Weight clustering with linear centroids."""
    extra = {"preserve_sparsity": True} if preserve else {}
    cluster = CLUSTERING.cluster_weights
    if preserve:
        from tensorflow_model_optimization.python.core.clustering.keras.experimental import (
            cluster as experimental,
        )

        cluster = experimental.cluster_weights
    made = cluster(
        model,
        number_of_clusters=job["clusters"],
        cluster_centroids_init=CLUSTERING.CentroidInitialization.KMEANS_PLUS_PLUS,
        **extra,
    )
    fit(made, x, y, job, epochs)
    return CLUSTERING.strip_clustering(made)


def cluster(model, x, y, job):
    """Clustering, then post-training quantisation."""
    return clustered(model, x, y, job, job["epochs"])


def cqat(model, x, y, job):
    """Clustering, then QAT that preserves clusters."""
    half = job["epochs"] // 2
    made = clustered(model, x, y, job, job["epochs"] - half)
    scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme()
    made = preserving(made, scheme)
    fit(made, x, y, job, half)
    return made


def pcqat(model, x, y, job):
    """Pruning, clustering that keeps zeros, then QAT that preserves both: a third each."""
    third = max(job["epochs"] // 3, 1)
    made = pruned(model, x, y, job, job["epochs"] - 2 * third)
    made = clustered(made, x, y, job, third, preserve=True)
    scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(
        preserve_sparsity=True
    )
    made = preserving(made, scheme)
    fit(made, x, y, job, third)
    return made


TECHNIQUES = {
    "ptq": plain,
    "finetune": finetune,
    "qat": qat,
    "prune": prune,
    "prune-qat": prune_qat,
    "pqat": pqat,
    "cluster": cluster,
    "cqat": cqat,
    "pcqat": pcqat,
}


def converted(model, calibration, job) -> bytes:
    """Full-integer int8 by TFLiteConverter, with a fixed batch of 1."""
    shape = (1, *model.inputs[0].shape[1:])
    run = tf.function(lambda image: model(image, training=False))
    concrete = run.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if "qat" not in job["technique"]:
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


if __name__ == "__main__":
    main()
