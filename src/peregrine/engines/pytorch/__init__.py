"""The PyTorch engine. `engine.py` is its door, `train.py` the loop, `graph.py` the model around a network."""
