"""Reading perceptrons from files: numpy, torch, safetensors, ONNX (see `reading.read_network`).

Nothing is imported here, so that a path can be refused without loading torch.
"""
