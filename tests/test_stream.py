import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_clips import count_hooks, noise, tiny_model
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import interp_utils as iu
from interp_utils import stream
from interp_utils.heads import head_features, neighbours
from interp_utils.items import Items, collate
from interp_utils.moments import Moments, Rows
from interp_utils.stream import collect, feed, memory, pixels_and_target


def dataset(clip, n=7):
    return [(image, k) for k, image in enumerate(noise(clip, n))]


def test_many_statistics_from_one_forward_pass_a_batch(tiny, monkeypatch):
    passes = []
    encode = tiny.encode_image
    monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    heads, layers, rows = Moments(), Moments(second=True), Rows()
    views = [(heads, lambda b: b.heads), (layers, lambda b: b.layers), (rows, lambda b: (b.representation, b.numbers))]
    feed(tiny, dataset(tiny), views, batch_size=3)
    assert passes == [3, 3, 1]
    expected = torch.nn.functional.normalize(encode(noise(tiny, 7)), dim=-1)
    torch.testing.assert_close(rows.rows, expected)
    torch.testing.assert_close(layers.mean.sum(0), expected.double().mean(0), atol=1e-5, rtol=1e-4)
    assert heads.mean.shape == (2, 4, 24) and count_hooks(tiny.model) == 0


def test_passes_over_the_same_images_run_a_small_set_once(tiny, monkeypatch):
    passes, encode, data = [], tiny.encode_image, dataset(tiny)
    kept = memory(data)

    def heads(images, **options):
        passes.clear()
        monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
        return collect(tiny, images, lambda batch: batch.heads, **{"batch_size": 3, "kept": kept} | options)

    expected = heads(data)
    assert passes == [3, 3, 1]
    assert torch.equal(heads(data), expected) and passes == []
    assert torch.equal(heads(data[:6]), expected[:6]) and passes == [], "images are known by their numbers"
    assert torch.equal(heads(data[:5]), expected[:5]) and passes == [2], "other batches are run"
    assert torch.equal(heads(data, ln="split", kept=kept).sum(1), heads(data, ln="split", kept=None).sum(1)) and passes == [3, 3, 1]
    assert memory(DataLoader(data)) is memory(iter(data)) is None, "which may come in another order"
    kept = memory(data)
    monkeypatch.setattr(iu.stream, "MOST", len(data) * data[0][0].nbytes)
    heads(data)
    assert torch.equal(heads(data), expected) and passes == [3, 3, 1], "too large a set runs again"


def test_a_memory_is_never_taken_for_other_images_a_changed_model_or_other_effects(tiny):
    data, kept, other = dataset(tiny), memory(dataset(tiny)), iu.Clip(tiny_model())
    other.model.visual.proj.data.mul_(2)
    flipped = [(pixels.flip(-1), target) for pixels, target in data]

    def heads(clip, images, kept):
        return collect(clip, images, lambda batch: batch.heads, batch_size=3, kept=kept)

    heads(tiny, data, kept)
    for clip, images in ((tiny, flipped), (other, data)):
        assert torch.equal(heads(clip, images, kept), heads(clip, images, None))
    clip = iu.Clip(tiny_model())
    order, kept_too = iu.neurons.second_order(clip, 0), memory(data)

    def mean(kept):
        return order.fit(data, top=3, kept=kept).mean

    whole = mean(kept_too)
    with iu.hooks.edited_blocks(clip, {1: lambda inputs, output: 0 * output}, {}):
        edited = mean(kept_too), mean(None)
    with torch.no_grad():
        clip.model.visual.transformer.resblocks[0].mlp.c_fc.weight.mul_(2)
    for found, anew in (edited, (mean(kept_too), mean(None))):
        assert torch.equal(found, anew) and not torch.equal(found, whole), "the model has changed in place"
    plain, relative = (iu.neurons.second_order(tiny, 0, relative=relative) for relative in (False, True))
    for order in (plain, relative):
        iu.neurons.fit([order], data, top=3, kept=kept)
    assert torch.equal(relative.mean, iu.neurons.second_order(tiny, 0, relative=True).fit(data, top=3).mean)
    assert not torch.equal(relative.mean, plain.mean)


def test_a_batch_is_gone_before_the_next_is_seen(tiny):
    before, alive = [], []

    def heads(batch):
        alive.append(sum(each() is not None for each in before))
        before.append(weakref.ref(batch.effects))
        return batch.heads

    gc.disable()  # tensors wait for no collector of garbage: a GPU would be full before
    try:
        feed(tiny, dataset(tiny), [(Moments(), heads), (Moments(), lambda b: b.head_coordinates)], batch_size=2)
    finally:
        gc.enable()
    assert alive == [0] * 4


def test_shards_and_batch_sizes_do_not_matter(tiny):
    data, once = dataset(tiny), Moments(second=True)
    feed(tiny, data, [(once, lambda b: b.heads)])
    merged = Moments(second=True)
    for numbers in ([6, 1, 4], [0, 5], [3, 2]):
        part = Moments(second=True)
        feed(tiny, data, [(part, lambda b: b.heads)], batch_size=2, numbers=numbers)
        merged.merge(part)
    torch.testing.assert_close(merged.covariance, once.covariance, atol=1e-7, rtol=1e-4)


def test_numbers_name_the_images_of_the_dataset(tiny):
    rows = Rows()
    feed(tiny, dataset(tiny), [(rows, lambda b: (b.targets, b.numbers))], numbers=[5, 2, 6], batch_size=2)
    assert rows.rows.tolist() == [2, 5, 6] and rows.numbers.tolist() == [2, 5, 6]


def test_images_without_targets_and_empty_sets(tiny):
    mean = Moments()
    feed(tiny, list(noise(tiny, 3)), [(mean, lambda b: b.representation)])
    assert mean.count == 3
    with pytest.raises(ValueError, match="no images"):
        feed(tiny, [], [])


def test_an_error_in_a_view_leaves_nothing_hooked(tiny):
    with pytest.raises(ZeroDivisionError):
        feed(tiny, dataset(tiny), [(Moments(), lambda b: b.heads / (1 // 0))])
    assert count_hooks(tiny.model) == 0


def test_batches_of_a_loader_are_taken_as_they_come(tiny):
    pixels, seen = noise(tiny, 7), []
    loader = DataLoader(TensorDataset(pixels, torch.arange(7) * 10), batch_size=4)
    rows, plain = Rows(), Rows()
    views = [(rows, lambda b: (b.representation, b.numbers)), (Moments(), lambda b: seen.append(b.targets.tolist()) or b.layers)]
    feed(tiny, loader, views, batch_size=2)
    feed(tiny, dataset(tiny), [(plain, lambda b: (b.representation, b.numbers))])
    torch.testing.assert_close(rows.rows, plain.rows)
    assert seen == [[0, 10, 20, 30], [40, 50, 60]] and rows.numbers.tolist() == list(range(7))
    shuffled, order = Rows(), torch.tensor([4, 0, 6, 5])
    feed(tiny, DataLoader(TensorDataset(pixels, torch.arange(7)), 3, sampler=order), [(shuffled, lambda b: (b.targets, b.numbers))])
    assert shuffled.rows.tolist() == order.tolist() and shuffled.numbers.tolist() == [0, 1, 2, 3], "numbered as they come"
    with pytest.raises(ValueError, match="numbers choose among the images of a dataset"):
        feed(tiny, loader, [], numbers=[1])
    with pytest.raises(ValueError, match="no images"):
        feed(tiny, DataLoader(TensorDataset(pixels[:0])), [])


def test_views_of_a_batch_share_what_they_compute_once(tiny):
    computed = []

    def view(batch):
        first = batch.once(("sum", 1), lambda: computed.append(1) or batch.pixels.flatten(1).sum(1))
        again = batch.once(("sum", 1), lambda: pytest.fail("computed twice"))
        other = batch.once(("sum", 2), lambda: 2 * first)
        assert again is first
        return torch.stack([first, other], 1)

    rows = [Moments(), Moments()]
    feed(tiny, dataset(tiny), [(statistic, view) for statistic in rows], batch_size=3)
    assert len(computed) == 3, "once for each batch, whatever the number of views"
    sums = noise(tiny, 7).flatten(1).sum(1).double().mean()
    torch.testing.assert_close(rows[0].mean, torch.stack([sums, 2 * sums]), atol=1e-4, rtol=1e-5)
    nothing = []
    feed(tiny, dataset(tiny, 2), [(Moments(), lambda b: b.once("none", lambda: nothing.append(1)) or b.pixels)] * 2)
    assert len(nothing) == 1, "None is a result too"


def test_datasets_of_one_tensor(tiny):
    rows, targets = Rows(), []
    images = TensorDataset(noise(tiny, 5))
    feed(tiny, images, [(rows, lambda b: targets.append(b.targets) or (b.representation, b.numbers))], batch_size=2)
    assert targets == [None] * 3 and rows.numbers.tolist() == list(range(5))
    torch.testing.assert_close(rows.rows, torch.nn.functional.normalize(tiny.encode_image(noise(tiny, 5)), dim=-1))
    again = Rows()
    feed(tiny, DataLoader(images, batch_size=5), [(again, lambda b: (b.representation, b.numbers))])
    torch.testing.assert_close(again.rows, rows.rows)


def means_and_rows(clip, images, **options):
    """(mean and count of the pixels, their rows, numbers, targets, what was skipped)"""
    mean, rows, targets = Moments(), Rows(), []

    def view(batch):
        targets.extend([None] * len(batch.pixels) if batch.targets is None else batch.targets.tolist())
        return batch.pixels, batch.numbers

    skipped = feed(clip, images, [(mean, lambda batch: batch.pixels), (rows, view)], batch_size=3, **options)
    assert mean.count == len(rows.rows) == len(rows.numbers) == len(targets), "every statistic saw the same images"
    torch.testing.assert_close(mean.mean.float(), rows.rows.mean(0))
    return rows.rows, rows.numbers.tolist(), targets, skipped


@pytest.mark.parametrize("n", [14, 3])
def test_samplers_longer_or_shorter_than_the_dataset(tiny, n):
    pixels = noise(tiny, 7)
    sampler = WeightedRandomSampler(torch.ones(7), n, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(pixels, torch.arange(7)), 4, sampler=sampler)
    rows, numbers, targets, _ = means_and_rows(tiny, loader)
    assert numbers == list(range(n)), "numbered as they come"
    assert torch.equal(rows, pixels[targets])
    rows, numbers, targets, _ = means_and_rows(tiny, DataLoader(TensorDataset(pixels, torch.arange(7)), 3, drop_last=True))
    assert targets == numbers == list(range(6)) and torch.equal(rows, pixels[:6])


class Shards(IterableDataset):
    """Rows of a tensor, of which nobody knows beforehand how many there are."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __iter__(self):
        return ((image, k) for k, image in enumerate(self.pixels))


def test_iterable_datasets(tiny):
    pixels = noise(tiny, 7)
    for images in (Shards(pixels), DataLoader(Shards(pixels), 2), ((image, k) for k, image in enumerate(pixels))):
        rows, numbers, targets, _ = means_and_rows(tiny, images)
        assert torch.equal(rows, pixels) and numbers == targets == list(range(7))
    used = iter(pixels)
    means_and_rows(tiny, used)
    with pytest.raises(ValueError, match="no images; an iterator gives them only once"):
        feed(tiny, used, [])
    for options in ({"numbers": [1]}, {"on_error": "skip"}):
        for images in (Shards(pixels), DataLoader(Shards(pixels), 2)):
            with pytest.raises(ValueError, match="numbers choose among the images of a dataset, .* already says which"):
                feed(tiny, images, [], **options)


def test_rows_of_dictionaries(tiny):
    """As Hugging Face's datasets and processors give them."""
    pixels = noise(tiny, 7)
    for image, label in (("pixel_values", "label"), ("pixel_values", "labels"), ("image", "label")):
        images = [{label: k, image: each} for k, each in enumerate(pixels)]
        for given in (images, DataLoader(images, 4)):
            rows, numbers, targets, _ = means_and_rows(tiny, given)
            assert torch.equal(rows, pixels) and targets == numbers == list(range(7))
    rows, _, targets, _ = means_and_rows(tiny, [{"image": each} for each in pixels])
    assert torch.equal(rows, pixels) and targets == [None] * 7
    with pytest.raises(ValueError, match="an item has the keys 'img', 'label'; rename them: need 'pixel_values' or 'image'"):
        feed(tiny, [{"img": pixels[0], "label": 1}], [])
    with pytest.raises(TypeError, match="got a dictionary of train, test; choose one of these sets of images"):
        feed(tiny, {"train": images, "test": images}, [])


def test_images_alone_in_whatever_form(tiny, sandbox):
    pixels = noise(tiny, 4)
    for images in (pixels, pixels.numpy(), list(pixels), list(pixels.numpy()), TensorDataset(pixels), [(each,) for each in pixels]):
        rows, _, targets, _ = means_and_rows(tiny, images)
        assert torch.equal(rows, pixels) and targets == [None] * 4
    drawn = [iu.sandbox.render(k) for k in range(4)]
    expected = torch.stack([sandbox.preprocess(each.image) for each in drawn])
    for images in ([each.image for each in drawn], [(each.pixels, k) for k, each in enumerate(drawn)]):
        assert torch.equal(means_and_rows(sandbox, images)[0], expected), "not preprocessed yet, so it is done"
        with pytest.raises(TypeError, match="and no preprocess; make them tensors"):
            feed(tiny, images, [])
    assert torch.equal(pixels_and_target({"image": drawn[0].image}, sandbox.preprocess)[0], expected[0])
    with pytest.raises(ValueError, match=r"differ in size, \(3, 32, 32\) and \(3, 32, 40\); preprocess them to one"):
        feed(tiny, [pixels[0], torch.zeros(3, 32, 40)], [])
    with pytest.raises(ValueError, match="the images have no labels, which accuracy needs"):
        iu.heads.accuracy_under(tiny, pixels, torch.ones(3, tiny.d_embed), {})


def test_numbers_may_be_a_mask_and_must_name_images(tiny):
    pixels, mask = noise(tiny, 5), [True, False, False, True, True]
    for numbers in (mask, torch.tensor(mask), np.array(mask), [0, 3, 4], np.array([0, 3, 4]), torch.tensor([0, 3, 4])):
        rows, found, _, _ = means_and_rows(tiny, pixels, numbers=numbers)
        assert found == [0, 3, 4] and torch.equal(rows, pixels[[0, 3, 4]])
    with pytest.raises(ValueError, match=r"a mask of the images needs 5 values, one for each, got \[3\]"):
        feed(tiny, pixels, [], numbers=mask[:3])
    for numbers in ([0, 5], [-1], [0.0, 1.0], [[0, 1]]):
        with pytest.raises(ValueError, match="numbers must be whole, from 0 to 4, or a mask of 5 bools; got "):
            feed(tiny, pixels, [], numbers=numbers)
    for numbers in ([], [False] * 5):
        with pytest.raises(ValueError, match="no images"):
            feed(tiny, pixels, [], numbers=numbers)


def test_datasets_that_give_a_batch_at_once_are_asked_so(tiny):
    pixels, asked = noise(tiny, 5), []

    class Quick(Dataset):
        def __len__(self):
            return len(pixels)

        def __getitem__(self, k):
            pytest.fail("one by one is slow")

        def __getitems__(self, numbers):
            asked.append(numbers)
            return [(pixels[k], k) for k in numbers]

    rows, numbers, targets, _ = means_and_rows(tiny, Quick(), numbers=[4, 0, 1, 2])
    assert asked == [[4, 0, 1], [2]] and numbers == [0, 1, 2, 4] and torch.equal(rows, pixels[numbers]) and targets == [4, 0, 1, 2]


class Damaged(Dataset):
    """Images of which some cannot be read."""

    def __init__(self, pixels, damaged):
        self.pixels, self.damaged = pixels, damaged

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, k):
        if k in self.damaged:
            raise OSError(f"photo{k}.jpg is truncated")
        return self.pixels[k], k


def test_images_that_cannot_be_read_are_raised_or_skipped_and_listed(tiny):
    pixels = noise(tiny, 9)
    images = Damaged(pixels, (1, 3, 4, 5))
    with pytest.raises(OSError, match="photo1.jpg is truncated"):
        feed(tiny, images, [])
    left = [0, 2, 6, 7, 8]
    with pytest.warns(UserWarning) as caught:
        rows, numbers, targets, skipped = means_and_rows(tiny, images, on_error="skip")
    assert numbers == targets == left and torch.equal(rows, pixels[left]), "a whole batch was lost"
    assert skipped == [(k, f"OSError: photo{k}.jpg is truncated") for k in (1, 3, 4, 5)]
    assert "skipped 4 of 9 images:" in str(caught[0].message) and "number 5: OSError: photo5.jpg" in str(caught[0].message)
    assert means_and_rows(tiny, images, numbers=left, on_error="skip")[3] == []
    with pytest.raises(ValueError, match="no images; none of 2 could be read, number 3: OSError: photo3.jpg is truncated"):
        feed(tiny, images, [], numbers=[3, 4], on_error="skip")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        feed(tiny, images, [], on_error="ignore")


def test_neighbours_keep_their_numbers_when_images_were_skipped(tiny):
    pixels = noise(tiny, 6)
    with pytest.warns(UserWarning, match="skipped 2 of 6"):
        features = head_features(tiny, Damaged(pixels, (0, 3)), [(1, 0)], on_error="skip")
    whole = head_features(tiny, Damaged(pixels, ()), [(1, 0)])
    for head, rows in features.items():
        torch.testing.assert_close(rows[[1, 2, 4, 5]], whole[head][[1, 2, 4, 5]])
        assert rows[[0, 3]].isnan().all()
        assert neighbours(rows, 2) == [k for k in neighbours(whole[head], 2) if k not in (0, 3)]
        with pytest.raises(IndexError, match="no image 3"):
            neighbours(rows, 3)


def test_damaged_files_are_skipped_by_spawned_workers(tmp_path, sandbox):
    """Every part of a dataset has to be found again in a process that starts from nothing, as on Windows, macOS and with CUDA."""
    for k in range(4):
        Image.new("RGB", (80, 70), (40 * k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    images = iu.datasets.load_task(tmp_path, sandbox.preprocess).images
    loader = DataLoader(
        Items(images, sandbox.preprocess, True),
        batch_sampler=[[0, 1, 2], [3]],
        num_workers=1,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    (numbers, pixels, targets, skipped), (rest, *_) = loader
    assert numbers.tolist() == [0, 1] and rest.tolist() == [3] and targets.tolist() == [-1, -1]
    assert torch.equal(pixels[1], images[1][0]) and [number for number, _ in skipped] == [2]
    assert f"cannot read the image {tmp_path / '2.png'}" in skipped[0][1]


@pytest.mark.parametrize("device, workers", [("cpu", True), ("meta", False)])
def test_images_on_a_gpu_are_not_read_by_other_processes(device, workers):
    """Which cannot reach them, and nothing is pinned that is there already. "meta" stands for any device."""
    pixels = torch.zeros(3, 3, 8, 8, device=device)
    model = SimpleNamespace(device=torch.device("cuda"))
    for images in (pixels, list(pixels), TensorDataset(pixels), [{"image": each, "label": 0} for each in pixels]):
        loader = stream._loader(model, images, [[2, 0], [1]], 2, False)
        assert (loader.num_workers > 0) == loader.pin_memory == workers
    photos = [Image.new("RGB", (8, 8))] * 3
    assert stream._loader(model, photos, [[0]], 2, False).num_workers > 0
    assert not stream._loader(model, iter(pixels), None, 2, False).pin_memory


def test_what_a_view_gives_is_collected_for_all_images(tiny):
    images = dataset(tiny)
    unit = torch.nn.functional.normalize(tiny.encode_image(noise(tiny, 7)), dim=-1)
    vectors, targets = collect(tiny, images, lambda batch: (batch.representation, batch.targets), batch_size=3)
    torch.testing.assert_close(vectors, unit)
    assert targets.tolist() == list(range(7))
    one = collect(tiny, images, lambda batch: batch.representation, numbers=[5, 2])
    torch.testing.assert_close(one, unit[[2, 5]])


@pytest.mark.parametrize("loader", [False, True])
def test_a_batch_that_does_not_fit_in_memory_is_taken_in_parts(tiny, loader):
    data = [(pixels, {"number": k, "name": f"image {k}"}) for k, pixels in enumerate(noise(tiny, 23))]
    seen, names, whole = [], [], Moments(second=True)
    feed(tiny, data, [(whole, lambda b: b.heads)])

    def view(batch):
        if len(batch.pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(batch.pixels))
        names.extend(batch.targets["name"])
        assert batch.targets["number"].tolist() == batch.numbers.tolist()
        return batch.heads

    parts, rows = Moments(second=True), Rows()
    views = [(rows, lambda b: (b.representation, b.numbers)), (parts, view)]
    with pytest.warns(UserWarning, match="out of memory with 10 images at a time; going on with 5"):
        feed(tiny, DataLoader(data, 10) if loader else data, views, batch_size=10)
    assert names == [f"image {k}" for k in range(23)] and max(seen) == 2 and sum(seen) == 23
    torch.testing.assert_close(parts.covariance, whole.covariance, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(rows.rows, torch.nn.functional.normalize(tiny.encode_image(noise(tiny, 23)), dim=-1))


def test_an_image_that_does_not_fit_in_memory_is_an_error(tiny):
    def view(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.warns(UserWarning, match="going on with 1"), pytest.raises(torch.OutOfMemoryError):
        feed(tiny, dataset(tiny), [(Moments(), view)])
    assert count_hooks(tiny.model) == 0


def test_any_model_that_has_a_device_streams(tiny):
    """A model of chapter 4 and a generator, whose views are their maps, beside a CLIP."""
    conv = torch.nn.Conv2d(3, 4, 3, stride=4).eval().requires_grad_(False)
    seeing = iu.rosetta.UnitModel(conv, [""], size=32)
    images, mean = noise(tiny, 5).sigmoid(), Moments()
    feed(seeing, images, [(mean, lambda batch: batch.once("maps", lambda: seeing(batch.pixels))[0])], batch_size=2)
    torch.testing.assert_close(mean.mean.float(), seeing(images)[0].mean(0))

    class Painter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Unflatten(1, (3, 4, 4))

        def forward(self, z):
            return self.first(z).tanh()

    drawing = iu.rosetta.Generator(Painter().eval(), ["first"], lambda n, random, kind: (torch.randn(n, 48, generator=random),))
    drawing.model.register_parameter("scale", torch.nn.Parameter(torch.ones(())))  # which says where it is
    (z,), drawn = drawing.sample(5), Rows()
    feed(drawing, z, [(drawn, lambda batch: (drawing(batch.pixels)[0], batch.numbers))], batch_size=2)
    assert torch.equal(drawn.rows, drawing(z)[0])


def test_a_room_adds_its_views_to_batches_once():
    assert iu.stream.Batch.representation.__doc__ == "[B, E], unit length."
    with pytest.raises(ValueError, match="a batch has a view 'layers' already"):

        @iu.stream.view
        def layers(batch):
            return batch


def test_the_heads_weights_are_folded_once_a_pass_and_anew_for_the_next(tiny, monkeypatch):
    folded, fold = [], iu.heads.direct.head_basis
    for room in (iu.heads.direct, iu.heads.views):
        monkeypatch.setattr(room, "head_basis", lambda *args, **options: folded.append(1) or fold(*args, **options))
    first, second, some = Moments(), Moments(), Moments()
    views = [(first, lambda batch: batch.effects.heads()), (some, lambda batch: batch.effects.heads([1]))]
    feed(tiny, dataset(tiny), views, batch_size=2)
    assert len(folded) == 1
    by_hand = iu.heads.direct_effects(tiny, noise(tiny, 7)).heads().double().mean(0)
    torch.testing.assert_close(by_hand, first.mean, atol=1e-5, rtol=1e-4)
    out = tiny.model.visual.transformer.resblocks[1].attn.out_proj
    out.weight.data.mul_(2), out.bias.data.mul_(2)
    feed(tiny, dataset(tiny), [(second, lambda batch: batch.effects.heads())], batch_size=2)
    assert len(folded) == 3, "one of them by hand"
    by_hand = iu.heads.direct_effects(tiny, noise(tiny, 7)).heads().double().mean(0)
    torch.testing.assert_close(by_hand, second.mean, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(first.mean[1], second.mean[1], atol=1e-3)
