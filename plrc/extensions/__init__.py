"""The place for losses, region sources, scores, backbones and data layouts of your own: see CONTRIBUTING."""
