"""What is done with a trained dictionary: its features and their pages, and what its reconstruction costs a model."""
