"""One file per network, each with the same three names.

Options         a frozen table of the recipe: the keys of `[model]` beyond `name`
smallest_input  (options) -> int: the smallest side of an image, in pixels
build           (options, images, class_count) -> logits: from normalised float pixels `(N, H, W, 3)` to `(N, C)`, both
                symbolic Keras tensors, with built-in layers alone, so that a saved model opens anywhere
"""
