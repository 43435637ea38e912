"""One file per network, with the same three names, and more where it has something to say to the question.

Options         a frozen table of the recipe: the keys of `[model]` beyond `name`
smallest_input  (options) -> int: the smallest side of an image, in pixels
build           (options, images, class_count) -> logits: from normalised float pixels `(N, H, W, 3)` to `(N, C)`, both
                symbolic Keras tensors, with built-in layers alone, so that a saved model opens anywhere

resolve         (options, images) -> Options: what `auto` comes to, given a sample of the training images, uint8
fit             (options, model, images): what is taken from the training images, or from a file, before the first step
phases          (options) -> tuple[Phase, ...]: what learns when, where not everything learns always
ANY_SIZE        True where the layers take images of every size, so that a run can begin with smaller ones
TAKES_PIXELS    True where the network wants pixels 0..255 and normalises them itself
"""
