"""What the exports of large models share: layers, triplane fields, weights by name, and the files the server reads.

This folder has no `model.toml`, so the server doesn't take it for a model.
"""
