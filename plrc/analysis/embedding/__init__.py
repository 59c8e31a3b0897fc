"""Embedding: the features of points, regions or whole images as a picture, as colours, as segments; and numbers for it.

``items`` gathers what is embedded, ``neighbour_embedding`` (t-SNE) and ``pca`` lay it out, ``kmeans`` cuts images into
segments, ``quality`` says how far the picture, and the features, can be trusted.

Everything here divides features by their lengths first, so that it is about the cosine, as the losses and the affinity
are. On one machine, with the same library versions, the same features give the same bits on every run, for any number
of threads: linear algebra runs on one thread, and what runs on several does not depend on how many. That begins at the
features: a network's forward may differ in the last bit between numbers of threads, and t-SNE enlarges that. Another
machine's linear algebra rounds differently, and its t-SNE is another picture of the same neighbourhoods.
"""

from plrc.analysis.embedding.items import Items, Labeller, gather_images, gather_points, gather_regions
from plrc.analysis.embedding.kmeans import Segments, assign, cluster_items, segments
from plrc.analysis.embedding.neighbour_embedding import Embedding, tsne
from plrc.analysis.embedding.pca import Basis, load_basis, pca_basis, project, save_basis, to_rgb
from plrc.analysis.embedding.quality import Purity, label_purity, neighbours_kept

__all__ = [
    "Basis",
    "Embedding",
    "Items",
    "Labeller",
    "Purity",
    "Segments",
    "assign",
    "cluster_items",
    "gather_images",
    "gather_points",
    "gather_regions",
    "label_purity",
    "load_basis",
    "neighbours_kept",
    "pca_basis",
    "project",
    "save_basis",
    "segments",
    "to_rgb",
    "tsne",
]
