"""Every explorer, made of as little as it takes, and a watch that moves one in the page and says how long its answers take."""

import json
import statistics
from functools import partial

import nbformat
import pytest
from browser.conftest import OUT

# When a control moved, when the busy sign came, when the sentence, picture or a view changed; in ms of the page's own clock.
STOPWATCH = """(box) => {
  if (box.told) return;
  box.told = [];
  const told = (what) => box.told.push([what, performance.now()]);
  const words = () => box.querySelector('.iu-status')?.textContent;
  const picture = () => box.querySelector('.iu-view img')?.src;
  const seen = () => box.querySelector('.iu-patches, .iu-board, .iu-wipe, .iu-pairs')?.getAttribute('aria-label');
  const view = () => [seen(), box.querySelector('.iu-texts')?.textContent, box.querySelector('.iu-plain')?.src].join();
  let was = [words(), picture(), view()];
  for (const event of ['change', 'click', 'keydown', 'pointerup']) box.addEventListener(event, () => told('moved'), true);
  new MutationObserver(() => {
    if (box.classList.contains('iu-waiting') && !box.waits) told('busy');
    box.waits = box.classList.contains('iu-waiting');
    const now = [words(), picture(), view()];
    ['words', 'picture', 'view'].forEach((what, k) => now[k] !== was[k] && told(what));
    was = now;
  }).observe(box, {subtree: true, childList: true, attributes: true, characterData: true});
}"""
ANSWERED = """([box, until]) => box.told.some(([what]) => until.includes(what)) && !box.classList.contains('iu-waiting')
  && !box.querySelector('.iu-busy')"""
OWN = "my own image"

# Every explorer, made of as little as it takes.
EXPLORERS = {
    "zero-shot": """
import interp_utils as iu
clip = iu.load_clip('sandbox', device='cpu')
images = iu.datasets.load_task('sandbox-train', clip.preprocess, 60).images
iu.widgets.zero_shot_explorer(clip, [images[k][0] for k in range(6)], 'dog, cat, fish')""",
    "head": """
task = iu.datasets.load_task('sandbox', clip.preprocess, 6)
iu.widgets.head_explorer(clip, task.images, task.classes, 'a picture of a fish')""",
    "span": """
pool = iu.texts.load_pool('sandbox', 60)
features = clip.encode_text(pool.texts)
moments = iu.heads.head_moments(clip, images, layers=[8, 9])
spans = {head: iu.heads.textspan(each, features, pool.texts, 6) for head, each in moments.items()}
iu.widgets.span_explorer(images, spans, iu.heads.top_images(clip, images, spans, features, k=4))""",
    "neighbours": """
iu.widgets.neighbour_explorer(images, iu.heads.head_features(clip, images, [(9, 5), (8, 0)]))""",
    "neuron": """
orders = [iu.neurons.second_order(clip, layer, relative=True) for layer in (7, 8)]
iu.neurons.fit(orders, images, top=8)
texts = {order.layer: iu.neurons.sparse_texts(order.directions, features, pool.texts, 6) for order in orders}
iu.widgets.neuron_explorer(images, orders, texts)""",
    "concepts": """
iu.widgets.concept_explorer(orders[0], texts[7], images)""",
    "dictionary": """
reference = iu.rosetta.load_unit_model('sandbox/known_big_gan', 'cpu')
seeing = [iu.rosetta.load_unit_model(f'sandbox/viewers/{name}', 'cpu') for name in ('resnet', 'clip_resnet')]
models = {each.name: each for each in seeing}
*found, own = iu.rosetta.correlate(reference, [*seeing, reference], reference.sample(24, seed=0, kind=0))
matches, dictionary = dict(zip(models, found)), iu.rosetta.build_dictionary(found, own)
latents = reference.sample(2, seed=3, kind=0)
iu.widgets.dictionary_explorer(reference, models, latents, dictionary)""",
    "partners": """
iu.widgets.unit_explorer(reference, models, latents, matches)""",
    "edit": """
iu.widgets.edit_explorer(reference, own, dictionary, latents)""",
    "hypotheses": """
import torch
from interp_utils import science
pairs = ['a dog', 'a beach', 'something red']
measured = {text: torch.randn(2, 8, 2) + torch.tensor([[3.0, 0.0], [0.0, 0.0]])[:, None] for text in pairs}
findings = science.investigate(measured, {0: pairs[:2], 1: pairs[1:]}, torch.ones(2), torch.ones(2) / 2, lambda text: [text])
iu.widgets.hypothesis_lab(findings, ['L0H0', 'L5N3'], measured, science.painted_pairs)""",
}


class Watch:
    """An explorer in the page, and how long its answers take."""

    def __init__(self, page, box):
        self.page, self.box, self.taken = page, box, {}
        box.scroll_into_view_if_needed()
        box.evaluate(STOPWATCH)

    @property
    def words(self) -> str:
        return self.box.locator(".iu-status").inner_text()

    def move(self, action, until: tuple[str, ...] = ("words", "picture", "view"), seconds: int = 30, since: str = "moved") -> None:
        """Do something, and wait until one of these parts of the explorer has changed and the busy sign is gone."""
        from playwright.sync_api import TimeoutError  # installed by make test-browser alone

        self.box.evaluate("(box) => { box.told = [] }")
        action()
        try:
            self.page.wait_for_function(ANSWERED, arg=[self.box.element_handle(), until], timeout=1000 * seconds)
        except TimeoutError:
            pytest.fail(f"no answer in {seconds} s, {self.box.evaluate('(box) => [box.className, box.told]')}; {self.words}")
        told = self.box.evaluate("(box) => box.told")
        first = min(at for what, at in told if what != "moved")
        start = max(at for what, at in told if what == since and at <= first)
        for part in ("busy", "words", "picture", "view"):
            times = [at - start for what, at in told if what == part]
            if times:
                self.taken.setdefault(part, []).append(times[-1 if part != "busy" else 0])

    def to_the_ends(self) -> None:
        """Lists, sliders and numbers to both ends and one step by an arrow key; all that was moved gave an answer without error."""
        for chooser in self.box.locator("select").all():
            last = chooser.locator("option", has_not_text=OWN).count() - 1
            for place in (last, 0) if last else ():
                if chooser.evaluate("(select) => select.selectedIndex") != place:
                    self.move(partial(chooser.select_option, index=place))
                    assert "Error" not in self.words
            if last:
                self.move(partial(chooser.press, "ArrowDown"))
                assert chooser.evaluate("(select) => select.selectedIndex") == 1, "an arrow key did not move the list by one"
        for slider in self.box.locator(".noUi-handle").all():
            low, high = (float(slider.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
            for key, goal in (("End", high), ("Home", low), ("ArrowRight", low + 1)):
                if float(slider.get_attribute("aria-valuenow")) != goal:
                    self.move(partial(slider.press, key))
                    assert float(slider.get_attribute("aria-valuenow")) == goal and "Error" not in self.words

    def type(self, label: str, text: str) -> None:
        field = self.box.get_by_label(label, exact=True)
        self.move(lambda: (field.fill(text), field.press("Enter")), until=("words",))

    def give(self, name: str, content: bytes, seconds: int = 60) -> None:
        """Upload a file as a reader does."""

        def choose():
            with self.page.expect_file_chooser() as asked:
                self.box.get_by_role("button", name=OWN).click()
            asked.value.set_files({"name": name, "mimeType": "image/jpeg", "buffer": content})

        self.move(choose, until=("words",), seconds=seconds, since="busy")  # before that the file is on its way into the browser

    def report(self, name: str) -> dict:
        """Write down how long the moves took; the busy sign came within 100 ms of each."""
        found = {
            part: {"median": round(statistics.median(times)), "worst": round(max(times)), "moves": len(times)}
            for part, times in self.taken.items()
        }
        file = OUT / "latency.json"
        every = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(every | {name: found}, indent=2))
        print(name, found)
        assert not found or found["busy"]["worst"] <= 100
        return found


def notebook(*cells: str):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # or Lab asks for one
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
