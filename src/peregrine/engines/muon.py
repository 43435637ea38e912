"""The numbers of Muon, the same on both engines; each has the steps in its own tensors."""

# The quintic of the Newton–Schulz iteration (kellerjordan.github.io/posts/muon): fast rather than exact, it drives
# every singular value to between about 0.7 and 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 3  # enough beside rescaled weights; airbench94
