"""What a config names, built and tried: data, device, model, loss, optimizer, and what users bring."""
