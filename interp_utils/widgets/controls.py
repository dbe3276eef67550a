"""What explorers share: a list that can be searched, and what a reader has picked."""

import ipywidgets
import traitlets
from IPython import get_ipython


class Search(ipywidgets.HBox):
    """A list, and a field that leaves those of its options that hold a text; the first of them is chosen.

    `options`, (label, value) pairs, and `value` are a list's own; a value that is chosen by a program ends the search.
    """

    value = traitlets.Any()

    def __init__(self, options, value, description: str, **keywords):
        self._options, self._searching = list(options), False
        self.choose = ipywidgets.Dropdown(options=self._options, value=value, description=description, **keywords)
        self.find = ipywidgets.Text(description="find", continuous_update=False, style={"description_width": "30px"})
        self.find.layout.width, self.said = "150px", ipywidgets.Label()
        super().__init__([self.choose, self.find, self.said], layout={"flex_flow": "row wrap"})
        self.value = self.choose.value
        self.find.observe(self._search, "value")
        self.choose.observe(lambda change: self._searching or setattr(self, "value", change["new"]), "value")
        self.observe(self._follow, "value")

    @property
    def options(self) -> list[tuple]:
        """All of them, whatever is searched for."""
        return self._options

    @options.setter
    def options(self, options) -> None:
        self._options = list(options)
        self.find.value = ""
        self.choose.options = self._options  # the first is chosen
        self.value = self.choose.value

    @traitlets.validate("value")
    def _known(self, proposal):
        if not any(proposal["value"] == value for _, value in self._options):
            raise traitlets.TraitError(f"no {self.choose.description} {proposal['value']!r} among {len(self._options)}")
        return proposal["value"]

    def _search(self, change) -> None:
        wanted = change["new"].strip().casefold()
        found = [option for option in self._options if wanted in option[0].casefold()]
        self.said.value = "" if found else f"none says “{change['new']}”"
        if found:
            self._show(found)

    def _show(self, options: list[tuple]) -> None:
        """Offer these, and keep what is chosen if it is among them."""
        self._searching = True
        try:
            self.choose.options = options
            if any(self.value == value for _, value in options):
                self.choose.value = self.value
        finally:
            self._searching = False
        self.value = self.choose.value

    def _follow(self, change) -> None:
        if self.choose.value != change["new"]:
            self.find.value = ""
            self.choose.value = change["new"]


class Selection(traitlets.HasTraits):
    """What a reader picked last in any explorer of this session, None before; explorers that are made later open with it."""

    head = traitlets.Tuple(default_value=None, allow_none=True)  # (layer, head)
    neuron = traitlets.Tuple(default_value=None, allow_none=True)  # (layer, neuron)
    unit = traitlets.Int(None, allow_none=True)  # of the generator of chapter 4


selection = Selection()
_left: dict[str, tuple] = {}  # by kind of explorer, how the last one started and was left


class Memory:
    """Where a reader left an explorer: one that is made again with the same arguments goes on there.

    kind: of explorer; picks: by trait of `selection`, values of controls for each thing that can be picked. What the cell that
    makes an explorer does with its controls is its author's, not a reader's.
    """

    def __init__(self, kind: str, controls: dict, picks: dict[str, dict]):
        self.kind, self.picks, self.cell = kind, picks, _cell()
        self.start = {name: control.value for name, control in controls.items()}
        self.arguments = {name: (tuple(getattr(each, "options", ())), each.value) for name, each in controls.items()}

    def last(self) -> dict:
        """Values to go on with, by control."""
        arguments, values = _left.get(self.kind, (self.arguments, {}))
        if arguments != self.arguments:  # the reader has changed the cell
            values, picked = {}, {}
        else:
            picked = {
                name: value
                for trait, table in self.picks.items()
                for name, value in table.get(getattr(selection, trait), {}).items()
            }
        _left[self.kind] = self.arguments, {**values, **picked}
        return _left[self.kind][1]

    def keep(self, values: dict) -> None:
        """The reader has gone there."""
        if self.cell is None or _cell() == self.cell:
            return
        _left[self.kind] = self.arguments, values
        for trait, table in self.picks.items():
            here = [key for key, there in table.items() if all(values[name] == value for name, value in there.items())]
            if here:
                setattr(selection, trait, here[0])


def _cell() -> int | None:
    """The number of the notebook's cell that runs, or of the next one while none does."""
    shell = get_ipython()
    return shell and shell.execution_count
