"""One file per network, each with the same four names.

Options         a frozen table of the recipe: the keys of `[model]` beyond `name`
smallest_input  (options) -> int: the smallest side of an image, in pixels
resolve         (options, images) -> Options: what `auto` comes to, given a sample of the training images, uint8 NHWC
build           (options, image_size, class_count) -> Network: with fresh weights from the global generator

`base.Network` has what else a network may say: how pixels are standardised, what comes from the data or a file before
the first step, what changes from step to step, and how it is folded for deployment.
"""
