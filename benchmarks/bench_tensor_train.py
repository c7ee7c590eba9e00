"""The tensor-train fusion contracted factor by factor, against the same cores on the outer product of 129³.

Both go forward and back, to the cores and to the three vectors. A step of the factored way is short beside what it
costs to call a compiled function from Python, which training pays once for the whole network: steps are timed within
a compiled loop, and called one by one beside it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from interleaved import medians
from original_networks import materialised

from merlb_model.nn import keras, tf
from merlb_model.nn.tensor_train import TensorTrainFusion

BATCH = 32
WIDTH = 128
BLOCK = 100
_VIEWS = {"Const", "Identity", "Placeholder", "ReadVariableOp", "Reshape"}
"""Operations that make no activation of their own: weights, constants, other shapes of the same bytes."""

Answer = Callable[[Sequence[tf.Tensor]], tf.Tensor]


def forward_and_backward(layer: TensorTrainFusion, answer: Answer) -> Callable[..., Any]:
    """A compiled function: steps and three vectors → the last step's loss and gradients by the vectors and the cores.

    Each step takes the vectors a trifle down their gradients, so that none is left out as a repetition.
    """

    @tf.function(jit_compile=False)
    def run(steps: tf.Tensor, *vectors: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        loss, gradients = tf.constant(0.0), [tf.zeros_like(each) for each in (*vectors, *layer.cores)]
        for _ in tf.range(steps):
            vectors = tuple(vector - 1e-6 * gradient for vector, gradient in zip(vectors, gradients[:3], strict=True))
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                loss = tf.reduce_sum(answer(vectors) ** 2)
            gradients = tape.gradient(loss, [*vectors, *layer.trainable_variables])
        return loss, gradients

    return run


def activation_bytes(answer: Answer) -> int:
    """Bytes of all tensors that a pass forward makes, by their shapes: merged cores too."""
    specs = [tf.TensorSpec((BATCH, WIDTH))] * 3
    graph = tf.function(lambda *vectors: answer(vectors)).get_concrete_function(*specs).graph
    made = [tensor for each in graph.get_operations() if each.type not in _VIEWS for tensor in each.outputs]
    return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in made if tensor.dtype == tf.float32)


def main() -> None:
    keras.utils.set_random_seed(7)
    layer = TensorTrainFusion()
    vectors = [tf.random.normal((BATCH, WIDTH)) for _ in range(3)]
    layer(vectors)
    ways: list[Answer] = [layer, lambda inputs: materialised(layer, inputs)]
    factored, published = (forward_and_backward(layer, way) for way in ways)
    once, often = tf.constant(1), tf.constant(BLOCK)
    (one, one_gradients), (two, two_gradients) = factored(once, *vectors), published(once, *vectors)
    off = max(
        float(tf.norm(a - b) / tf.norm(b)) for a, b in zip([one, *one_gradients], [two, *two_gradients], strict=True)
    )

    def calls() -> None:
        for _ in range(BLOCK):
            factored(once, *vectors)[0].numpy()

    looped, called, slow = medians(
        lambda: factored(often, *vectors)[0].numpy(), calls, lambda: published(once, *vectors)[0].numpy(), rounds=7
    )
    small, large = map(activation_bytes, ways)
    print(
        f"tensor-train fusion at {WIDTH + 1}³, batch {BATCH}, forward and backward: outer product {1000 * slow:.0f} ms"
    )
    for name, taken in (("within a compiled loop", looped / BLOCK), ("called one by one", called / BLOCK)):
        print(f"  factor by factor {1000 * taken:.2f} ms {name}: {slow / taken:.0f} times as fast")
    print(f"  activations {small / 1e6:.2f} MB against {large / 1e6:.0f} MB: 1/{large / small:.0f} by their shapes")
    print(f"  greatest relative difference of value and gradients {off:.1e}")


if __name__ == "__main__":
    main()
