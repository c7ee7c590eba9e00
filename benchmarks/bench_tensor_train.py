"""The tensor-train fusion contracted factor by factor, against the same cores on the outer product of 129³."""

from interleaved import medians

from merlb_model.nn import keras, tf
from merlb_model.nn.tensor_train import TensorTrainFusion

BATCH = 32
WIDTH = 128


def materialised(layer: TensorTrainFusion, vectors: list[tf.Tensor]) -> tf.Tensor:
    """The published way: form the outer product, then contract it core by core."""
    one, two, three = (tf.concat([tf.ones_like(vector[:, :1]), vector], axis=1) for vector in vectors)
    outer = tf.einsum("bi,bj,bk->bijk", one, two, three)
    rest = tf.reshape(outer, (BATCH, 1, *layer.input_modes))
    for core in layer.cores:
        # [b, rank, mode, further modes…, outputs so far] with the core: the mode and its rank go, an output comes.
        rest = tf.tensordot(rest, core, axes=[[1, 2], [0, 1]])
        axes = list(range(len(rest.shape)))
        rest = tf.transpose(rest, [0, axes[-1], *axes[1:-1]])
    return tf.reshape(rest, (BATCH, -1))


def main() -> None:
    keras.utils.set_random_seed(7)
    layer = TensorTrainFusion()
    vectors = [tf.random.normal((BATCH, WIDTH)) for _ in range(3)]
    layer(vectors)

    def step(answer: object) -> object:
        @tf.function(jit_compile=False)
        def forward_and_backward() -> object:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(answer(vectors) ** 2)
            return loss, tape.gradient(loss, layer.trainable_variables)

        return forward_and_backward

    factored, published = step(layer), step(lambda inputs: materialised(layer, inputs))
    (one, one_gradients), (two, two_gradients) = factored(), published()
    off = max(
        float(tf.norm(a - b) / tf.norm(b)) for a, b in zip([one, *one_gradients], [two, *two_gradients], strict=True)
    )
    fast, slow = medians(lambda: factored()[0].numpy(), lambda: published()[0].numpy(), rounds=7)
    print(f"tensor-train fusion, batch {BATCH}, forward and backward")
    print(
        f"  factor by factor {1000 * fast:.2f} ms, outer product {1000 * slow:.0f} ms: {slow / fast:.0f} times as fast"
    )
    print(f"  greatest relative difference of value and gradients {off:.1e}")


if __name__ == "__main__":
    main()
