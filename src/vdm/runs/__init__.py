"""The format of a run on disk: its folder, checkpoints, tables and exported models."""
