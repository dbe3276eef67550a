"""Chapter 3: what each neuron writes into the image representation through later attention."""

from .second_order import Effects, Lines, SecondOrder, second_order

__all__ = ["Effects", "Lines", "SecondOrder", "second_order"]
