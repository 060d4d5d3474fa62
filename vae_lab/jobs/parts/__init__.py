"""What a config names, built and tried: data, device, number format, model, loss, optimizer, and what users bring."""
