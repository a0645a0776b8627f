"""Fine-tuning: the experiment's options, the methods, the run and its folder."""
