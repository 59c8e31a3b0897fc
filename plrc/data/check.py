"""``plrc check``: what is wrong with data, before anything is trained on them, by the readers that training uses."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from plrc.data.annotated import BoxFiles, layout_of, open_annotated
from plrc.data.images import LONGEST, UndecodableImage, printable
from plrc.data.sources import ImageFiles, ImageFolder, Source, too_many_undecodable
from plrc.files import written_whole
from plrc.queries import Check

_NAMED = 5  # of a finding, in its line
_SMALL = 32  # pixels of a short side: below, a picture shows a network little
REFUSED = "refused"
Finding = tuple[str, str, str]  # what, of which file or entry, details


def check(query: Check) -> int:
    """Print what was found in each data set, and write the table; the exit status, 1 if training would refuse one."""
    rows = list[tuple[str, ...]]()
    for path in query.data:
        found = defaultdict[str, list[tuple[str, str]]](list)
        try:
            source = open_annotated(path)
            print(f"{path}: {len(source)} images {layout_of(source)}")
            for what, entry, details in findings(source):
                found[what].append((entry, details))
            if too_many := too_many_undecodable(len(found.get("cannot be decoded", ())), len(source)):
                found[REFUSED].append((path, f"training would stop: {too_many}"))
        except (ValueError, OSError) as error:
            print(f"{path}:")
            found[REFUSED].append((path, " ".join(str(error).split())))
        width = max(map(len, found), default=0)
        for what, entries in found.items():
            named = "; ".join(printable(f"{entry}: {more}" if more else entry) for entry, more in entries[:_NAMED])
            print(f"  {what:{width}}  {len(entries):6}  {named}{' …' * (len(entries) > _NAMED)}")
            rows += [(path, what, entry, more) for entry, more in entries]
        if not found:
            print("  nothing is wrong")
    if query.out:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("data", "finding", "entry", "details"), *rows])
        with written_whole(Path(query.out)) as unfinished:
            unfinished.write_bytes(text.getvalue().encode(errors="surrogateescape"))
        print(f"written: {query.out}")
    return int(any(what == REFUSED for _, what, _, _ in rows))


def findings(source: Source) -> Iterator[Finding]:
    """What the reader left out, and what is unusual about each image; decodes all of them."""
    if isinstance(source, ImageFiles):
        for what, entries in source.notes.items():
            yield from ((f"left out: {what}", entry, "") for entry in entries)
    if isinstance(source, ImageFolder):
        left_out = source.left_out.most_common()
        yield from (("no image by its name", suffix or "no suffix", f"{n} files") for suffix, n in left_out)
    first = dict[bytes, str]()  # content → the image that has it
    for i in tqdm(range(len(source)), unit="image", disable=None, leave=False):
        name = source.name(i)
        try:
            width, height = source.load(i).size
            if max(width, height) > LONGEST * min(width, height) or min(width, height) < _SMALL:
                yield "extreme shape", name, f"{width} × {height}"
            if isinstance(source, BoxFiles):
                source.pixel_boxes(i)
            else:
                source.annotation(i)
        except UndecodableImage as error:
            yield "cannot be decoded", name, error.reason
            continue
        except ValueError as error:
            yield REFUSED, name, str(error)
        if isinstance(source, ImageFiles):
            with suppress(OSError):
                content = hashlib.sha256(source.path(i).read_bytes()).digest()
                if (other := first.setdefault(content, name)) != name:
                    yield "same file", name, f"as {other}"
