import itertools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from sklearn.metrics import average_precision_score
from small_clips import count_hooks, get_tokenizer, noise, tiny_model
from torchvision import transforms

import interp_utils as iu
from interp_utils.datasets import MaskTask, load_masks
from interp_utils.moments import Moments
from interp_utils.segmentation import (
    SegmentationScores,
    evaluate,
    explainer_maps,
    for_predicted_class,
    prepare,
    score,
    score_all,
    token_decomposition,
)
from interp_utils.segmentation_scores import average_precision, normalised
from interp_utils.stream import feed


def real_preprocess(size):
    return image_transform(size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def clip():
    return iu.Clip(tiny_model(), real_preprocess(32), get_tokenizer("ViT-B-32"))


def drawn_masks(sizes, seed=0):
    """Images that show their own mask in white on black, an ellipse off the centre, each of its own size."""
    rng, items = np.random.default_rng(seed), []
    for rows, columns in sizes:
        y, x = np.mgrid[:rows, :columns]
        cy, cx = rng.uniform(0.2, 0.8, 2)
        mask = ((y / rows - cy) / 0.3) ** 2 + ((x / columns - cx) / 0.25) ** 2 < 1
        items.append((Image.fromarray(np.stack([255 * mask.astype(np.uint8)] * 3, -1)), mask.astype(np.uint8)))
    return items


def shown(pixels):
    return pixels.mean(1)


def by_hand(maps, masks, threshold="mean", clip_negatives=True):
    """The metrics as the thesis's code computes them, image by image."""
    intersections, unions, correct, pixels, precisions = np.zeros(2), np.zeros(2), 0, 0, []
    for heat, mask in zip(maps, masks):
        heat = F.interpolate(heat[None, None], size=mask.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
        heat = np.maximum(heat, 0) if clip_negatives else heat
        heat = (heat - heat.min()) / (heat.max() - heat.min())
        guess = (heat > (heat.mean() if threshold == "mean" else threshold)).astype(int)
        mask = mask.numpy().astype(int)
        correct, pixels = correct + (guess == mask).sum(), pixels + mask.size
        for k in (0, 1):
            intersections[k] += ((guess == k) & (mask == k)).sum()
            unions[k] += ((guess == k) | (mask == k)).sum()
        scores, truth = np.concatenate([1 - heat, heat]).ravel(), np.concatenate([mask == 0, mask == 1]).ravel()
        precisions.append(average_precision_score(truth, scores))
    miou = (intersections / unions).mean()
    return {"pixel_accuracy": 100 * correct / pixels, "miou": 100 * miou, "map": 100 * np.mean(precisions)}


def random_batch(n=7, seed=0, size=(24, 20)):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(n, 5, 4, generator=generator)
    noise_ = F.interpolate(maps[:, None], size=size, mode="bilinear")[:, 0] + torch.randn(n, *size, generator=generator)
    return maps, noise_ > 0.5


@pytest.mark.parametrize("threshold, clip_negatives", [("mean", True), (0.5, False), (0.3, True)])
def test_scores_equal_those_by_hand(threshold, clip_negatives):
    maps, masks = random_batch()
    maps[1] = (maps[1] * 2).round()  # many ties
    maps[2] -= 1.2  # most of it negative
    scores = SegmentationScores(threshold, clip_negatives)
    scores.update(maps, masks)
    assert scores.result() == pytest.approx(by_hand(maps, masks, threshold, clip_negatives), abs=0.1)  # rounding breaks ties


def test_settings_matter():
    maps, masks = random_batch()
    results = [by_hand(maps, masks, *setting)["miou"] for setting in (("mean", True), (0.5, False), (0.3, True), (0.5, True))]
    assert len({round(value, 3) for value in results}) == 4


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_average_precision_equals_sklearn_with_ties(pairs, shift):
    values = np.array([value for value, _ in pairs], np.float32) / 6
    truth = np.array([relevant for _, relevant in pairs])
    scores = torch.tensor(np.stack([values, np.roll(values, shift)]))
    found = average_precision(scores, torch.tensor(np.stack([truth, truth])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sklearn warns where nothing is relevant, and gives 0 too
        expected = [average_precision_score(truth, row) for row in scores.numpy()]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_average_precision_by_hand():
    scores, relevant = torch.tensor([[0.9, 0.7, 0.7, 0.1]]), torch.tensor([[True, False, True, True]])
    assert average_precision(scores, relevant).item() == pytest.approx((1 + 2 / 3 + 3 / 4) / 3, abs=1e-12)


def test_constant_maps_and_empty_masks():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, :2] = True  # a third
    for constant in (torch.zeros(1, 3, 3), torch.full((1, 3, 3), 0.1), torch.full((1, 3, 3), -2.0)):
        for setting in (("mean", True), (0.5, False)):
            scores = SegmentationScores(*setting)
            scores.update(constant, mask)
            expected = {"pixel_accuracy": 200 / 3, "miou": 100 / 3, "map": 50}  # all background, chance
            assert scores.result() == pytest.approx(expected)
    scores = SegmentationScores()
    scores.update(torch.tensor([[[-1.0, -2], [-3, -1]]]), mask)  # nowhere positive
    assert scores.result()["map"] == pytest.approx(50)
    assert (normalised(torch.full((1, 3, 3), 0.1), (64, 64)) == 0.5).all()

    ramp = torch.arange(9.0).reshape(1, 3, 3)
    scores = SegmentationScores()
    scores.update(ramp, torch.zeros(1, 6, 8))
    expected = by_hand(ramp, torch.zeros(1, 6, 8))
    assert scores.result() == pytest.approx(expected, abs=1e-4) and 0 < expected["map"] < 100
    scores = SegmentationScores()
    scores.update(torch.zeros(1, 3, 3), torch.zeros(1, 6, 8))  # no foreground, and none predicted: only background counts
    assert scores.result() == pytest.approx({"pixel_accuracy": 100, "miou": 100, "map": 50})


def test_parts_add_up_in_any_order():
    maps, masks = random_batch(9)
    whole = SegmentationScores()
    whole.update(maps, masks)
    for order in itertools.permutations([slice(0, 1), slice(1, 5), slice(5, 9)]):
        total = SegmentationScores()
        for part in order:
            shard = SegmentationScores()
            for k in range(9)[part]:
                shard.update(maps[k : k + 1], masks[k : k + 1])
            total.merge(shard)
        assert total.result() == pytest.approx(whole.result(), abs=0.1)  # rounding breaks the ties that resizing makes
        assert total.count == 9 and total.images[:, 0].sum() == masks.numel()
    for other in (SegmentationScores(0.5), SegmentationScores(clip_negatives=False), Moments()):
        with pytest.raises(ValueError, match="cannot merge a SegmentationScores"):
            whole.merge(other)


def test_double_precision_is_kept_and_rounding_is_no_map():
    """A step of 1e-9 is a map in float64; in float32 the same numbers are constant, and noise of a few roundings says nothing."""
    step = 1 + torch.tensor([[[0.0, 1e-9], [0, 1e-9]]], dtype=torch.float64)
    found = normalised(step, (2, 2))
    assert found.dtype == torch.float64 and torch.allclose(
        found, torch.tensor([[[0.0, 1], [0, 1]]], dtype=torch.float64), atol=1e-6
    )
    assert (normalised(step.float(), (2, 2)) == 0.5).all() and normalised(step.half(), (2, 2)).dtype == torch.float32
    for scale in (1e-20, 1.0, 1e20):
        rounding = scale * (1 + torch.finfo(torch.float32).eps * torch.tensor([[[0.0, 1, 2], [3, 1, 0]]]))
        assert (normalised(rounding, (4, 6)) == 0.5).all()
        assert normalised(scale * (1 + torch.tensor([[[0.0, 1e-3]]])), (1, 2)).flatten().tolist() == [0, 1]
    tight = SegmentationScores(0.5, clip_negatives=False)
    tight.update(step, step > 1)
    assert tight.result() == {"pixel_accuracy": 100, "miou": 100, "map": 100}


def test_masks_as_maps_score_100_aligned_and_less_as_published(clip):
    items = drawn_masks([(40, 90), (100, 50), (64, 200), (70, 33)])
    aligned = evaluate(shown, items, clip, threshold=0.5)
    assert min(aligned.values()) > 96  # at 32 pixels the bicubic edge of the image is not the mask's
    published = evaluate(shown, items, clip, "published", threshold=0.5)
    assert all(published[name] < aligned[name] - 10 for name in aligned)

    square = drawn_masks([(40, 40), (100, 100), (64, 64)])
    assert evaluate(shown, square, clip) == evaluate(shown, square, clip, "published")
    clip.preprocess, clip.image_size = real_preprocess(224), (224, 224)  # at the size of a real model edges matter little
    fine = evaluate(shown, items, clip, threshold=0.5)
    assert min(fine.values()) > 99


def test_masks_as_maps_on_the_sandbox(sandbox):
    task = load_masks("sandbox", 20)
    masks = iter([prepare(task, sandbox)[k][1] for k in range(20)])
    result = evaluate(lambda pixels: torch.stack([next(masks).float() for _ in pixels]), task, sandbox, batch_size=6)
    assert result == {"pixel_accuracy": 100, "miou": 100, "map": 100}
    assert all(np.array_equal(prepare(task, sandbox, p)[3][1], task.images[3][1]) for p in ("aligned", "published"))


@pytest.mark.parametrize("size", [(40, 90), (91, 47), (32, 32), (20, 31)])
def test_images_are_cropped_as_preprocess_does(clip, sandbox, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    items = [(image, np.ones(size, bool))]
    for model in (clip, sandbox):
        for protocol in ("aligned", "published"):
            pixels, mask = prepare(items, model, protocol)[0]
            assert torch.equal(pixels, model.preprocess(image)) and mask.shape == model.image_size
            assert mask.dtype == torch.uint8 and (mask == 1).all()


def test_geometry_of_the_mask(clip):
    mask = np.zeros((32, 96), int)
    mask[:, 32:48] = 200  # any nonzero value but 255 is foreground
    items = [(Image.new("RGB", (96, 32)), mask)]
    aligned, published = (prepare(items, clip, protocol)[0][1] for protocol in ("aligned", "published"))
    assert aligned[:, :16].all() and not aligned[:, 16:].any()
    assert published[0].nonzero().flatten().tolist() == [11, 12, 13, 14, 15]  # centres of 32 columns among 96


def wide_tower(resize_mode="shortest", interpolation="bicubic", size=(32, 48)):
    """A tower that is not square, with the preprocess that OpenCLIP makes for it."""
    transform = image_transform(
        size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=resize_mode, interpolation=interpolation
    )
    return iu.Clip(tiny_model(image_size=size), transform)


@pytest.mark.parametrize(
    "settings", [{}, {"resize_mode": "squash"}, {"interpolation": "bilinear", "size": (32, 32)}, {"size": (48, 32)}]
)
@pytest.mark.parametrize("size", [(40, 90), (91, 47), (60, 60), (33, 50), (20, 31)])
def test_towers_that_are_not_square_see_image_and_mask_in_one_geometry(settings, size):
    """The image is its own mask, so both must end alike; and the image is what preprocess makes of it."""
    clip, (image, mask) = wide_tower(**settings), drawn_masks([size], seed=3)[0]
    pixels, prepared = prepare([(image, mask)], clip)[0]
    assert torch.equal(pixels, clip.preprocess(image)) and prepared.shape == pixels.shape[1:] == clip.image_size
    agree = (shown(pixels[None])[0] > 0.5) == (prepared == 1)
    assert agree.float().mean() > 0.97 and prepared.any()


def test_masks_are_taken_where_the_pixels_of_the_image_are(clip):
    """Of a picture shrunk to a fourth, not the upper left pixel of each block counts but its middle."""
    image, mask = drawn_masks([(256, 256)], seed=2)[0]
    pixels, prepared = prepare([(image, mask)], clip)[0]
    whole = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=(32, 32), mode="area")[0, 0]
    middle = lambda each: (each * torch.arange(32.0)).sum(-1).sum() / each.sum()  # noqa: E731
    for turn in (lambda each: each, torch.t):
        assert (middle(turn(prepared.float())) - middle(turn(whole))).abs() < 0.1
    assert ((shown(pixels[None])[0] > 0.5) == (prepared == 1)).float().mean() > 0.99


def test_a_preprocess_that_cannot_be_told_is_refused(clip):
    items = drawn_masks([(40, 50)])
    with pytest.raises(ValueError, match="must be a torchvision Compose with a Resize"):
        prepare(items, iu.Clip(clip.model, lambda image: torch.zeros(3, 32, 32)))
    for other in (transforms.RandomResizedCrop(32), transforms.Pad(4)):
        steps = [transforms.Resize(40), other, transforms.ToTensor()]
        with pytest.raises(ValueError, match="moves pixels by other steps than Resize, CenterCrop, ResizeKeepRatio"):
            prepare(items, iu.Clip(clip.model, transforms.Compose(steps)))[0]
    cropped = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])  # as timm does
    image, mask = prepare(items, iu.Clip(clip.model, cropped))[0]
    assert torch.equal(image, cropped(items[0][0])) and ((shown(image[None])[0] > 0.5) == (mask == 1)).float().mean() > 0.97


def test_pixels_that_nobody_knows_do_not_count(clip):
    """255 in a mask is a margin that was not labelled: whatever the map says there, the scores are those of the rest."""
    maps, masks = random_batch(5)
    masks = masks.to(torch.uint8)
    unknown = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    for setting in (("mean", True), (0.5, False)):
        found = SegmentationScores(*setting)
        found.update(maps, torch.where(unknown, 255, masks))
        other = SegmentationScores(*setting)
        other.update(maps, torch.where(unknown, 255, 1 - masks).where(unknown, masks))  # what hides under 255 is not looked at
        assert found.result() == other.result() and found.images[:, 0].sum() == (~unknown).sum()
        resized = normalised(maps, masks.shape[1:], setting[1])
        guess = resized > (resized.mean((1, 2), keepdim=True) if setting[0] == "mean" else setting[0])
        known, true = ~unknown, masks == 1
        assert found.result()["pixel_accuracy"] == pytest.approx(100 * (guess == true)[known].float().mean().item(), abs=1e-4)
        ious = [((guess == k) & (true == k))[known].sum() / ((guess == k) | (true == k))[known].sum() for k in (False, True)]
        assert found.result()["miou"] == pytest.approx(100 * torch.stack(ious).mean().item(), abs=1e-4)
        precisions = [
            average_precision_score(torch.cat([~t[k], t[k]]).numpy(), torch.cat([1 - heat[k], heat[k]]).numpy())
            for heat, t, k in zip(resized, true, known)
        ]
        assert found.result()["map"] == pytest.approx(100 * np.mean(precisions), abs=1e-3)
    image, mask = drawn_masks([(32, 32)])[0]
    margin = mask.copy()
    margin[0] = 255
    prepared = prepare([(image, margin), (image, Image.fromarray(margin)), (image, torch.from_numpy(margin))], clip)
    expected = torch.from_numpy(margin)
    assert all(torch.equal(prepared[k][1], expected) for k in range(3))


def test_a_mask_whose_255_means_the_object_is_refused(clip):
    image, mask = drawn_masks([(32, 32)])[0]
    with pytest.raises(ValueError, match="0 and 255 alone: .* if it means the object, give mask > 0"):
        prepare([(image, mask * 255)], clip)[0]
    with pytest.raises(ValueError, match="0 and 255 alone"):
        SegmentationScores().update(torch.randn(2, 4, 4), torch.from_numpy(np.stack([mask, mask * 255])))
    assert torch.equal(prepare([(image, mask * 255 > 0)], clip)[0][1], torch.from_numpy(mask))


@pytest.mark.parametrize(
    "wrong", [lambda m: m.astype(int) * 256, lambda m: -m.astype(int), lambda m: m * 0.5, lambda m: m[None], lambda m: m[:0]]
)
def test_masks_of_other_values_are_refused(clip, wrong):
    image, mask = drawn_masks([(32, 32)])[0]
    with pytest.raises(ValueError, match=r"item 0 needs a mask \[rows, columns\] of bools or whole numbers from 0 to 255"):
        prepare([(image, wrong(mask))], clip)[0]
    assert torch.equal(prepare([(image, mask.astype(float))], clip)[0][1], torch.from_numpy(mask))


def test_an_object_that_the_crop_cuts_away_is_left_out(clip):
    mask = np.zeros((32, 96), bool)
    mask[:, :8] = True  # a centre crop has columns 32 to 64
    outside = (Image.new("RGB", (96, 32)), mask)
    assert (prepare([outside], clip)[0][1] == 255).all() and not (prepare([outside], clip, "published")[0][1] == 255).any()
    items = drawn_masks([(40, 50)] * 2)
    with pytest.warns(UserWarning, match="1 of 3 images left out: no pixel of their object is in the crop"):
        found = evaluate(shown, [*items, outside], clip)
    assert found == evaluate(shown, items, clip)
    with pytest.warns(UserWarning, match="1 of 1 images left out"), pytest.raises(ValueError, match="no images yet .* 1 left out"):
        evaluate(shown, [outside], clip)
    empty = (Image.new("RGB", (96, 32)), np.zeros((32, 96), bool))
    assert (prepare([empty], clip)[0][1] == 0).all(), "an image without an object is one of background"


def test_images_beside_masks_are_read_as_all_are(clip):
    image, mask = drawn_masks([(40, 50)])[0]
    pixels = prepare([(image, mask)], clip)[0][0]
    for other in (np.asarray(image), np.asarray(image) / 255, np.asarray(image)[..., 0] > 127, image.convert("1")):
        assert torch.equal(prepare([(other, mask)], clip)[0][0], pixels)


def test_batch_size_does_not_matter(sandbox):
    task = load_masks("sandbox", 11)
    classifier = sandbox.encode_text(task.classes, task.templates)
    results = [evaluate(token_decomposition(sandbox, classifier), task, sandbox, batch_size=size) for size in (1, 4, 11)]
    assert results[0] == pytest.approx(results[1], abs=0.05) and results[0] == pytest.approx(results[2], abs=0.05)
    scores = {name: SegmentationScores(*setting) for name, setting in {"a": ("mean", True), "b": (0.5, False)}.items()}
    heatmap_fn = token_decomposition(sandbox, classifier)
    for numbers in (range(5, 11), range(5)):  # two parts, two settings in one pass
        pairs = [(s, lambda batch: (heatmap_fn(batch.pixels), batch.targets)) for s in scores.values()]
        feed(sandbox, prepare(task, sandbox), pairs, 4, numbers=numbers)
    assert scores["a"].result() == pytest.approx(results[0], abs=0.05)
    assert scores["b"].result() == pytest.approx(evaluate(heatmap_fn, task, sandbox, "aligned", 0.5, False), abs=0.05)


def test_token_decomposition_maps_are_the_scores_of_the_predicted_class(clip):
    pixels = noise(clip, 5, seed=3)
    classifier = F.normalize(torch.randn(6, clip.d_embed, generator=torch.Generator().manual_seed(0)), dim=1)
    best = (F.normalize(clip.encode_image(pixels), dim=1) @ classifier.T).argmax(1)
    assert len(best.unique()) > 1
    for ln in ("centered", "split"):
        maps = token_decomposition(clip, classifier, ln)(pixels)
        assert maps.shape == (5, *clip.grid)
        scores = iu.heads.direct_effects(clip, pixels, ln).scores(classifier, over="token")[:, 1:]  # [B, N, C]
        expected = torch.stack([s[:, c] - s.mean(1) for s, c in zip(scores, best)]).reshape(maps.shape)
        assert torch.allclose(maps, expected, atol=1e-5) and maps.std() > 1e-2
    assert count_hooks(clip.model) == 0


def test_for_predicted_class(clip):
    pixels = noise(clip, 5, seed=3)
    classifier = F.normalize(torch.randn(6, clip.d_embed, generator=torch.Generator().manual_seed(0)), dim=1)
    best = (F.normalize(clip.encode_image(pixels), dim=1) @ classifier.T).argmax(1)
    seen = []

    def explainer(model, images, text_features):
        images = images.clone().requires_grad_()
        (model.encode_image(images) * text_features).sum().backward()  # gradients must be possible inside evaluate
        seen.append(text_features)
        return images.grad.abs().sum(1)

    maps = for_predicted_class(clip, explainer, classifier)(pixels)
    assert maps.shape == (5, 32, 32) and torch.equal(seen[0], classifier[best])
    result = evaluate(for_predicted_class(clip, explainer, classifier), drawn_masks([(40, 50)] * 3), clip, batch_size=2)
    assert [len(text) for text in seen] == [5, 2, 1] and all(0 < value < 100 for value in result.values())


def test_the_thesis_map_finds_sandbox_objects(sandbox):
    task = load_masks("sandbox", 60)
    classifier = sandbox.encode_text(task.classes, task.templates)
    ours = evaluate(token_decomposition(sandbox, classifier), task, sandbox)
    generator = torch.Generator().manual_seed(0)
    chance = evaluate(lambda pixels: torch.randn(len(pixels), 8, 8, generator=generator), task, sandbox)
    assert ours["map"] > chance["map"] + 10 and ours["miou"] > chance["miou"] + 5


def test_errors(clip):
    items = drawn_masks([(40, 50)] * 2)
    with pytest.raises(ValueError, match="protocol must be 'aligned' or 'published', got 'squashed'"):
        evaluate(shown, items, clip, "squashed")
    with pytest.raises(ValueError, match="threshold must be 'mean' or a number from 0 to 1, got 'median'"):
        evaluate(shown, items, clip, threshold="median")
    with pytest.raises(ValueError, match="threshold must be 'mean' or a number from 0 to 1, got 50"):
        evaluate(shown, items, clip, threshold=50)
    with pytest.raises(ValueError, match="no images"):
        evaluate(shown, [], clip)
    with pytest.raises(ValueError, match=r"need maps \[B, rows, columns\] and masks \[B, H, W\], got \[2, 3, 32, 32\]"):
        evaluate(lambda pixels: pixels, items, clip)
    with pytest.raises(ValueError, match=r"got \[1, 32, 32\] and \[2, 32, 32\]"):
        evaluate(lambda pixels: pixels[:1, 0], items, clip)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(lambda pixels: shown(pixels) / 0, items, clip)
    with pytest.raises(ValueError, match=r"item 0 has an image of 40 x 50 and a mask of \[50, 40\]"):
        evaluate(shown, MaskTask([(items[0][0], items[0][1].T)], [], []), clip)
    with pytest.raises(ValueError, match="cannot read the image of item 0: need a path, .* got Tensor"):
        evaluate(shown, iu.sandbox.segmentation_images(2), clip)
    with pytest.raises(ValueError, match="no preprocess"):
        evaluate(shown, items, iu.Clip(tiny_model()))
    with pytest.raises(ValueError, match="no images yet"):
        SegmentationScores().result()
    for make in (token_decomposition, lambda clip, classifier: for_predicted_class(clip, None, classifier)):
        with pytest.raises(ValueError, match=r"need a classifier \[T, 24\] with T > 0, got \[24\]"):
            make(clip, torch.zeros(24))


def test_intervals_are_a_bootstrap_over_images(clip):
    rng = np.random.default_rng(0)
    masks = torch.zeros(40, 16, 16, dtype=torch.bool)
    masks[:, 4:12, 4:12] = True
    noisy, flat = masks.float() + torch.from_numpy(rng.normal(0, 0.5, masks.shape)).float(), torch.zeros(40, 16, 16)
    ours, background = SegmentationScores(), SegmentationScores()
    ours.update(noisy, masks)
    background.update(flat, masks)
    found, interval, lead = ours.result(), ours.interval(resamples=200), ours.interval(background, 200)
    for metric, value in found.items():
        low, high = interval[metric]
        assert low < value < high and high - low < 5
        difference = value - background.result()[metric]
        assert lead[metric][0] <= difference <= lead[metric][1]
    assert background.result() == pytest.approx({"pixel_accuracy": 75.0, "miou": 37.5, "map": 50.0})
    assert background.interval(resamples=20)["pixel_accuracy"] == pytest.approx([75, 75])
    assert ours.interval(ours, 20)["miou"] == [0, 0]
    rows = np.random.default_rng(3).integers(40, size=40)
    again = SegmentationScores()
    again.update(noisy[rows], masks[rows])
    assert interval["miou"][0] - 2 < again.result()["miou"] < interval["miou"][1] + 2
    with pytest.raises(ValueError, match="scores of the same images, got 40 and 0"):
        ours.interval(SegmentationScores())


def test_score_and_evaluate_agree(clip):
    masks = drawn_masks([(32, 32)] * 5)
    assert score(lambda pixels: pixels.mean(1), masks, clip).result() == evaluate(lambda pixels: pixels.mean(1), masks, clip)


def test_many_maps_are_scored_in_one_pass_as_one_by_one(sandbox):
    masks = load_masks("sandbox", 3)
    classifier = sandbox.encode_text(masks.classes, masks.templates)
    drawn = []
    maps = explainer_maps(sandbox, classifier)
    assert set(maps) == set(iu.thesis.SEGMENTATION) - {"token decomposition"}
    maps = {name: maps[name] for name in ("GradCAM",)}
    counted = maps | {"counted": lambda pixels: drawn.append(len(pixels)) or pixels.mean(1)}
    found = score_all(counted, masks, sandbox, ("mean", 0.5), batch_size=2)
    assert drawn == [2, 1] and len(found) == 4
    for name, heat in maps.items():
        assert found[name, "mean"].result() == pytest.approx(evaluate(heat, masks, sandbox), abs=0.05)
        assert found[name, 0.5].result() == pytest.approx(evaluate(heat, masks, sandbox, "aligned", 0.5, False), abs=0.05)


def test_maps_of_relevance_share_one_way_back(clip, monkeypatch):
    ways, walk = [], iu.explainers.of_relevance
    monkeypatch.setattr(iu.explainers, "of_relevance", lambda *args: ways.append(len(args[1])) or walk(*args))
    classifier = F.normalize(torch.randn(6, clip.d_embed, generator=torch.Generator().manual_seed(0)), dim=1)
    maps, masks = explainer_maps(clip, classifier), drawn_masks([(32, 32)] * 3)
    found = score_all(maps, masks, clip, batch_size=2)
    assert ways == [2, 1]
    for name, single in {"LRP": "lrp", "partial LRP": "partial_lrp", "Chefer et al.": "chefer"}.items():
        alone = for_predicted_class(clip, getattr(iu.explainers, single), classifier)
        assert found[name, "mean"].result() == pytest.approx(evaluate(alone, masks, clip), abs=0.05)


def test_maps_of_one_classifier_share_the_pass_that_predicts_the_class(clip, monkeypatch):
    passes, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    classifier = F.normalize(torch.randn(6, clip.d_embed, generator=torch.Generator().manual_seed(0)), dim=1)
    seen = {"one": [], "other": [], "flipped": []}

    def explainer(name):
        return lambda clip, pixels, vectors: seen[name].append(vectors) or pixels.mean(1)

    maps = {name: for_predicted_class(clip, explainer(name), classifier) for name in ("one", "other")}
    maps["flipped"] = for_predicted_class(clip, explainer("flipped"), -classifier)
    score_all(maps, drawn_masks([(32, 32)] * 3), clip, batch_size=2)
    assert passes == [2, 2, 1, 1], "of each batch one for each classifier"
    one, other, flipped = (torch.cat(each) for each in seen.values())
    assert torch.equal(one, other) and not torch.equal(one, flipped)


def test_scores_are_said_with_their_intervals():
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 2:6] = True
    scores = SegmentationScores()
    scores.update(torch.zeros(4, 8, 8), masks)
    assert scores.said(20) == ["75.0 (75.0 to 75.0)", "37.5 (37.5 to 37.5)", "50.0 (50.0 to 50.0)"]
