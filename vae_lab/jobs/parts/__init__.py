"""What a config names, built and tried: data, device, number format, model, loss, and what users bring."""
