"""What people do with a trained model: name it, hold it, look at it, explore it, audit it, give it away."""
