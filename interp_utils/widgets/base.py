"""The shell of all widgets: controls above a figure and a sentence."""

import base64
import html
import warnings
from collections.abc import Callable
from threading import RLock

import ipywidgets

from .. import plots
from ..tokens import CutOff


class Explorer(ipywidgets.VBox):
    """Controls above a figure that `draw(**values)` returns together with a sentence that says what it shows.

    The figure lives in a trait as an <img> whose alt text is the sentence, so it can be read, tested and saved. An error in
    `draw`, or in the drawing of its figure, is raised when the explorer is made, and shown in its status line (`status`) after a
    control was moved. The sentence ends with a warning of texts that were cut off.
    """

    def __init__(self, draw: Callable[..., tuple[plots.Picture, str]], **controls: ipywidgets.Widget):
        self.draw, self.controls = draw, controls
        self._one_at_a_time = RLock()  # JupyterLab may handle two events at once; the last must win
        self.view, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.view.add_class("iu-view")
        self.status.add_class("iu-status")
        super().__init__([ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), self.view, self.status])
        for control in controls.values():
            control.observe(self.refresh, "value")
        self.refresh()

    def refresh(self, change=None) -> None:
        with self._one_at_a_time:
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always", CutOff)
                    figure, alt = self.draw(**{name: control.value for name, control in self.controls.items()})
                png = figure.png()
            except Exception as error:
                self.alt = f"{type(error).__name__}: {error}"
                self.status.value = f"<b>{html.escape(self.alt)}</b>"
                if change is None:
                    raise
                return
            notes = dict.fromkeys(str(each.message) for each in said if issubclass(each.category, CutOff))
            self.png, self.width, self.alt = png, figure.width, "; ".join([alt, *notes])
            source = base64.b64encode(self.png).decode()
            style = f"width: {self.width}px; max-width: 100%"
            self.view.value = f'<img alt="{html.escape(self.alt)}" style="{style}" src="data:image/png;base64,{source}">'
            self.status.value = html.escape(self.alt)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        picture = {"image/png": base64.b64encode(self.png).decode()}
        return {**(data or {}), **picture}, {"image/png": {"width": self.width, "alt": self.alt}}
