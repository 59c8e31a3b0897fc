"""What a detector finds in the pictures of a data set, computed by all ranks together."""

from __future__ import annotations

from typing import Any

import torch
from tqdm import tqdm

from plrc.detection.data import DetectionData
from plrc.detection.detector import Detector
from plrc.detection.examples import Examples, make_loader, to_original
from plrc.detection.order import evaluation_order
from plrc.detection.run_lengths import masks_to_rle
from plrc.detection.target import Detections
from plrc.distributed import World, gather_objects


@torch.no_grad()
def predict(
    detector: Detector, data: DetectionData, short_side: int, longest: int, here: World, workers: int
) -> list[dict[str, Any]]:
    """Detections in COCO's format, boxes in pixels of the original pictures; on rank 0, none on others.

    Each picture goes through the network alone and in fp32, so that neither padding nor the number of ranks nor the
    kind of GPU changes anything.

    Args:
        short_side, longest: of the input, pixels. workers: loading processes of this rank.
    """
    examples = Examples(data, [short_side], longest, training=False)
    order = evaluation_order(len(data), 1, here.rank, here.size)
    detector.eval()
    mine: list[tuple[int, list[dict[str, Any]]]] = []
    bar = tqdm(total=len(order), unit="picture", desc="testing", disable=None if here.is_main else True, leave=False)
    with bar:
        for batch in make_loader(examples, order, workers, here.device):
            [found] = detector([image.to(here.device, non_blocking=True) for image in batch.images])
            height, width = batch.images[0].shape[1:]
            index, original = batch.indices[0], batch.original_sizes[0]
            mine.append((index, _results(found.to("cpu"), (width, height), original, index, data)))
            bar.update()
    everyone = [item for part in gather_objects(mine) for item in part]
    return [result for _, results in sorted(everyone, key=lambda item: item[0]) for result in results]


def _results(
    found: Detections, size: tuple[int, int], original: tuple[int, int], index: int, data: DetectionData
) -> list[dict[str, Any]]:
    boxes = to_original(found.boxes.float(), size, original)
    masks = None if found.masks is None else masks_to_rle(found.masks, boxes, *original)
    results: list[dict[str, Any]] = []
    for k, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        result: dict[str, Any] = {
            "image_id": data.image_ids[index],
            "category_id": data.category_ids[int(found.labels[k])],
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(float(found.scores[k]), 6),
        }
        if masks is not None:
            result["segmentation"] = masks[k]
        results.append(result)
    return results
