"""Training: a configuration and a token store enter, a run folder with the trained model leaves."""
