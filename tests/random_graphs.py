"""Random small models: whatever joins, spreads, reorders or shares channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graphs import settled

CURVES = ("relu", "sigmoid", "tanh", "hard_sigmoid", "leaky_relu", "linear")


class _Maker:
    """Draws layers for one model of ``rank`` spatial axes."""

    def __init__(self, seed: int) -> None:
        import keras

        self.rng = np.random.default_rng(seed)
        self.keras, self.layers = keras, keras.layers
        self.rank = int(self.rng.integers(1, 3))
        self.count = 0

    def layer(self, name: str, *args: Any, **options: Any) -> Any:
        self.count += 1
        kind = getattr(self.layers, name)
        return kind(*args, name=f"{name.lower()}_{self.count}", **options)

    def spatial(self, name: str, *args: Any, **options: Any) -> Any:
        return self.layer(f"{name}{self.rank}D", *args, **options)

    def some(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def conv(self, filters: int, size: int = 3, **options: Any) -> Any:
        options = {"padding": "same", "activation": self.some(*CURVES), **options}
        return self.spatial("Conv", filters, size, **options)

    def filters(self) -> int:
        return 2 * int(self.rng.integers(1, 4))

    def step(self, x: Any) -> Any:
        names = [name for name in dir(self) if name.startswith("do_")]
        return getattr(self, names[self.rng.integers(len(names))])(x)

    def do_conv(self, x: Any) -> Any:
        return self.conv(self.filters(), self.some(1, 3), use_bias=self.some(True, False))(x)

    def do_valid(self, x: Any) -> Any:
        return self.conv(self.filters(), 3, padding="valid")(x) if x.shape[1] > 3 else x

    def do_groups(self, x: Any) -> Any:
        groups = self.some(*[g for g in (1, 2, 3, 4) if x.shape[-1] % g == 0])
        return self.conv(groups * int(self.rng.integers(1, 3)), groups=groups)(x)

    def do_norm(self, x: Any) -> Any:
        x = self.layer("BatchNormalization", scale=self.some(True, False))(x)
        return self.layer("Activation", self.some(*CURVES))(x)

    def do_depthwise(self, x: Any) -> Any:
        times = self.some(1, 1, 2)
        return self.spatial("DepthwiseConv", 3, padding="same", depth_multiplier=times)(x)

    def do_separable(self, x: Any) -> Any:
        times = self.some(1, 2)
        made = self.spatial(
            "SeparableConv", self.filters(), 3, padding="same", depth_multiplier=times
        )
        return made(x)

    def do_transposed(self, x: Any) -> Any:
        stride = 1 if x.shape[1] > 6 else 2
        return self.layer(f"Conv{self.rank}DTranspose", self.filters(), 3, stride, "same")(x)

    def do_dense(self, x: Any) -> Any:
        return self.layer("Dense", self.filters(), activation=self.some(*CURVES))(x)

    def do_residual(self, x: Any) -> Any:
        y = self.conv(self.filters())(x)
        y = self.conv(x.shape[-1], activation="linear")(y)
        name = self.some("Add", "Subtract", "Average", "Maximum", "Multiply")
        return self.layer(name)([x, y])

    def do_branches(self, x: Any) -> Any:
        parts = [self.conv(self.filters(), 1)(x), self.conv(self.filters())(x)]
        return self.layer("Concatenate")([*parts, x] if self.some(True, False) else parts)

    def do_stacked(self, x: Any) -> Any:
        """Concatenated in space: the channels are tied."""
        if x.shape[1] > 8:
            return x
        return self.layer("Concatenate", axis=1)([self.conv(x.shape[-1])(x), x])

    def do_squeeze(self, x: Any) -> Any:
        y = self.spatial("GlobalAveragePooling", keepdims=self.some(True, False))(x)
        y = self.layer("Dense", 2, activation="relu")(y)
        y = self.layer("Dense", x.shape[-1], activation="sigmoid")(y)
        if len(y.shape) < len(x.shape):
            y = self.layer("Reshape", (1,) * self.rank + (x.shape[-1],))(y)
        return self.layer("Multiply")([x, y])

    def do_gate(self, x: Any) -> Any:
        """One channel spread over all others."""
        return self.layer("Multiply")([x, self.conv(1, 1)(x)])

    def do_pool(self, x: Any) -> Any:
        if x.shape[1] < 4:
            return x
        return self.spatial(self.some("MaxPooling", "AveragePooling"), 2, padding="same")(x)

    def do_pad(self, x: Any) -> Any:
        x = self.spatial("ZeroPadding", 1)(x)
        return self.spatial("SpatialDropout", 0.3)(self.conv(4, padding="valid")(x))

    def do_prelu(self, x: Any) -> Any:
        shared = self.some(None, list(range(1, self.rank + 1)))
        return self.layer("PReLU", alpha_initializer="random_normal", shared_axes=shared)(x)

    def do_twice(self, x: Any) -> Any:
        """A layer used twice, and its norm."""
        twin = self.conv(x.shape[-1])
        norm = self.layer("BatchNormalization")
        return norm(twin(norm(twin(x))))

    def do_nested(self, x: Any) -> Any:
        given = self.keras.Input(x.shape[1:])
        y = self.conv(self.filters())(given)
        inner = self.keras.Model(given, [y, self.conv(y.shape[-1])(given)])
        return self.layer("Add")(inner(x))

    def do_operations(self, x: Any) -> Any:
        return self.keras.ops.relu(x * 2.0 + 0.5) - x

    def do_unknown(self, x: Any) -> Any:
        return self.some(
            self.layer("LayerNormalization"), self.layer("Softmax"), self.keras.ops.flip
        )(x)

    def do_flat_rows(self, x: Any) -> Any:
        """Positions in one axis and back."""
        y = self.layer("Reshape", (-1, x.shape[-1]))(x)
        y = self.layer("Dense", self.filters())(y)
        return self.layer("Reshape", (*x.shape[1:-1], y.shape[-1]))(y)

    def head(self, x: Any) -> Any:
        way = self.some("flat", "mean", "max", "turned")
        if way == "flat":
            return self.layer("Flatten")(x)
        if way == "turned":
            turn = self.some((2, 1, 3), (3, 1, 2)) if self.rank == 2 else (2, 1)
            return self.layer("Flatten")(self.layer("Permute", turn)(x))
        return self.spatial("GlobalAveragePooling" if way == "mean" else "GlobalMaxPooling")(x)

    def model(self) -> Any:
        shape = (8,) if self.rank == 1 else (6, 6)
        image = self.keras.Input((*shape, 3), name="image")
        inputs, outputs, x = [image], [], self.conv(self.filters())(image)
        for _ in range(self.rng.integers(2, 6)):
            x = self.step(x)
        if self.some(True, False, False):
            outputs.append(self.conv(2)(x))
        if self.some(True, False, False, False, False):
            outputs.append(x)
        flat = self.head(x)
        if self.some(True, False):
            inputs.append(self.keras.Input((5,), name="about"))
            about = self.layer("Dense", self.filters(), activation="relu")(inputs[-1])
            flat = self.layer("Concatenate")([flat, about])
        hidden = self.layer("Dense", 6, activation=self.some(*CURVES))(flat)
        hidden = self.layer("Dropout", 0.3)(self.layer("BatchNormalization")(hidden))
        outputs.append(self.layer("Dense", 3, activation="softmax")(hidden))
        return self.keras.Model(inputs, outputs)


def random_model(seed: int) -> Any:
    """The model that ``seed`` draws."""
    import keras

    keras.utils.set_random_seed(seed)
    return settled(_Maker(seed).model(), seed)
