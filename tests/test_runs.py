"""A pass that was killed goes on, ends with the same bits, and refuses what belongs to another run."""

import errno
import os
import signal

import pytest
import torch
from forks import die, ended, forked, joined
from small_clips import noise, tiny_model

import interp_utils as iu
from interp_utils import saved
from interp_utils.fingerprints import fingerprint
from interp_utils.moments import GroupMeans, Moments, Rows, TopK
from interp_utils.stream import feed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watched(Rows):
    """Rows that say when they are updated, to `at`, which may end the process."""

    at = staticmethod(lambda what: None)

    def update(self, *given) -> None:
        Watched.at("last update")
        super().update(*given)


def seen(batch):
    Watched.at("view")
    return batch.heads


class Job:
    """Statistics of every kind over 13 images of a CLIP; `at` is called with the name of what is about to happen."""

    def __init__(self, clip, path=None, at=lambda what: None, images=None, **options):
        self.clip, self.path, self.at, self.options = clip, path, at, {"batch_size": 2, "every": 0} | options
        self.images = [(image, k % 3) for k, image in enumerate(noise(clip, 13))] if images is None else images

    def run(self, k: int = 5) -> list:
        kinds, Watched.at = [Moments(second=True), GroupMeans(3), TopK(k), Watched()], self.at
        views = (
            seen,
            lambda batch: (batch.heads, batch.targets),
            lambda batch: (batch.heads[..., 0], batch.numbers, batch.heads.movedim(-1, 1)),
            lambda batch: (batch.representation, batch.numbers),
        )
        self.skipped = feed(self.clip, self.images, list(zip(kinds, views)), save_to=self.path, **self.options)
        return kinds


def bits(statistics) -> list[str]:
    return [fingerprint(statistic.state_dict()) for statistic in statistics]


def test_killed_at_any_point_it_goes_on_to_the_same_bits(tiny, tmp_path, monkeypatch):
    path, whole = tmp_path / "run.safetensors", bits(Job(tiny).run())
    save, replace = saved.save_file, os.replace

    def child(where, after):
        left = [after]

        def at(what):
            left[0] -= what == where
            if left[0] == 0:
                die()

        monkeypatch.setattr(saved, "save_file", lambda *args: (save(*args), at("written, not on disk")))
        monkeypatch.setattr(os, "replace", lambda *args: (at("on disk, under another name"), replace(*args), at("replaced")))
        Job(tiny, path, at).run()

    images = []
    for where, after in (
        ("view", 1),
        ("last update", 2),
        ("written, not on disk", 2),
        ("on disk, under another name", 1),
        ("replaced", 2),
    ):
        assert ended(forked(lambda where=where, after=after: child(where, after))) == -signal.SIGKILL, where
        images.append(saved.read(path)[0][1]["progress"]["images"] if path.exists() else 0)
    assert images == [0, 2, 4, 4, 8]
    looked = []
    assert bits(Job(tiny, path, looked.append).run()) == whole and looked.count("view") == 3, "8 of 13 images were done"
    assert bits(Job(tiny, path, looked.append).run()) == whole and looked.count("view") == 3, "a finished file is only read"
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_of_another_run_is_refused_with_what_differs(tiny, tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(ZeroDivisionError):
        Job(tiny, path, lambda what: what == "last update" and 1 // 0).run()
    assert not path.exists(), "no statistic may be ahead of another"
    Job(tiny, path).run()
    other = tiny_model()
    with torch.no_grad():
        other.visual.transformer.resblocks[0].mlp.c_fc.weight[0, 0] += 1e-3
    images = list(noise(tiny, 13))
    for wrong, said in (
        (Job(iu.Clip(other), path), "weights of the model"),
        (Job(iu.Clip(tiny.model, ln="split"), path), r"ln \(centered there, split here\)"),
        (Job(iu.Clip(tiny.model, preprocess=torch.nn.Identity()), path), "preprocessing"),
        (Job(tiny, path, images=images[:12]), r"number of images in the dataset \(13 there, 12 here\); listing"),
        (Job(tiny, path, images=images[::-1]), "listing of the dataset"),
        (Job(tiny, path, batch_size=3), r"batch size \(2 there, 3 here\)"),
        (Job(tiny, path, numbers=range(12)), "choice of images"),
    ):
        with pytest.raises(ValueError, match=f"{path.name} belongs to another run: it differs in {said}.*Give this run another"):
            wrong.run()
    with pytest.raises(ValueError, match=r"differs in statistic 3, TopK \("):
        Job(tiny, path).run(k=4)
    state, about = saved.read(path)
    saved.write(path, state, about | {"version of interp_utils": "0.0.1"})
    with pytest.raises(ValueError, match=r"differs in version of interp_utils \(0.0.1 there, "):
        Job(tiny, path).run()
    path.write_bytes(b"a thesis")
    with pytest.raises(ValueError, match="holds no run of this package"):
        Job(tiny, path).run()


def test_views_that_differ_in_what_they_use_are_other_runs(tiny):
    def looking(layers, texts):
        return lambda batch: batch.heads[:, layers] @ texts.T

    one, texts = fingerprint(looking([0, 1], torch.ones(2, 24))), torch.ones(2, 24)
    assert fingerprint(looking([0, 1], texts)) == one, "by what they hold, not by where it lies"
    assert fingerprint(looking([0], texts)) != one != fingerprint(looking([0, 1], 2 * texts))
    assert fingerprint(lambda batch: batch.heads) != fingerprint(lambda batch: batch.layers)
    assert fingerprint(lambda batch: batch.heads + 1) != fingerprint(lambda batch: batch.heads + 2)
    loop = [1]
    loop.append(loop)
    assert fingerprint(loop) != fingerprint([1])
    assert fingerprint({"a", "b", "c"}) == fingerprint({"c", "b", "a"})
    clip = iu.Clip(tiny.model, name="another name")
    assert fingerprint(clip) == fingerprint(tiny) and clip.tower is not None and fingerprint(clip) == fingerprint(tiny)


def test_what_cannot_be_read_or_written_is_named_and_nothing_is_lost(tiny, tmp_path, monkeypatch):
    path, pixels = tmp_path / "run.safetensors", noise(tiny, 13)

    class Photos(list):
        damaged = True

        def __getitem__(self, k):
            if self.damaged and k == 7:
                raise OSError("photo7.jpg is truncated")
            return super().__getitem__(k)

    photos = Photos((image, k % 3) for k, image in enumerate(pixels))
    with pytest.raises(OSError, match="photo7.jpg is truncated") as caught:
        Job(tiny, path, images=photos, every=1e9).run()
    assert "item 7 of the dataset" in caught.value.__notes__[0]
    assert saved.read(path)[0][1]["progress"]["images"] == 6
    Photos.damaged = False  # the file was fetched again
    looked = []
    assert bits(Job(tiny, path, looked.append, images=photos).run()) == bits(Job(tiny).run()) and looked.count("view") == 4

    full, room = tmp_path / "full.safetensors", [3]
    save = saved.save_file

    def until_full(tensors, to, about):
        room[0] -= 1
        save(tensors, to, about)
        if room[0] < 0:
            os.truncate(to, 100)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved, "save_file", until_full)
    with pytest.raises(OSError, match="cannot write .*full.safetensors: .*No space left on device; what it held before is whole"):
        Job(tiny, full).run()
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [full.name, path.name] and saved.read(full)[0][1]["progress"]["images"] == 6
    assert bits(Job(tiny, full).run()) == bits(Job(tiny).run())
    with pytest.raises(ValueError, match="on_error='skip' leaves some out, save_to and torchrun must find them"):
        Job(tiny, full, images=iter(pixels)).run()
    seen = Moments()
    seen.update(pixels)
    with pytest.raises(ValueError, match="statistics that have seen nothing yet"):
        feed(tiny, pixels, [(seen, lambda batch: batch.pixels)], save_to=path)

    class Sum:
        def update(self, values):
            pytest.fail("too late")

    with pytest.raises(TypeError, match="a Sum cannot be saved: it needs count, merge, state_dict"):
        feed(tiny, pixels, [(Sum(), lambda batch: batch.pixels)], save_to=path)


def test_skipped_images_are_remembered(tiny, tmp_path):
    class Photos(list):
        def __getitem__(self, k):
            if k in (1, 2, 3, 9):
                raise OSError(f"photo{k}.jpg is truncated")
            return super().__getitem__(k)

    photos = Photos((image, k % 3) for k, image in enumerate(noise(tiny, 13)))
    for _ in range(2):  # the second time from the file
        with pytest.warns(UserWarning, match="skipped 4 of 13 images:\n  number 1: OSError: photo1.jpg"):
            job = Job(tiny, tmp_path / "run.safetensors", images=photos, on_error="skip")
            job.run()
        assert [number for number, _ in job.skipped] == [1, 2, 3, 9]


def exact_and_rest(statistics) -> tuple[list[str], list[torch.Tensor]]:
    """Bits of what is a count, a selection or a row, and float64 sums, of the statistics of `Job`."""
    moments, groups, top, rows = statistics
    parts = [top.values, top.images, top.rows, rows.rows, rows.numbers, groups.counts, moments.count]
    return [fingerprint(part) for part in parts], [moments.mean, moments.covariance, groups.mean, groups.variance]


@pytest.mark.skipif(not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="needs gloo")
def test_two_processes_give_what_one_gives_and_go_on_when_one_was_killed(tiny, tmp_path, capfd):
    path, one = tmp_path / "run.safetensors", Job(tiny).run()

    def start(attempt: int, killed: int | None):
        def member(rank):
            seen = []

            def at(what):
                seen.append(what)
                if rank == killed and seen.count("view") == 3:
                    die()

            found = Job(tiny, path, at).run()
            saved.write(tmp_path / f"{attempt}.{rank}", [[each.state_dict() for each in found], seen.count("view")])

        children = [joined(lambda rank=rank: member(rank), rank, 2, tmp_path / f"meeting{attempt}") for rank in range(2)]
        return [ended(child) for child in children]

    assert start(1, killed=1) == [1, -signal.SIGKILL]
    assert "another process of this job ended" in capfd.readouterr().err
    assert sorted(each.name for each in tmp_path.glob("run*")) == ["run.1of2.safetensors", "run.2of2.safetensors"]
    assert start(2, killed=None) == [0, 0]
    (found, views), (same, others) = (saved.read(tmp_path / f"2.{rank}")[0] for rank in range(2))
    assert fingerprint(found) == fingerprint(same), "both have all, whoever saw it"
    assert (views, others) == (0, 1), "the parts went on: of 7 batches the first had its 4, the second 2 of its 3"
    assert [each.name for each in tmp_path.glob("run*")] == [path.name]
    two = Job(tiny, path).run()  # which one process reads as well
    assert bits(two) == [fingerprint(each) for each in found]
    (exact, sums), (expected, expected_sums) = exact_and_rest(two), exact_and_rest(one)
    assert exact == expected, "to the last bit"
    for mine, theirs in zip(sums, expected_sums):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_an_interrupted_run_keeps_what_it_has_and_is_not_shared(tiny, tmp_path, monkeypatch):
    path, seen = tmp_path / "run.safetensors", []

    def at(what):
        seen.append(what)
        if seen.count("view") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Job(tiny, path, at, every=1e9).run()
    assert saved.read(path)[0][1]["progress"]["images"] == 4
    monkeypatch.setattr(iu.runs, "rank_and_count", lambda: (0, 2))
    with pytest.raises(ValueError, match="was begun by one process and has no end yet"):
        Job(tiny, path).run()


def test_tensors_of_another_class_are_known_by_their_numbers():
    class There(torch.Tensor):
        pass

    weight = torch.randn(2, 3)
    kinds = (torch.nn.Parameter(weight), weight.as_subclass(There))
    assert {fingerprint(each) for each in kinds} == {fingerprint(weight)} != {fingerprint(weight + 1)}
