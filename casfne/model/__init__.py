"""The cascade: blocks, network, checkpoints, predictor."""
