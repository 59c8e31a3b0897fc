"""The colours that grounds and objects wear, as linear light."""

from __future__ import annotations

import numpy as np


def _linear(colours: str) -> np.ndarray:
    """'rrggbb rrggbb …' → (n, 3) linear light in [0, 1] (gamma taken as 2)."""
    return np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours.split()], np.float32) ** 2 / 65025


_GROUNDS = {
    "wood": ("3a2216 b07a48 8a4f2a", "6d5a4a cbb79c 9c8a76", "1f1512 6b4630 402318", "8f8a84 d8d4cc b0a090"),
    "weave": ("2b3a55 7f93b0 b04a3a", "7a6a55 d8c9ae a05a48", "4a1f24 b0685c d0b080", "30403a 8aa08c c8b878"),
    "grass": ("14260c 6f9a35 a9a24a", "2a2a10 a39a55 6f7a30", "0e2418 4f8a4a 8ab060"),
    "pebbles": ("2a2826 a8a29a 8a6a55", "1f2428 7f8c94 a89a86", "3a2a20 c4a888 8a8a90"),
    "gravel": ("3f3c38 b4aea4 a07a60", "2c3034 8e979c 6a5a50", "5a4030 cda582 9a9a98"),
    "sand": ("8a6a45 dcc096 b89468", "9a8c7c e2d6c4 c0ac94", "6a4a34 c08a5c 9a6844"),
    "water": ("0c3a48 6fb8b4 2a7a80", "12305a 7aa6cc 3a6aa0", "1f4a3a 8fc0a0 4a8a68"),
    "plaster": ("8a8680 cfcac0 b8a894", "6a7a80 b4c2c4 90a0a4", "a0765c dcb494 c49a78", "4c5244 9aa08a 7a7a60"),
    "marble": ("4a4a50 e0dcd6 b0a090", "1c2a26 6a8a7a b0b8a0", "2a2426 8a6a66 c8a890"),
    "fur": ("2e1e14 a67c52 d8b890", "4a4644 b8b2aa 807468", "1a1a1e 6a6468 40383a"),
    "tiles": ("5a2a1c b8654a d09a70", "54606a b4c0c4 8aa0a8", "6a6050 cfc4ac a89878"),
    "clouds": ("3a3f4a a6a8a8 8a7868", "5a4650 c8a8a0 a08890", "2a4048 8ab0b0 c0b8a0"),
}
_COATS = (
    "a8322a c8643a d89a4a d8c070 8a9a3a 4a7a3a 2f5a44 3f8a8a 3a6a9a 2f3f7a 5f4a8a 8f4a7a c87a8a e0b8a0 e4dcc8 "
    "b0a898 7a7068 4a443e 2a2a2e 6a4028 94683e c49a6a 708a9a a8c0c4"
)

# Of a ground of each material, several moods: (3, 3), its dark, light and accent colour.
MOODS = {material: [_linear(colours) for colours in moods] for material, moods in _GROUNDS.items()}

# (n, 3): what an object may wear; some borrow the ground's colours instead, so that colour does not give them away.
WARDROBE = _linear(_COATS)
