"""The TensorFlow engine. Its files take `tf` and `keras` from `library`, which sets them up first."""
