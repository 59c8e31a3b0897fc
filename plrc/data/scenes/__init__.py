"""Demo scenes: painted pictures of objects lying on textured ground, with exact instance masks (ours, not the paper's).

A scene is a pure function of (seed, index): objects are signed-distance silhouettes raised to a height field, clothed
in noise textures and lit by one lamp. Nothing is read from disk, so a demo or a test needs no data set. All lengths
are in units of the picture's short side, so that one composition can be drawn at any size.
"""

from plrc.data.scenes.source import Scenes

__all__ = ["Scenes"]
