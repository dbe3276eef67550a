"""Jobs that are killed at random moments, again and again, and must end with the same bits: python tests/soak.py [kills]

Three kinds of job on small random models: chapter 2 (moments, answers under ablations, top images, two passes), chapter 3 (the
directions of a layer's neurons, two passes), chapter 4 (correlation of all units of two models). Then two and four processes under
`torchrun`, of which one is killed. Minutes, not for `make test`. One that was stopped goes on from build/soak.json.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["TQDM_DISABLE"] = "1"  # before anything imports tqdm

import torch
from forks import ended, forked
from small_clips import noise, tiny_clip

import interp_utils as iu
from interp_utils import collecting, saved
from interp_utils.datasets import Task
from interp_utils.fingerprints import fingerprint
from interp_utils.rosetta import UnitModel, correlate
from interp_utils.texts import Pool

N = 240


@cache
def small_clip() -> iu.Clip:
    return tiny_clip()


def chapter_2(path: Path | None, every: float) -> list:
    clip = small_clip()
    task = Task([(image, k % 2) for k, image in enumerate(noise(clip, N))], ["dog", "cat"], ["a {}"])
    pool = Pool(["a dog", "a cat", "a red square", "a photo of the sea"], [""] * 4)
    found = collecting.collect(clip, task, pool, path, batch_size=4, every=every)
    return [found.answers, found.tops, {head: vars(each) for head, each in found.moments.items()}]


def chapter_3(path: Path | None, every: float) -> list:
    clip = small_clip()
    order = iu.neurons.second_order(clip, 0).fit(noise(clip, N), 10, batch_size=4, save_to=path, every=every)
    return [order.directions, order.mean, order.thresholds]


def chapter_4(path: Path | None, every: float) -> list:
    torch.manual_seed(0)
    models = []
    for width in (12, 20):
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(width, width, 3, 2, 1))
        models.append(UnitModel(layers.eval().requires_grad_(False), ["0", "2"], size=32, name=f"width {width}"))
    images = torch.rand(N, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return [correlate(*models, images, batch_size=4, save_to=path, every=every).matrix]


def soak(job, kills: int, folder: Path, luck: random.Random) -> int:
    """Kill a job so many times at random moments; how many of its runs came to their end, and were checked."""

    def result(path: Path, every: float):
        saved.write(folder / "result", [fingerprint(job(path, every))])

    def started(number: int, every: float) -> int:
        return forked(lambda: result(folder / f"run{number}.safetensors", every))

    small_clip()  # in this process, once for all
    begun = time.monotonic()
    assert ended(started(0, 1e9)) == 0, "a job must end when nobody kills it"
    seconds, expected = time.monotonic() - begun, saved.read(folder / "result")[0]
    done, killed, number = 0, 0, 1
    while killed < kills:
        every = luck.choice([0, 0.01, 0.05])
        child = started(number, every)
        time.sleep(luck.uniform(0, 1.2 * seconds))
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        if code == -signal.SIGKILL:
            killed += 1
            continue
        assert code == 0, f"{job.__name__} failed after {killed} kills"
        assert saved.read(folder / "result")[0] == expected, f"{job.__name__}: other bits after {killed} kills"
        done, number = done + 1, number + 1
    assert ended(started(number, 1e9)) == 0 and saved.read(folder / "result")[0] == expected
    return done + 1


def by_torchrun(folder: Path, count: int) -> None:
    """The command by several processes, the last of which is killed, and again; beside what one process gives."""
    command = ["--clip", "sandbox", "--images", "sandbox", "--n-images", "60", "--texts", "sandbox", "--every", "0.1"]
    command += ["--batch-size", "5", "--save-to", str(folder / "many.safetensors")]
    many = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
    many += ["-m", "interp_utils.collect", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(many, env=environment, stderr=subprocess.PIPE, text=True) as job:
        own = None
        while own is None and job.poll() is None:  # until the last process has written what it has
            time.sleep(0.05)
            if list(folder.glob(f"many.1.{count}of{count}.safetensors")):
                own = member(job.pid, f"{count - 1}")
        assert own is not None, f"no process to kill: {job.communicate()[1][-2000:]}"
        os.kill(own, signal.SIGKILL)
        said = job.communicate(timeout=300)[1]
    assert job.returncode != 0 and "SIGKILL" in said.upper().replace("SIGNAL 9", "SIGKILL"), said[-2000:]
    parts = sorted(each.name for each in folder.glob("many*"))
    subprocess.run(many, env=environment, check=True, timeout=600)
    assert [each.name for each in folder.glob("many*")] == ["many.safetensors"]
    one = [sys.executable, "-m", "interp_utils.collect", *command[:-1], str(folder / "one.safetensors")]
    subprocess.run(one, env=environment, check=True, timeout=600)
    mine, theirs = (iu.collected(folder / name) for name in ("many.safetensors", "one.safetensors"))
    for head, each in theirs.moments.items():
        torch.testing.assert_close(mine.moments[head].covariance, each.covariance, atol=1e-12, rtol=1e-12)
    assert fingerprint([mine.answers, mine.tops]) == fingerprint([theirs.answers, theirs.tops])
    print(f"torchrun, {count} processes, one killed beside {', '.join(parts)}: the same as one process")


def member(parent: int, rank: str) -> int | None:
    """The process that torchrun started under a rank, by what Linux says of it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                ours = f"PPid:\t{parent}\n" in (entry / "status").read_text()
                if ours and f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    return int(entry.name)
            except OSError:  # gone already
                continue
    return None


def main(kills: int = 200, at_once: int = 10) -> None:
    path, jobs = Path("build/soak.json"), (chapter_2, chapter_3, chapter_4)
    behind = json.loads(path.read_text()) if path.exists() else {}

    def note(name: str, **found) -> None:
        behind[name] = found
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(behind))

    for k, job in enumerate(jobs):
        share, name = kills // len(jobs) + (k < kills % len(jobs)), job.__name__
        while (killed := behind.get(name, {}).get("killed", 0)) < share:
            with TemporaryDirectory() as folder:
                done = soak(job, min(at_once, share - killed), Path(folder), random.Random(f"{name} {killed}"))
            done += behind.get(name, {}).get("done", 0)
            note(name, killed=min(killed + at_once, share), done=done)
        print("{}: {killed} kills, {done} runs came to their end, all with the same bits".format(name, **behind[name]), flush=True)
    for count in (2, 4):
        if f"{count} processes" not in behind:
            with TemporaryDirectory() as folder:
                by_torchrun(Path(folder), count)
            note(f"{count} processes")
    path.unlink()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:]))
