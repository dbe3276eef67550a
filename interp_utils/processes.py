"""One pass by several processes, on PyTorch Distributed: under `torchrun` the same call deals out the images and merges."""

import atexit
import copy
from collections.abc import Sequence

import torch.distributed as dist


def rank_and_count() -> tuple[int, int]:
    """The number of this process and how many there are: 0 and 1, but under `torchrun`, whose group is joined."""
    if not dist.is_available():
        return 0, 1
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            return 0, 1
        dist.init_process_group()
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size()


def merge(statistics: Sequence, own) -> list:
    """Merge the statistics of all processes, in the order of their ranks: all have the same then. Returns what each gave as `own`.

    Raises RuntimeError where another process has ended.
    """
    rank, count = rank_and_count()
    mine, given = [statistic.state_dict() for statistic in statistics], []
    for source in range(count):
        sent = [mine, own] if source == rank else [None, None]
        try:
            dist.broadcast_object_list(sent, src=source)
        except RuntimeError as error:
            raise RuntimeError(
                "another process of this job ended before its images were done, so all end; start them again with the same "
                "command, and with save_to every process goes on where it was"
            ) from error
        states, gave = sent
        given.append(gave)
        for statistic, state in zip(statistics, states, strict=True):
            part = copy.copy(statistic)
            part.load_state_dict(state)
            if source == 0:
                statistic.load_state_dict(state)
            else:
                statistic.merge(part)
    return given


def wait() -> None:
    """Until all processes are here."""
    if rank_and_count()[1] > 1:
        dist.barrier()
