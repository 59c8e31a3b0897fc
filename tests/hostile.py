"""Files as nobody wants them: damaged, odd, huge, evil, or no files at all; ``pictures`` and ``checkpoints``."""

import json
import os
import pickle
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from safetensors.torch import save

from tests.sets import H, W, noise

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
KINDS |= {"AVIF": "avif"} if features.check("avif") else {}


def stored(image: Image.Image, kind: str, **how: object) -> bytes:
    image.save(stream := BytesIO(), kind, **how)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """A grey PNG, its chunks before the pixels; by default without any."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = b"".join([*chunks, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + header + body


def pictures(folder: Path) -> dict[str, bool]:
    """Names → whether it is a picture, so that it has to be read; else either that or a sentence is right."""
    made, rng = dict[str, bool](), random.Random(0)

    def put(name: str | bytes, content: bytes, whole: bool = False) -> None:
        (folder / os.fsdecode(name)).write_bytes(content)
        made[os.fsdecode(name)] = whole

    files = {kind: stored(noise(), kind) for kind in KINDS}
    for kind, content in files.items():
        suffix = KINDS[kind]
        for length in (0, 1, 3, 8, 20, *(len(content) * share // 100 for share in (25, 50, 75, 99))):
            put(f"cut-{length}.{suffix}", content[:length])
        for seed in range(14):
            flipped = bytearray(content)
            for _ in range(1 + seed % 4):
                at = rng.randrange(min(len(content), 2000 if seed % 2 else 80))
                flipped[at] ^= 1 << rng.randrange(8)
            put(f"flipped-{seed}.{suffix}", bytes(flipped))
        put(f"really-{suffix}.{'png' if kind == 'JPEG' else 'jpg'}", content, whole=True)
        put(f"tail.{suffix}", content + bytes(1000), whole=True)
    others = {"text": b"hello", "page": b"<!doctype html><html>", "lfs": b"version https://git-lfs.github.com/spec"}
    others |= {"zip": b"PK\x03\x04" + bytes(60), "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"}
    others |= {"svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "zeros": bytes(4096), "elf": b"\x7fELF" + bytes(60)}
    others |= {"icns": b"icns\0\0\0\x10ic07\0\0\0\x08", "fits": b"SIMPLE  =                    T".ljust(80)}
    for name, content in others.items():
        put(f"{name}.jpg", content)

    for width, height in ((1, 1), (1, 5000), (5000, 1), (3, 4000), (20000, 20), (20, 20000)):
        put(f"shape-{width}x{height}.png", stored(noise(width, height), "PNG"), whole=True)
    for side in (30_000, 65_535, 2**31 - 1):  # a header that promises gigabytes
        put(f"bomb-{side}.png", png(side, side, pixels=bytes(9)))
    put("bomb-0.png", png(0, 0))
    put("bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + files["GIF"][13:])
    put("bomb.bmp", files["BMP"][:18] + struct.pack("<ii", 60_000, 60_000) + files["BMP"][26:])
    frame = files["JPEG"].index(b"\xff\xc0") + 5
    put("bomb.jpg", files["JPEG"][:frame] + struct.pack(">HH", 65_500, 65_500) + files["JPEG"][frame + 4 :])
    put("bomb.webp", files["WEBP"][:26] + struct.pack("<HH", 16_383, 16_383) + files["WEBP"][30:])
    for name, tag in (("size", 257), ("strip", 279), ("count", 273), ("bits", 258)):
        tiff, at = bytearray(files["TIFF"]), files["TIFF"].index(struct.pack("<H", tag), 8)
        tiff[at + 4 : at + 12] = struct.pack("<II", 2**31 - 1 if name == "count" else 1, 2**31 - 1)
        put(f"bomb-{name}.tif", bytes(tiff))
    text = zlib.compress(bytes(100 * 2**20))  # 100 MB of it
    row = bytes(W + 1) * H
    put("bomb-text.png", png(W, H, chunk(b"zTXt", b"a\0\0" + text), pixels=row))
    put("bomb-profile.png", png(W, H, chunk(b"iCCP", b"a\0\0" + text), pixels=row))
    put("bomb-texts.png", png(W, H, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000)))] * 80, pixels=row))
    put("more-pixels.png", png(W, H, pixels=bytes(50 * 2**20)))

    for kind, suffix in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif")):
        frames = [Image.new("RGB", (W, H), (k * 20, 90, 60)) for k in range(12)]
        content = stored(frames[0], kind, save_all=True, append_images=frames[1:])
        put(f"moving.{suffix}", content, whole=True)
        put(f"moving-cut.{suffix}", content[: len(content) * 2 // 3])
    grey = (np.arange(W * H) * 50).astype(np.uint16).reshape(H, W)
    put("grey16.png", stored(Image.fromarray(grey), "PNG"), whole=True)
    put("grey16.tif", stored(Image.fromarray(grey), "TIFF"), whole=True)
    put("float.tif", stored(Image.fromarray(np.where(grey % 7 == 0, np.nan, grey).astype(np.float32)), "TIFF"), True)
    for mode, kind in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("1", "PNG"), ("LA", "PNG"), ("P", "PNG")):
        image = noise().convert("RGB" if mode == "LAB" else mode)
        image = Image.frombytes("LAB", (W, H), image.tobytes()) if mode == "LAB" else image
        put(f"mode-{mode}-{kind}.{KINDS[kind]}", stored(image, kind), whole=mode != "LAB")
    for value in (*range(10), 255, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        put(f"turned-{value}.jpg", stored(noise(), "JPEG", exif=exif), whole=True)
    put("turned-junk.jpg", stored(noise(), "JPEG", exif=b"Exif\0\0" + rng.randbytes(500)), whole=True)
    for number, profile in enumerate((b"", b"junk", rng.randbytes(3000), bytes(200_000))):
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            put(f"profile-{number}.{KINDS[kind]}", stored(noise(), kind, icc_profile=profile), whole=True)

    names = ["new\nline", "tab\t", "quo'\"te", "\u202egpj", "\x1b[31mred", "<img src=x onerror=alert(1)>", "a#12"]
    names += ["b@key", "~1", "-dash", "*?[x]", "%2e%2e", "scenes#1", "💡" * 60, "é" * 100, "con", " space ", "a" * 251]
    for name in names:
        put(f"{name}.jpg", files["JPEG"], whole=True)
    put(b"latin-\xe9\xff.jpg", files["JPEG"], whole=True)
    put(b"latin-\xe9\xff-cut.jpg", files["JPEG"][:200])
    put("new\nline-cut.jpg", files["JPEG"][:200])

    links = {"loop": "loop.jpg", "ping": "pong.jpg", "pong": "ping.jpg", "dangling": "nothing", "zero": "/dev/zero"}
    for name, target in {**links, "upwards": "..", "null": "/dev/null"}.items():
        (folder / f"{name}.jpg").symlink_to(target)
        made[f"{name}.jpg"] = False
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "fifo.jpg")
    os.mknod(folder / "closed.jpg", 0)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # such an address has 108 bytes at most
        server.bind("socket.jpg")
        os.chdir(here)
    return made | dict.fromkeys(("folder.jpg", "fifo.jpg", "closed.jpg", "socket.jpg"), False)


class Payload:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function: Callable = os.mkdir, *arguments: str) -> None:
        self.call = function, arguments or ("executed",)

    def __reduce__(self) -> tuple:
        return self.call


def zipped(*parts: tuple[str, bytes], packed: bool = False, times: int = 1) -> bytes:
    """A zip archive; with ``times`` its last part is listed so often."""
    with zipfile.ZipFile(stream := BytesIO(), "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in parts:
            archive.writestr(name, content)
        archive.filelist += archive.filelist[-1:] * (times - 1)
    return stream.getvalue()


def torch_file(content: object, **how: object) -> bytes:
    torch.save(content, stream := BytesIO(), **how)
    return stream.getvalue()


def safetensors(header: object, length: int | None = None, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def checkpoints(folder: Path, network: dict[str, torch.Tensor]) -> list[str]:
    """Names of files that are no checkpoints, or damaged ones of a network, or want to run code or take all memory."""
    made, rng = list[str](), random.Random(0)

    def put(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        made.append(name)

    evil = {"model": network, "x": Payload()}
    evils = {f"pickle{n}": pickle.dumps({"model": {}, "x": Payload()}, n) for n in (2, 4, 5)}
    evils |= {"zip": torch_file(evil), "old": torch_file(evil, _use_new_zipfile_serialization=False)}
    for suffix in ("pth", "pt", "tar", "ckpt", "pkl", "bin", "safetensors"):
        for kind, content in evils.items():
            put(f"evil-{kind}.{suffix}", content)

    arrays = {name: tensor.numpy() for name, tensor in network.items()}
    kinds = {"pt": torch_file(network), "pth": torch_file(network, _use_new_zipfile_serialization=False)}
    kinds |= {"pkl": pickle.dumps({"model": arrays}, 4), "safetensors": save(network)}
    for suffix, content in kinds.items():
        for share in (0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 0.999):
            put(f"cut-{share}.{suffix}", content[: int(len(content) * share)])
        for seed in range(12):
            flipped = bytearray(content)
            for _ in range(1 + seed % 3):
                flipped[rng.randrange(len(content) if seed % 2 else 1000)] ^= 1 << rng.randrange(8)
            put(f"flipped-{seed}.{suffix}", bytes(flipped))

    nothing = pickle.dumps({}, 2)
    put("bomb-packed.pt", zipped(("a/data.pkl", nothing), ("a/data/0", bytes(450 * 2**20)), packed=True))
    put("bomb-overlap.pt", zipped(("a/data.pkl", nothing), ("a/data/0", bytes(2**20)), times=3000))
    huge = torch.ones(1).expand(12_000_000, 128, 1, 1)  # one number, said to be a billion
    for name in ("projector.0.weight", "layer1.0.conv1.weight", "fc.weight"):
        put(f"bomb-{name}.pt", torch_file({**network, name: huge}))
    for name, length in (("all", 2**64 - 1), ("tera", 2**40), ("hundred", 99 * 2**20), ("none", 0)):
        put(f"bomb-{name}.safetensors", safetensors({"w": {}}, length))
    whole = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    wrong = [{"shape": [2**40, 2**40]}, {"shape": [-1]}, {"shape": "x"}, {"dtype": "F7"}, {"data_offsets": [8, 0]}]
    wrong += [{"data_offsets": [0, 2**62]}, {"shape": [1.5]}, {"shape": [[2]]}, {"data_offsets": []}, {"dtype": None}]
    for number, part in enumerate(wrong):
        put(f"header-{number}.safetensors", safetensors({"w": {**whole, **part}}, data=bytes(8)))
    put("header-deep.safetensors", safetensors(b'{"w":' * 50_000))
    twice = b'"w":%b,' % json.dumps(whole).encode() * 2
    put("header-twice.safetensors", safetensors(b"{" + twice[:-1] + b"}", data=bytes(8)))

    size = 3 * 2**29  # 1.5 GB: it is there to be had, and is not to be asked for
    start, length, shape = b"\x80\x04", struct.pack("<q", size), b"(J" + struct.pack("<i", size) + b"t"
    opcodes = {"array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + shape + b"C\x01btR."}
    opcodes |= {"called": b"cnumpy\nndarray\n(" + shape + b"X\2\0\0\0u1tR."}
    opcodes |= {"made": b"cbuiltins\nbytes\n" + shape + b"R.", "bytearray": b"\x96" + length, "bytes": b"\x8e" + length}
    opcodes |= {"scalar": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x0b\0\0\0V1500000000tRtR."}
    opcodes |= {"text": b"\x8d" + length, "frame": b"\x95" + length}
    opcodes |= {"long": b"\x8b" + struct.pack("<i", 2**31 - 1), "memo": b"]r\xff\xff\xff\x7f."}
    opcodes |= {"deep": b"]" * 200_000 + b"a" * 199_999 + b".", "stack": b"(" * 10**5}
    for name, code in opcodes.items():
        put(f"opcode-{name}.pkl", start + code)
    laughs: object = {"a.weight": np.ones(1)}
    for _ in range(60):
        laughs = {"a": laughs, "b": laughs}  # two to the power of sixty, if each was looked at
    put("laughs.pkl", pickle.dumps({"model": laughs}))
    put("laughs.pt", torch_file({"model": laughs}))
    os.mkfifo(folder / "fifo.pt")
    (folder / "folder.pt").mkdir()
    (folder / "loop.pt").symlink_to("loop.pt")
    (folder / "zero.pt").symlink_to("/dev/zero")
    return [*made, "fifo.pt", "folder.pt", "loop.pt", "zero.pt"]
