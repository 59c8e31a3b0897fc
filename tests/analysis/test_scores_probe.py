"""plrc.analysis.scores.probe: what single cells' features know is found, else 0.5, and no image teaches itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from plrc.analysis.scores import values_of
from plrc.analysis.scores.probe import LinearProbe, probe_auc
from tests.analysis.maps import scored
from tests.analysis.test_scores_objects import annotation, ellipses, knows


def probed(maps: list[Tensor], masks: list[np.ndarray]) -> tuple[list[float], list[float], str]:
    images = [scored(i, [m], annotation=annotation(of)) for i, (m, of) in enumerate(zip(maps, masks, strict=True))]
    found = values_of(LinearProbe, images)["linear probe AUC"]
    return *found.columns, found.why


def test_features_that_know_objects_and_those_that_do_not():
    masks = ellipses(40)
    constant = torch.ones(1, 1, 32, 48)
    right, chance, _ = probed([torch.cat((knows(mask), constant), dim=1) for mask in masks], masks)
    assert np.mean(right) > 0.99
    assert chance == [0.5] * 40
    noise = torch.Generator().manual_seed(0)
    blind, _, _ = probed([torch.randn(1, 8, 32, 48, generator=noise) for _ in masks], masks)
    assert 0.45 < np.mean(blind) < 0.55
    alike, _, _ = probed([torch.ones(1, 3, 32, 48) for _ in masks], masks)
    assert alike == [0.5] * 40, "ties count as a half"


def test_the_foreground_is_all_objects():
    one, two = ellipses(20, seed=2), ellipses(20, seed=3)
    both = [np.concatenate(of) for of in zip(one, two, strict=True)]
    right, _, _ = probed([knows(of.any(axis=0, keepdims=True)) for of in both], both)
    assert np.mean(right) > 0.99


def test_a_direction_that_only_some_images_have_is_learnt_from_the_others():
    """Two kinds of images whose objects differ in sign: the probe of one half must fail where its own would not."""
    masks = ellipses(20, seed=1)
    signs = [1.0 if i % 2 else -1.0 for i in range(20)]  # even images are judged by odd ones
    wrong, _, _ = probed([knows(mask)[:, :1] * sign for mask, sign in zip(masks, signs, strict=True)], masks)
    assert np.mean(wrong) < 0.01


def test_the_ridge_is_that_of_the_textbook():
    cells = torch.randn(21, 16, 200, generator=torch.Generator().manual_seed(1)).half()
    x, asked = cells[1::2].double().numpy().reshape(-1, 200), cells[::2].double().numpy()
    mean, std = x.mean(axis=0), x.std(axis=0, ddof=1)
    x, y = (x - mean) / std, np.tile(np.repeat([1.0, -1.0], 8), 10)
    weights = np.linalg.inv(x.T @ x + 0.01 * len(x) * np.eye(200)) @ x.T @ y
    ranked = ((asked - mean) / std) @ weights
    shares = [np.mean([float(a > b) for a in of[:8] for b in of[8:]]) for of in ranked]
    assert probe_auc(list(cells))[::2] == pytest.approx(shares)


def test_images_that_cannot_be_probed():
    masks = [np.zeros((1, 64, 96), bool), np.ones((1, 64, 96), bool), *ellipses(1)]
    alone, chance, why = probed([torch.ones(1, 2, 8, 12)] * 3, masks)
    assert (alone, chance) == ([], [0.5]), "one image has none to learn from"
    assert why == "no cell of the image is mostly an object's, or all are"
