"""The shell of all widgets: controls above a sentence, views that answer in the browser, and a figure."""

import base64
import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import RLock

import ipywidgets
import traitlets
from IPython.display import display

from .. import plots
from ..tokens import CutOff
from .controls import Memory, Search
from .views import HeadGrid, Manners, let_in_colab

RUN = "Run this cell to move it; without a kernel, <code>make book</code> draws an atlas to browse."


class Explorer(ipywidgets.VBox):
    """Controls above a figure that `draw(**values)` returns together with a sentence that says what it shows.

    The figure lives in a trait as an <img> whose alt text is the sentence, so it can be read, tested and saved. An error in
    `draw`, or in the drawing of its figure, is raised when the explorer is made; after a control was moved it is shown in place of
    the sentence (`status`), above the last good picture, greyed. The sentence ends with a warning of texts that were cut off.

    views: of `widgets.views`, which `show(**values)` fills; it returns the sentence. Once a browser shows them, they take the place
    of the figure, which is drawn only where no view can run: on GitHub, in a saved notebook, without anywidget's part of Jupyter.
    Of moves that a browser makes while the kernel draws, only the last is drawn. finer: as `show`, and slower: it fills the views
    again once the reader rests.
    picks: by trait of `controls.selection`, the controls' values for each thing that can be picked in any explorer. One that is
    made again with the same arguments opens where a reader left it, or at what was picked elsewhere meanwhile.
    page: of the atlas, for the values shown, to which the book links.
    """

    def __init__(
        self,
        draw: Callable[..., tuple[plots.Picture, str]],
        views: Sequence[ipywidgets.Widget] = (),
        show: Callable[..., str] | None = None,
        picks: Mapping[str, dict] | None = None,
        finer: Callable[..., str] | None = None,
        page: Callable[..., str] = lambda **values: "index.html",
        **controls: ipywidgets.Widget,
    ):
        let_in_colab()
        self.draw, self.show, self.finer, self.page, self.views, self.controls = draw, show, finer, page, tuple(views), controls
        self._one_at_a_time = RLock()  # JupyterLab may handle two events at once; the last must win
        self._shown, self._painted, self._held = None, None, 0
        self.view, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        uploads = [each for each in controls.values() if isinstance(each, ipywidgets.FileUpload)]
        self._movable = {each.model_id: each for each in _movable([*controls.values(), *views])}
        upload = "".join(each.model_id for each in uploads if isinstance(each.value, tuple))  # a dict in ipywidgets 7
        self.manners = Manners(parts=[*self._movable], upload=upload)  # whole from the start: a browser looks at once
        self.view.add_class("iu-view")
        self.status.add_class("iu-status")
        row = {"flex_flow": "row wrap"}
        parts = [ipywidgets.HBox(list(controls.values()), layout=row), self.status]
        self._below = [self.view]
        if views:
            self._below.insert(0, ipywidgets.HBox(list(views), layout=row))
            self._below[0].add_class("iu-views")
        super().__init__([*parts, *self._below, self.manners])
        self.add_class("iu-explorer")
        for control in controls.values():
            control.observe(self.refresh, "value")
            if isinstance(control, Search):
                control.find.observe(self.refresh, "value")  # to answer a search that leaves all as it is
        self.manners.observe(self._live, "live")
        self.manners.observe(self._refine, "rested")
        self.manners.on_msg(self._moves)
        self._memory = Memory(getattr(draw, "__qualname__", type(draw).__qualname__), controls, picks or {})
        self.refresh()
        self._go_on()

    def _go_on(self) -> None:
        """Open where a reader left such an explorer; at the start where that is no longer possible."""
        last = self._memory.last()
        if not last:
            return
        possible = False
        with suppress(traitlets.TraitError):
            self.move(**last)
            possible = self._shown is not None
        if not possible:
            self.move(**self._memory.start)

    def move(self, **values) -> None:
        """Set several controls, then draw once."""
        self._held += 1
        try:
            uploads_first = sorted(values, key=lambda name: not isinstance(self.controls[name], ipywidgets.FileUpload))
            for name in uploads_first:  # which choose themselves
                self.controls[name].value = values[name]
        finally:
            self._held -= 1
        self.refresh({})

    def _moves(self, manners: Manners, content: dict, buffers) -> None:
        """A browser says what was moved, [number of the part, values by trait] each: one message, drawn once."""
        self._held += 1
        try:
            for number, values in content["moves"]:
                self._movable[number].set_state(values)
        finally:
            self._held -= 1
            self.refresh({})
            manners.send({"drawn": True})

    def _refine(self, change) -> None:
        if self._shown is not None:
            self.refresh({}, finer=True)

    def refresh(self, change=None, finer: bool = False) -> None:
        """Draw what the controls say, finer or not; after a `change` of theirs only if that is not what is shown."""
        if self._held:
            return
        with self._one_at_a_time:
            values = {name: control.value for name, control in self.controls.items()}
            if change is not None and values == self._shown and not finer:
                self.manners.done()
                return
            try:
                with self._busy(), warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always", CutOff)
                    self.manners.finer = self.finer is not None and self._answered and not finer
                    show = self.show if self.manners.finer else self.finer or self.show
                    alt = show(**values) if show else None
                    if not self._answered:
                        alt = self._paint(values)
            except Exception as error:
                self._shown, self.alt = None, f"{type(error).__name__}: {error}"
                self.status.value = _sentence(f"<b>{html.escape(self.alt)}</b>")
                for part in self._below:
                    part.add_class("iu-stale")
                if change is None:
                    raise
                return
            notes = dict.fromkeys(str(each.message) for each in said if issubclass(each.category, CutOff))
            self._shown, self.alt = values, "; ".join([alt, *notes])
            self._memory.keep(values)
            for part in self._below:
                part.remove_class("iu-stale")
            self.status.value = _sentence(html.escape(self.alt))
            if not self._answered:
                source = base64.b64encode(self.png).decode()
                style = f"width: {self.width}px; max-width: 100%"
                self.view.value = f'<img alt="{html.escape(self.alt)}" style="{style}" src="data:image/png;base64,{source}">'

    @property
    def png(self) -> bytes:
        """The figure of what is shown."""
        if self._shown is not None and self._painted != self._shown:  # a browser has had views in its place
            self._paint(self._shown)
        return self._png

    def _paint(self, values: dict) -> str:
        figure, alt = self.draw(**values)
        self._png, self.width, self._painted = figure.png(), figure.width, values
        return alt

    @property
    def _answered(self) -> bool:
        """Whether a browser shows the views, so that nobody sees the figure."""
        return bool(self.views) and self.manners.live

    def _live(self, change) -> None:
        self.view.layout.display = "none" if self._answered else None
        if not self._answered:
            self.refresh()

    @contextmanager
    def _busy(self):
        self.view.add_class("iu-busy")
        try:
            yield
        finally:
            self.view.remove_class("iu-busy")
            self.manners.done()

    def _ipython_display_(self, **kwargs) -> None:
        """With a note for who sees it without a kernel, which a browser hides while the explorer is alive.

        JupyterLab shows a picture without its alt text, so the note holds the sentence.
        """
        data, about = self._repr_mimebundle_()
        display(data, metadata=about, raw=True)
        page = self.page(**self._shown) if self._shown else "index.html"
        note = f'<p class="iu-note" data-atlas="{html.escape(page)}">{html.escape(self.alt)}. {RUN}</p>'
        display({"text/html": note, "text/plain": self.alt}, raw=True)

    def _repr_mimebundle_(self, **kwargs):
        if hasattr(super(), "_repr_mimebundle_"):
            bundle = super()._repr_mimebundle_(**kwargs)
            data = bundle[0] if isinstance(bundle, tuple) else bundle
        else:  # ipywidgets 7
            view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
            data = {"text/plain": repr(self), "application/vnd.jupyter.widget-view+json": view}
        picture = {"image/png": base64.b64encode(self.png).decode()}  # which sets the width
        return {**(data or {}), **picture}, {"image/png": {"width": self.width, "alt": self.alt}}


def _movable(widgets: Sequence[ipywidgets.Widget]) -> list[ipywidgets.Widget]:
    """What a reader moves of these and of what stands in them; a file goes a way of its own."""
    parts = [part for each in widgets for part in (each, *_movable(getattr(each, "children", ())))]
    return [
        part
        for part in parts
        if isinstance(part, HeadGrid | ipywidgets.ValueWidget) and not isinstance(part, ipywidgets.FileUpload)
    ]


def page_of(unit: str) -> str:
    """The atlas's page of a head or a neuron: of "L8H1", "heads/L8H1.html"."""
    return f"{'neurons' if 'N' in unit else 'heads'}/{unit}.html"


def counted(n: int, what: str) -> str:
    """ "1 unit", "2 units"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _sentence(markup: str) -> str:
    return f'<p role="status" style="margin: 0; line-height: 1.4">{markup}</p>'
