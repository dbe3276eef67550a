"""Processes of their own for jobs that may be killed: forked, which costs no import.

They run on one thread, so that bits can be compared.
"""

import os
import signal
import sys
import time
import traceback

import torch
import torch.distributed as dist


def forked(run) -> int:
    """Start `run()` in a process of its own; its number. It ends without anything that the tests would do at their end."""
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def ended(child: int, seconds: float = 120) -> int:
    """Exit code of a process, negative for the signal that killed it. Raises TimeoutError, once it is killed, where it has none."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"process {child} had not ended after {seconds} seconds")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def joined(run, rank: int, count: int, meeting) -> int:
    """`forked` as one of several processes of a job, which find each other by a file."""

    def member():
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
        run()
        dist.destroy_process_group()

    return forked(member)
