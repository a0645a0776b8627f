"""LoRA adapters folded into their base model."""
