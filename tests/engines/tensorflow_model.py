"""A model of TensorFlow as an ONNX graph, with what TensorFlow itself answers: writes `tests/data/onnx/tensorflow`.

    python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 msgspec
    PYTHONPATH=src:. /tmp/tf/bin/python -m tests.engines.tensorflow_model

TensorFlow is half a gigabyte, so no test installs it; the graph and the answers are kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from open_autoglm.engines.model_folder import write_manifest

FOLDER = Path(__file__).parents[1] / "data" / "onnx" / "tensorflow"
ROWS = (1, 5)


def main() -> None:
    import tensorflow as tf
    import tf2onnx

    source = np.random.default_rng(1)
    hidden = tf.Variable(source.normal(size=(6, 16)).astype("float32"))
    output = tf.Variable(source.normal(size=(16, 3)).astype("float32"))
    signature = [tf.TensorSpec([None, 6], tf.float32, "features"), tf.TensorSpec([None, 1], tf.float32, "scale")]

    @tf.function(input_signature=signature)
    def classify(features, scale):
        logits = tf.matmul(tf.nn.relu(tf.matmul(features * scale, hidden)), output)
        return {"scores": tf.nn.softmax(logits), "choice": tf.argmax(logits, axis=1)}

    FOLDER.mkdir(parents=True, exist_ok=True)
    tf2onnx.convert.from_function(classify, signature, opset=17, output_path=str(FOLDER / "model.onnx"))
    cases = []
    for rows in ROWS:
        features = source.normal(size=(rows, 6)).astype("float32")
        scale = source.uniform(0.5, 2, size=(rows, 1)).astype("float32")
        answer = classify(features, scale)
        cases.append(
            {"features": features.tolist(), "scale": scale.tolist()}
            | {name: tensor.numpy().tolist() for name, tensor in answer.items()}
        )
    (FOLDER / "answers.json").write_text(json.dumps(cases))
    write_manifest(FOLDER, "tensors", ["model.onnx"])


if __name__ == "__main__":
    main()
