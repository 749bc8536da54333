"""Publishing a folder: whole or not at all whenever the process is killed, by one process at a time, never over what is
the user's own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from routesim.reports.run.folder import RUN, RunFolder
from routesim.sim.errors import BadInput
from routesim.sim.files import write_text
from routesim.sim.folders import Kind, claimed, held, placing, publish_file, publishing, recover
from routesim.sim.model_folder import MODEL, ModelFolder
from tests.conftest import Command
from tests.kills import killed
from tests.small import Small, contents

PAIR = Kind("pair", ("left", "right", "deep"), mark="left")
SHARED = Kind("pair", ("left", "right", "deep"), shared=True)
def write_pair(folder: Path, text: str) -> None:
    """Two files and one below a folder, which belong together."""
    for name in ("left", "right", "deep/er"):
        write_text(folder / name, text)


def texts(folder: Path) -> set[str]:
    """What the files of a pair say: one text where they are of one making."""
    return {(folder / name).read_text(encoding="utf-8") for name in ("left", "right", "deep/er")}


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def publish(out: Path, text: str, kind: Kind = PAIR) -> None:
    with publishing(out, kind) as made:
        write_pair(made, text)


# --- killed at any instant


@pytest.mark.parametrize("kind", [PAIR, SHARED])
@pytest.mark.parametrize("earlier", [False, True])
def test_killed_at_every_instant(tmp_path: Path, kind: Kind, earlier: bool) -> None:
    for instant in range(200):
        out = tmp_path / str(instant) / "out"
        if earlier:
            publish(out, "old", kind)
            if kind.shared:
                write_text(out / "notes" / "mine.txt", "mine")
        lived = killed(lambda out=out: publish(out, "new", kind), tmp_path, instant)  # type: ignore[misc]
        recover(out)  # as whoever reads it does first
        assert out.exists() or not earlier
        if out.exists():
            assert texts(out) in ({"old"}, {"new"})
        with publishing(out, kind) as made:  # nothing is stuck, and nothing of the one that died stays
            assert not list(made.iterdir())
            write_pair(made, "again")
        assert texts(out) == {"again"}
        if earlier and kind.shared:
            assert (out / "notes" / "mine.txt").read_text(encoding="utf-8") == "mine"
        assert hidden(tmp_path / str(instant)) == []
        if lived:
            assert instant > 20  # the hook saw the work
            return
    pytest.fail("the work has no end")


def test_what_was_kept_is_gone_on_with_wherever_the_process_was_killed(tmp_path: Path) -> None:
    """Each of three steps keeps its result; no step that was kept is done again, and none is lacking in the end."""
    def work(out: Path, done: list[str]) -> None:
        with claimed(out, PAIR) as claim, claim.work("the same inputs") as folders:
            for name in ("left", "right", "deep/er"):
                kept = folders.kept / name.replace("/", "-")
                if not kept.exists():
                    write_text(folders.made / name, "new")
                    write_text(kept, "done")
                    done.append(name)

    resumed = set()
    for instant in range(200):
        out = tmp_path / str(instant) / "out"
        publish(out, "old")
        lived = killed(lambda out=out: work(out, []), tmp_path, instant)  # type: ignore[misc]
        done: list[str] = []
        work(out, done)
        assert texts(out) == {"new"}
        assert hidden(out.parent) == []
        resumed.add(len(done))
        if lived:
            assert resumed == {0, 1, 2, 3}
            return
    pytest.fail("the work has no end")


def test_other_inputs_begin_anew(tmp_path: Path) -> None:
    def begin() -> None:
        with claimed(tmp_path / "out", PAIR) as claim, claim.work("these") as folders:
            write_text(folders.kept / "first", "done")
            write_text(folders.made / "left", "of these")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert len(hidden(tmp_path)) == 1
    with claimed(tmp_path / "out", PAIR) as claim, claim.work("those") as folders:
        assert not list(folders.kept.iterdir())
        assert not list(folders.made.iterdir())
        write_pair(folders.made, "of those")
    assert texts(tmp_path / "out") == {"of those"}
    assert hidden(tmp_path) == []


def test_files_among_others_are_placed_together_wherever_the_process_was_killed(tmp_path: Path) -> None:
    def place(folder: Path, text: str) -> None:
        with placing(folder, "pair") as part:
            for name in ("left", "right"):
                write_text(part / name, text)

    for instant in range(200):
        folder = tmp_path / str(instant)
        place(folder, "old")
        write_text(folder / "mine.txt", "mine")
        lived = killed(lambda folder=folder: place(folder, "new"), tmp_path, instant)  # type: ignore[misc]
        with pytest.raises(KeyboardInterrupt), placing(folder, "pair"):
            raise KeyboardInterrupt
        assert len({(folder / name).read_text(encoding="utf-8") for name in ("left", "right")}) == 1
        assert sorted(path.name for path in folder.iterdir()) == ["left", "mine.txt", "right"]
        if lived:
            return
    pytest.fail("the work has no end")


def test_a_file_is_whole_wherever_the_process_was_killed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for instant in range(100):
        publish_file(page, b"old")
        lived = killed(lambda: publish_file(page, b"new"), tmp_path, instant)
        assert page.read_bytes() in (b"old", b"new")
        if lived:
            assert page.read_bytes() == b"new"
            publish_file(page, b"again")
            assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
            return
    pytest.fail("the work has no end")


def test_something_else_in_the_place_of_what_was_here_is_told(tmp_path: Path) -> None:
    """Between the two renames the process dies, and the user puts something there before the next start."""
    out = tmp_path / "out"
    publish(out, "old")
    for instant in range(200):
        killed(lambda: publish(out, "new"), tmp_path, instant)
        if not out.exists():
            break
    out.mkdir()
    write_text(out / "left", "mine")
    with pytest.raises(BadInput, match=r"now lies beside it as \.out\.") as told:
        publish(out, "again")
    assert (out / "left").read_text(encoding="utf-8") == "mine"
    old = next(name for name in str(told.value).split() if name.startswith(".out")).rstrip(";")
    assert texts(tmp_path / old) == {"old"}
    (out / "left").unlink()
    recover(out)  # an empty folder is nobody's
    publish(out, "again")
    assert texts(out) == {"again"}


# --- two writers


@contextmanager
def another_process(out: Path) -> Iterator[None]:
    """Another process that writes ``out`` meanwhile."""
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with held(out):
                os.write(ready[1], b".")
                os.read(done[0], 1)
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    try:
        yield
    finally:
        os.write(done[1], b".")
        os.waitpid(child, 0)
        for end in (*ready, *done):
            os.close(end)


def test_the_second_writer_ends_at_once(tmp_path: Path) -> None:
    publish(tmp_path / "out", "old")
    with another_process(tmp_path / "out"):
        for attempt in (lambda: publish(tmp_path / "out", "new"),
                        lambda: RunFolder(tmp_path / "out").write_page(lambda: "page")):
            with pytest.raises(BadInput, match="another process is writing it; wait until it is done"):
                attempt()
        publish(tmp_path / "other", "new")
    assert texts(tmp_path / "out") == {"old"}
    publish(tmp_path / "out", "new")
    assert texts(tmp_path / "out") == {"new"}
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("kind", ["run", "experiment", "calibrate", "history", "export", "check"])
def test_every_command_refuses_a_second_writer_before_it_works(small: Small, tmp_path: Path, command: Command,
                                                               kind: str) -> None:
    out = tmp_path / "out"
    words: dict[str, tuple[str | Path, ...]] = {
        "run": ("run", small.write(tmp_path), "--out", out),
        "experiment": ("experiment", small.write(tmp_path), "--out", out),
        "calibrate": ("calibrate", tmp_path / "nowhere", "--out", out),
        "history": ("history", out),
        "export": ("export", tmp_path / "nowhere", "--out", out),
        "check": ("check", tmp_path / "nowhere", tmp_path / "nowhere", "--out", out),
    }
    with another_process(out / "check" if kind == "check" else out):
        ended = command(*words[kind])
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "another process is writing it" in ended.err
    assert not out.exists() or not list(out.iterdir())


def test_a_lock_file_that_a_killed_process_left_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").touch()
    publish(tmp_path / "out", "new")
    assert hidden(tmp_path) == []


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening of the lock's file and the lock, its holder ends and removes the file."""
    flock, calls = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not calls:
            (tmp_path / ".out.lock").unlink()
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    publish(tmp_path / "out", "new")
    assert len(calls) == 2
    assert hidden(tmp_path) == []


# --- what is the user's own


def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "out")  # which is not there yet
    for text in ("old", "new"):
        publish(link, text)
        assert link.is_symlink()
        assert texts(tmp_path / "disk" / "out") == {text}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["out"]
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(BadInput):
        publish(tmp_path / "circle", "new")


def test_what_the_user_put_there_meanwhile_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, "old")

    def meanwhile() -> None:
        with publishing(out, PAIR) as made:
            write_pair(made, "new")
            write_text(out / "mine.txt", "mine")

    with pytest.raises(BadInput, match=r"also holds 'mine\.txt'"):
        meanwhile()
    assert (out / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert texts(out) == {"old"}


def test_a_model_keeps_the_users_files_and_drops_its_own(tmp_path: Path) -> None:
    """A link of the user's stays a link, and a table of the earlier calibration does not stay beside the new model."""
    out = tmp_path / "model"
    with publishing(out, MODEL) as made:
        write_text(ModelFolder(made).document, "old")
        write_text(ModelFolder(made).support, "old")
    write_text(out / "notes" / "deep" / "mine.txt", "mine")
    (out / "link").symlink_to("notes")
    with publishing(out, MODEL) as made:
        write_text(ModelFolder(made).document, "new")
    assert sorted(path.name for path in out.iterdir()) == ["link", "model.json", "notes"]
    assert (out / "link").readlink() == Path("notes")
    assert (out / "link" / "deep" / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="oops"), publishing(tmp_path / "a" / "b" / "out", PAIR):
        raise BadInput("oops")
    assert list(tmp_path.iterdir()) == []


def test_left_overs_of_a_killed_page_do_not_make_a_run_somebodys_own(tmp_path: Path) -> None:
    with publishing(tmp_path / "run", RUN) as made:
        write_text(RunFolder(made).summary, "{}")
    for name in (".report.html.lock", ".report.html.1234.part"):
        (tmp_path / "run" / name).touch()
    with publishing(tmp_path / "run", RUN) as made:
        write_text(RunFolder(made).summary, "{}")
    assert contents(tmp_path / "run").keys() == {"summary.json"}
