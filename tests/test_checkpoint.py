"""Checkpoints: whole or not at all, and nothing in a file is ever executed."""

import pickle
import random
import resource
import threading
import zipfile

import pytest
import torch

from plrc import checkpoint
from plrc.checkpoint import load_checkpoint, newest_whole, save_checkpoint
from tests.hostile import Payload

CONTENT = {
    "step": 3,
    "epoch": 0.5,
    "ranks": 2,
    "config": {"lr": 0.1},
    "model": {"w": torch.arange(4.0)},
    "optimizer": {},
}


def test_files_that_are_no_checkpoint_of_ours_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint .*nowhere\.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")
    save_checkpoint(tmp_path / "broken.pt", CONTENT)
    (tmp_path / "broken.pt").write_bytes((tmp_path / "broken.pt").read_bytes()[:500])
    (tmp_path / "junk.pt").write_text("junk")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    torch.save({"format": "plrc", "version": 99}, tmp_path / "newer.pt")
    for name, message in (
        ("broken", "cannot be read as a checkpoint"),
        ("junk", "cannot be read as a checkpoint"),
        ("foreign", "is not a checkpoint of a PLRC run"),
        ("newer", "was written by a newer version"),
    ):
        with pytest.raises(ValueError, match=rf"{name}\.pt {message}"):
            load_checkpoint(tmp_path / f"{name}.pt")


def test_a_file_that_tries_to_run_code_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "evil.pt"
    torch.save({"format": "plrc", "version": 1, "x": Payload()}, evil)
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read"):
        load_checkpoint(evil)
    evil.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read"):
        load_checkpoint(evil)
    assert not (tmp_path / "executed").exists()


def test_a_flipped_byte_is_found_before_use_and_the_newest_whole_checkpoint_named(tmp_path, capsys):
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "last.pt", {**CONTENT, "epoch": epoch}, also=tmp_path / f"epoch_000{epoch}.pt")
    save_checkpoint(tmp_path / "last.pt", {**CONTENT, "step": 4})
    assert newest_whole(tmp_path).name == "last.pt"

    def flip(name: str) -> None:
        with zipfile.ZipFile(tmp_path / name) as archive:
            [at] = [part.header_offset for part in archive.infolist() if part.filename.endswith("data/0")]
        content = bytearray((tmp_path / name).read_bytes())
        content[content.index(CONTENT["model"]["w"].numpy().tobytes(), at) + 4] ^= 1
        (tmp_path / name).write_bytes(content)

    flip("last.pt")
    with pytest.raises(ValueError, match=r"last\.pt cannot be read as a checkpoint, it is damaged.*data/0"):
        load_checkpoint(tmp_path / "last.pt")
    assert newest_whole(tmp_path).name == "epoch_0002.pt"
    assert "data/0 in it is not what was written): going on from epoch_0002.pt" in capsys.readouterr().err
    flip("epoch_0002.pt")
    (tmp_path / "last.pt").unlink()
    assert newest_whole(tmp_path).name == "epoch_0001.pt"
    (tmp_path / "epoch_0001.pt").write_bytes(b"")
    save_checkpoint(tmp_path / "epoch_10000.pt", CONTENT)
    save_checkpoint(tmp_path / "epoch_9999.pt", CONTENT)
    assert newest_whole(tmp_path).name == "epoch_10000.pt"
    for epoch in (10000, 9999):
        (tmp_path / f"epoch_{epoch}.pt").unlink()
    with pytest.raises(ValueError, match=r"last\.pt cannot be used \(there is none\), and no other is whole: restore"):
        newest_whole(tmp_path)


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path):
    """A limit of the file size stands for it: the write fails in the same place, with another number."""
    save_checkpoint(tmp_path / "last.pt", CONTENT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        told = r"File too large, it takes 262,144 bytes, [\d,]+ are free here; the checkpoint .* whole: .*last\.pt"
        with pytest.raises(OSError, match=told):
            save_checkpoint(tmp_path / "last.pt", {**CONTENT, "model": {"w": torch.zeros(1 << 16)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


def test_what_is_written_beside_the_training_is_the_state_at_that_moment(tmp_path, monkeypatch):
    started, go = threading.Event(), threading.Event()

    def slowly(file, content, **how):
        started.set()
        assert go.wait(10)
        save_checkpoint(file, content, **how)

    monkeypatch.setattr(checkpoint, "save_checkpoint", slowly)
    weight, moment = torch.arange(4.0), torch.zeros(4)
    state = {**CONTENT, "model": {"w": weight}, "optimizer": {"state": {0: {"exp_avg": moment}}, "param_groups": []}}
    with checkpoint.Writer() as writer:
        writer.save(tmp_path / "last.pt", state)
        started.wait(10)
        weight.zero_()
        moment.fill_(7)
        assert not (tmp_path / "last.pt").exists()
        go.set()
    found = load_checkpoint(tmp_path / "last.pt")
    assert found["model"]["w"].tolist() == [0, 1, 2, 3]
    assert found["optimizer"]["state"][0]["exp_avg"].tolist() == [0] * 4


def test_a_write_that_failed_is_told_by_the_next_one_and_at_the_end(tmp_path):
    (tmp_path / "file").touch()
    writer = checkpoint.Writer()
    writer.save(tmp_path / "file" / "last.pt", CONTENT)
    with pytest.raises(OSError, match="file"):
        writer.save(tmp_path / "last.pt", CONTENT)
    with pytest.raises(OSError, match="file"), writer:
        pass


def test_one_flipped_bit_never_changes_what_is_read(tmp_path):
    """Anywhere in the file: it is refused, or it was in what nobody reads."""
    rng, file = random.Random(0), tmp_path / "last.pt"
    content = {**CONTENT, "model": {"w": torch.arange(400.0), "queue": torch.rand(20, 16)}}
    save_checkpoint(file, content)
    whole, refused = file.read_bytes(), 0
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            found = load_checkpoint(file)
        except ValueError:
            refused += 1
        else:
            assert all(torch.equal(found["model"][name], tensor) for name, tensor in content["model"].items())
            assert {**found, "model": 0} == {**content, "format": "plrc", "version": 1, "model": 0}
    assert refused > 100
    marked = bytearray(whole)
    marked[whole.rindex(b"/data/0") - len("archive") - 8] ^= 16  # as a folder, in the archive's directory
    file.write_bytes(marked)
    with pytest.raises(ValueError, match=r"data/0 in it is not what was written"):
        load_checkpoint(file)
