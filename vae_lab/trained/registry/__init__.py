"""A trained model given away, as ONNX in the MLflow model registry: it needs neither vae_lab nor PyTorch."""
