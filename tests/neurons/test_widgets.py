import io
from dataclasses import replace
from datetime import datetime

import pytest
import torch
from PIL import Image

import interp_utils as iu
from interp_utils import neurons, widgets


@pytest.fixture(scope="module")
def fitted(sandbox):
    images = iu.datasets.load_task("sandbox-train", sandbox.preprocess, 60).images
    orders = [neurons.second_order(sandbox, layer, relative=True) for layer in (5, 6)]
    neurons.fit(orders, images, top=8)
    pool = iu.texts.load_pool("sandbox", 60)
    features = sandbox.encode_text(pool.texts)
    texts = {order.layer: neurons.sparse_texts(order.directions, features, pool.texts, 6) for order in orders}
    return images, orders, texts


def test_neuron_explorer_at_both_ends(fitted, sandbox):
    images, orders, texts = fitted
    explorer = widgets.neuron_explorer(images, orders, texts, layer=5)
    seen = set()
    for layer in (5, 6):
        explorer.controls["layer"].value = layer
        strength = {order.layer: order.thresholds for order in orders}[layer]
        assert explorer.controls["neuron"].value == strength.argmax().item() or layer == 5, "the strongest is on top"
        for neuron in (0, sandbox.d_mlp - 1):
            explorer.controls["neuron"].value = neuron
            first, weight = texts[layer].of(neuron, 1)[0]
            assert explorer.alt.startswith(f"L{layer}N{neuron} writes {'+' if weight > 0 else '-'}“{first}”")
            assert explorer.png[:4] == b"\x89PNG" and "<img alt=" in explorer.view.value
            card = explorer.views[0]
            assert [(each["text"], each["value"]) for each in card.texts] == texts[layer].of(neuron, 6)
            top = {order.layer: order.rank_one for order in orders}[layer].top_images[0, neuron]
            expected = neurons.activation_maps(sandbox, images[int(top)][0][None], layer, [neuron])[0, 0]
            assert torch.allclose(torch.tensor(card.images[0]["map"]), expected, rtol=0.01, atol=1e-4)
            seen.add(explorer.png)
    assert len(seen) == 4, "moving a control did not change the picture"


def test_bad_neurons_and_layers_are_refused(fitted, sandbox):
    images, orders, texts = fitted
    with pytest.raises(IndexError, match="no neuron 768: layer 5 has 768"):
        widgets.draw_neuron(images, orders[0], texts[5], 768)
    with pytest.raises(RuntimeError, match="call fit"):
        widgets.draw_neuron(images, neurons.second_order(sandbox, 5), texts[5], 0)
    with pytest.raises(ValueError, match="texts for each layer"):
        widgets.neuron_explorer(images, orders, {5: texts[5]})


def test_concept_explorer_marks_what_is_true(fitted):
    images, orders, texts = fitted
    explorer = widgets.concept_explorer(orders[0], texts[5], images)
    for image in (0, 11):
        explorer.controls["image"].value = image
        found = neurons.discover_concepts(orders[0], texts[5], images[image][0][None])[0]
        assert explorer.alt.startswith(f"{len(found.active)} of 768 neurons are active and speak for “{found.texts[0][0]}”")
        facts = {text.casefold(): fact for fact in iu.sandbox.captions.FACTS for text in iu.sandbox.prompts(*fact)}
        holds = iu.sandbox.captions.facts_of(images.specs[image])
        assert f"{sum(facts[text.casefold()] in holds for text, _ in found.texts)} of 10 texts are true" in explorer.alt


def test_where_no_neuron_is_active_nothing_speaks(fitted):
    images, orders, texts = fitted
    order = neurons.second_order(orders[0].clip, 5, relative=True)
    order.fitted = replace(orders[0].fitted, thresholds=torch.full_like(orders[0].thresholds, 1e9))
    found = neurons.discover_concepts(order, texts[5], images[0][0][None])[0]
    assert len(found.active) == 0 and found.texts == [] and (found.scores == 0).all()
    for spec in (None, images.specs[0]):
        figure, sentence = widgets.draw_concepts(order, texts[5], images[0][0], spec)
        assert sentence == "none of 768 neurons is active on this image, so nothing speaks for any text"
        assert figure.png()[:4] == b"\x89PNG"


def test_a_neuron_that_no_text_describes_says_so(fitted):
    images, orders, texts = fitted
    silent = replace(texts[5], indices=torch.full_like(texts[5].indices, -1), weights=torch.zeros_like(texts[5].weights))
    figure, sentence = widgets.draw_neuron(images, orders[0], silent, 3)
    assert sentence == "L5N3 writes nothing that a text describes" and figure.png()[:4] == b"\x89PNG"


@pytest.mark.parametrize("version", [7, 8])
def test_own_image_from_either_ipywidgets(fitted, version):
    file = io.BytesIO()
    drawn = iu.sandbox.paint("two red dogs on the beach")[0].image
    drawn.save(file, "PNG")
    content = {"name": "mine.png", "content": memoryview(file.getvalue())}
    value = {"mine.png": content} if version == 7 else (content,)
    assert list(widgets.uploaded(value).convert("RGB").getdata()) == list(drawn.getdata())
    images, orders, texts = fitted
    explorer = widgets.concept_explorer(orders[0], texts[5], images)
    before = explorer.view.value
    explorer.controls["image"].value = "my own image"
    assert "choose a file first" in explorer.status.value and explorer.view.value == before
    if version == 8:
        explorer.controls["image"].value = 0
        explorer.controls["own"].value = [{**content, "type": "image/png", "size": 1, "last_modified": datetime(2026, 1, 1)}]
        assert explorer.controls["image"].value == "my own image" and "Error" not in explorer.status.value
        assert explorer.view.value != before and "texts are true" not in explorer.alt


def test_own_images_are_read_as_all_are():
    file, sideways = io.BytesIO(), Image.Exif()
    sideways[0x0112] = 6
    Image.new("RGB", (30, 50), "red").save(file, "PNG", exif=sideways)
    value = ({"name": "phone.png", "content": memoryview(file.getvalue())},)
    assert widgets.uploaded(value).size == (50, 30) and widgets.uploaded(value).mode == "RGB"
    for broken in ({"broken.png": {"content": file.getvalue()[:40]}}, ({"name": "broken.png", "content": b"no image"},)):
        with pytest.raises(ValueError, match="cannot read the image broken.png"):
            widgets.uploaded(broken)


def test_datasets_of_pixels_alone_and_of_dictionaries_are_shown(fitted):
    images, orders, texts = fitted
    plain = widgets.draw_neuron(images, orders[0], texts[5], 3)
    for other in ([images[k][0] for k in range(60)], [{"pixel_values": images[k][0], "label": 0} for k in range(60)]):
        assert widgets.draw_neuron(other, orders[0], texts[5], 3)[1] == plain[1]
        head = {None: torch.eye(60, 8), (7, 0): torch.eye(60, 8)}
        figure, _ = widgets.draw_neighbours(other, head, 0, (7, 0))
        assert figure.png() == widgets.draw_neighbours([(image, 0) for image, _ in images], head, 0, (7, 0))[0].png()


def test_pil_images_fit_where_pixels_do(fitted, sandbox):
    _, orders, texts = fitted
    image = iu.sandbox.render(5).image
    pixels = sandbox.preprocess(image)
    for draw in (
        lambda each: widgets.draw_concepts(orders[0], texts[5], each),
        lambda each: widgets.draw_zero_shot(sandbox, each, "dog, ship"),
        lambda each: widgets.draw_head(sandbox, each, 7, 1, "a dog", ["a ship"]),
    ):
        assert draw(image)[1] == draw(pixels)[1]
    assert (
        widgets.head_explorer(sandbox, [image], ["a ship"], "a dog").alt
        == widgets.head_explorer(sandbox, pixels[None], ["a ship"], "a dog").alt
    )


def test_photographs_fit_too(fitted, sandbox):
    _, orders, texts = fitted
    photo = Image.fromarray((torch.rand(90, 120, 4) * 255).byte().numpy(), "RGBA")
    figure, sentence = widgets.draw_concepts(orders[0], texts[5], sandbox.preprocess(photo))
    assert "neurons are active" in sentence and figure.png()[:4] == b"\x89PNG"
