"""plrc.files: a file is whole or not there, and an error names it."""

import tempfile
from pathlib import Path

import pytest

from plrc.files import at_home, cache_folder, written_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_at_the_end_and_stays_as_it_was_after_an_error(tmp_path, durable):
    file = tmp_path / "a" / "x.txt"
    with written_whole(file, durable) as unfinished:
        unfinished.write_text("first")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), written_whole(file, durable) as unfinished:
        1 / unfinished.write_text("")
    assert file.read_text() == "first"
    assert list(file.parent.iterdir()) == [file]


def test_two_may_write_at_once(tmp_path):
    file = tmp_path / "x.txt"
    with written_whole(file) as ours:
        ours.write_text("ours")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.getpid", lambda: 1)
            with written_whole(file) as theirs:
                theirs.write_text("theirs")
        assert file.read_text() == "theirs"
    assert file.read_text() == "ours"


def test_an_error_names_the_file_itself(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "taken" / "x.txt", tmp_path / "folder"):
        with pytest.raises(OSError, match=f"{file}'$"), written_whole(file) as unfinished:
            unfinished.write_text("x")


def test_an_error_of_what_is_read_meanwhile_names_that(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, written_whole(tmp_path / "x.txt") as unfinished:
        unfinished.write_bytes((tmp_path / "image.png").read_bytes())
    assert Path(caught.value.filename) == tmp_path / "image.png"


def test_the_cache_is_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("regions") == tmp_path / "plrc" / "regions"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("regions") == Path.home() / ".cache" / "plrc" / "regions"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home
    assert cache_folder("regions") == Path(tempfile.gettempdir(), "plrc", "regions")


def test_a_tilde_is_the_home_where_it_means_one():
    assert at_home("~/photos") == Path.home() / "photos"
    assert at_home("~1.jpg") == Path("~1.jpg"), "there is no user 1.jpg"
