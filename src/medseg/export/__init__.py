"""Models that leave PyTorch: ONNX, OpenVINO, TorchScript and a web page, each proven equal."""
