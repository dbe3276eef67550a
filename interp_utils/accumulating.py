"""What all statistics have in common that `stream.feed` may update: they add up, and another process can go on from them."""

import copy

from torch import Tensor

from .checks import finite
from .rounding import epsilon


class Statistic:
    """What all statistics have in common: a batch is a small statistic of its own, and merging is the only way to add.

    `update` and `merge` raise ValueError, and leave the sums as they were, for values that are not finite, tensors that are not
    equally long, values of another shape than before, and a statistic of another kind or with other settings.
    """

    settings: tuple[str, ...] = ()  # arguments by which it was made, and in which another must agree
    one_shape = True  # whether all images must give values of one shape

    def __init__(self):
        self.count = 0  # of images
        self.shape = None  # of what one image gives, once an image was there
        self.eps = 0.0  # relative rounding error of the values fed in, in their coarsest precision

    def merge(self, other: "Statistic") -> None:
        """Add what another pass has gathered. Raises ValueError where the two do not fit together."""
        if type(other) is not type(self):
            raise ValueError(f"cannot merge a {type(self).__name__} with a {type(other).__name__}")
        for name in self.settings:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"cannot merge a {type(self).__name__} of {name}={mine!r} with one of {name}={theirs!r}")
        if other.shape is None:
            return
        self._check_shape(other.shape)
        self._add(other)
        self.count, self.shape, self.eps = self.count + other.count, other.shape, max(self.eps, other.eps)

    def state_dict(self) -> dict:
        """All that was gathered, by name: tensors, numbers, and lists and tuples of such."""
        return {name: value for name, value in vars(self).items() if name not in self.settings}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` of another with the same settings gave."""
        vars(self).update(state)

    def _part(self, *tensors: Tensor) -> "Statistic":
        """An empty statistic for a batch [B, ...] of these tensors, once they are checked."""
        lengths = [len(tensor) if tensor.ndim else None for tensor in tensors]
        if len(set(lengths)) != 1 or None in lengths:
            raise ValueError(f"need as many rows of each, one for an image; got shapes {[list(each.shape) for each in tensors]}")
        if not all(map(finite, tensors)):
            raise ValueError("got values that are not finite; check the images and the model's precision (try dtype=torch.float32)")
        shape = tuple(tuple(tensor.shape[1:]) for tensor in tensors) if self.one_shape else ()
        self._check_shape(shape)
        part = type(self)(*(getattr(self, name) for name in self.settings))
        part.count, part.shape, part.eps = lengths[0], shape, max(epsilon(tensor.dtype) for tensor in tensors)
        return part

    def _check_shape(self, shape) -> None:
        if self.shape not in (None, shape):
            mine, theirs = ([list(each) for each in one] for one in (self.shape, shape))
            raise ValueError(f"this {type(self).__name__} gathers images of shapes {mine}; got shapes {theirs}")

    def _seen(self) -> None:
        if self.shape is None:
            raise ValueError(f"no images yet in this {type(self).__name__}; call update first")


class Several:
    """Statistics that one `update` feeds, by key; they are merged, saved and loaded together. Update is the subclass's."""

    def __init__(self, members: dict):
        self.members = members

    @property
    def count(self) -> int:
        return max((member.count for member in self.members.values()), default=0)

    def merge(self, other: "Several") -> None:
        for key, member in self.members.items():
            member.merge(other.members[key])

    def state_dict(self) -> dict:
        return {"members": [member.state_dict() for member in self.members.values()]}

    def load_state_dict(self, state: dict) -> None:
        self.members = {key: copy.copy(member) for key, member in self.members.items()}  # others may share what was there
        for member, each in zip(self.members.values(), state["members"], strict=True):
            member.load_state_dict(each)
