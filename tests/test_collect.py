"""One command collects what chapters 2 to 5 want, and what it wrote is what their functions give."""

import re

import pytest
import torch
from small_clips import noise, tiny_model

import interp_utils as iu
from interp_utils import collect as command
from interp_utils import collecting as room
from interp_utils import downloads, rosetta
from interp_utils.collect import main
from interp_utils.datasets import Task, load_task
from interp_utils.fingerprints import fingerprint
from interp_utils.presets import PRESETS
from interp_utils.sandbox import known
from interp_utils.sandbox.known import mining
from interp_utils.saved import read
from interp_utils.texts import Pool, load_pool, understood

POOL = Pool(["a dog", "a cat", "a red square", "a photo of the sea"], [""] * 4)


@pytest.fixture
def task(tiny):
    return Task([(image, k % 2) for k, image in enumerate(noise(tiny, 9))], ["dog", "cat"], ["a {}"])


def test_it_is_what_the_functions_give_from_two_passes(tiny, task, tmp_path, monkeypatch):
    passes, encode = [], tiny.encode_image
    monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    path = tmp_path / "run.safetensors"
    room.collect(tiny, task, POOL, path, batch_size=4)
    assert passes == 2 * [4, 4, 1], "with a file nothing else is kept of a pass"
    found = iu.collected(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    moments = iu.heads.head_moments(tiny, task.images, batch_size=4)
    assert found.moments.keys() == moments.keys()
    for head, each in moments.items():
        assert fingerprint(vars(each)) == fingerprint(vars(found.moments[head]))
    classifier, features = tiny.encode_text(task.classes, task.templates), tiny.encode_text(POOL.texts)
    ablations = iu.heads.ablations_of_tables(tiny)
    answers = iu.heads.answers_under(tiny, task.images, classifier, ablations, batch_size=4)
    assert fingerprint(answers) == fingerprint(found.answers) and list(found.accuracy) == list(ablations)
    plain = iu.heads.accuracy_under(tiny, task.images, classifier, ablations, batch_size=4)
    assert found.accuracy == pytest.approx({name: each.overall for name, each in plain.items()})
    truth = [label for _, label in task.images]
    assert found.layers.labels.tolist() == truth
    layers = iu.stream.collect(tiny, task.images, lambda batch: batch.layers, batch_size=4)
    assert torch.equal(found.layers.effects, layers)
    spans = {head: iu.heads.textspan(each, features, POOL.texts) for head, each in moments.items()}
    assert {head: span.texts for head, span in found.spans.items()} == {head: span.texts for head, span in spans.items()}
    tops = iu.heads.top_images(tiny, task.images, found.spans, features, batch_size=4)
    assert all(torch.equal(tops[head], each) for head, each in found.tops.items())
    assert room.collect(tiny, task, POOL, path, batch_size=4).about == found.about and len(passes) == 21, "a finished file is read"
    assert room.collect(tiny, task, POOL, path, ["heads"]).tops is not None and len(passes) == 21, "also for less, in other batches"
    passes.clear()
    anew = room.collect(tiny, task, POOL, batch_size=4)
    assert fingerprint(anew) == fingerprint(found), "with a file and without"
    assert passes == [4, 4, 1], "without, a small set runs the model once"
    passes.clear()
    with monkeypatch.context() as little:
        little.setattr(iu.stream, "MOST", 0)
        again = room.collect(tiny, task, POOL, batch_size=4)
    assert passes == 2 * [4, 4, 1] and fingerprint(again) == fingerprint(found), "and where memory does not hold a pass"
    assert room.collect(tiny, task, POOL, batch_size=4, numbers=range(5)).layers.labels.tolist() == truth[:5]
    with pytest.raises(ValueError, match="it differs in choice of images"):
        room.collect(tiny, task, POOL, path, numbers=range(5))


def test_what_was_not_asked_for_is_none_and_other_runs_are_refused(tiny, task, tmp_path):
    path = tmp_path / "run.safetensors"
    found = room.collect(tiny, task, POOL, path, ["ablations"])
    assert found.moments is None and found.spans is None and found.tops is None and found.answers is not None
    with pytest.raises(ValueError, match=r"belongs to another run: it differs in statistics \(ablations there, heads here\)"):
        room.collect(tiny, task, POOL, path, ["heads"])
    with pytest.raises(ValueError, match="it differs in listing of the dataset"):
        room.collect(tiny, task._replace(images=task.images[::-1]), POOL, path, ["ablations"])
    with pytest.raises(ValueError, match="statistics must be some of heads, ablations, layers, top, got neurons"):
        room.collect(tiny, task, POOL, path, ["neurons"])
    with pytest.raises(ValueError, match="the images have no labels"):
        room.collect(tiny, task._replace(images=[image for image, _ in task.images]), POOL)
    with pytest.raises(FileNotFoundError, match="no file"):
        iu.collected(tmp_path / "none.safetensors")
    (tmp_path / "none.1.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="has not come to its end: start it again"):
        iu.collected(tmp_path / "none.safetensors")
    iu.stream.feed(tiny, task.images, [(iu.moments.Moments(), lambda batch: batch.pixels)], save_to=tmp_path / "pass.safetensors")
    with pytest.raises(ValueError, match="is no result of interp_utils.collect"):
        iu.collected(tmp_path / "pass.safetensors")


def test_neurons_are_what_fit_finds(tmp_path):
    clip, path = iu.Clip(tiny_model(layers=4)), tmp_path / "run.safetensors"
    images, nn = noise(clip, 9), iu.neurons
    plain = [nn.second_order(clip, layer, relative=True) for layer in nn.curve_layers(4)]
    nn.fit(plain, images, 8, batch_size=4)
    for orders in (room.collect_neurons(clip, images, path, batch_size=4), room.collect_neurons(clip, images, path)):
        assert [order.layer for order in orders] == [0, 1, 2]
        assert [fingerprint(order.rank_one) for order in orders] == [fingerprint(order.rank_one) for order in plain]
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="belongs to another run: it differs in listing of the dataset"):
        room.collect_neurons(clip, -images, path)
    with pytest.raises(ValueError, match="is no result of interp_utils.collect for chapter 2"):
        iu.collected(path)


def test_the_command_takes_a_preset_and_what_is_told_besides(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(room.neurons, "curve_layers", lambda n_layers: [n_layers - 3, n_layers - 2])
    path = tmp_path / "neurons.safetensors"
    main(["--preset", "sandbox", "--statistics", "neurons", "--n-images", "4", "--save-to", str(path)])
    assert capsys.readouterr().out.startswith(f"{path}: neurons of layers 7, 8")
    assert read(path)[1]["images"] == "4"


def test_the_command_writes_what_notebooks_read(sandbox, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(room.heads, "LAST_LAYERS", 1)  # texts and top images of six heads
    path = tmp_path / "run.safetensors"
    (tmp_path / "texts.txt").write_text("a dog\na cat\na beach\nat night")
    told = ["--n-images", "6", "--texts", str(tmp_path / "texts.txt"), "--batch-size", "3", "--save-to", str(path)]
    main(told)
    assert capsys.readouterr().out.startswith(f"{path}: moments, answers, layers, spans, tops, about")
    found = iu.collected(path)
    assert len(found.moments) == 60 and len(found.answers.groups) == 6 and len(found.tops) == 6
    assert found.about["clip"] == "sandbox" and found.about["images"] == "6"
    monkeypatch.setattr(room.heads, "feed", None)  # what a notebook asks for is read
    task, pool = load_task("sandbox", sandbox.preprocess, 6), understood(sandbox, load_pool(tmp_path / "texts.txt"))
    assert fingerprint(room.collect(sandbox, task, pool, path, ln="centered")) == fingerprint(found)
    with pytest.raises(ValueError, match="it differs in ln"):
        main([*told, "--ln", "split"])


def test_units_are_what_chapter_5_computes_and_one_file_serves_any_layers(tmp_path, monkeypatch):
    clip, path = iu.Clip(tiny_model(layers=4)), tmp_path / "units.safetensors"
    images, nn = noise(clip, 9), iu.neurons
    moments = iu.heads.head_moments(clip, images, [2, 3], batch_size=4)
    lens = nn.second_order(clip, 1, relative=True)
    nn.fit([lens], images, 30, batch_size=4)
    runs = []
    clip.model.visual.register_forward_hook(lambda module, args, output: runs.append(len(args[0])))
    without = room.collect_units(clip, images, heads=[2, 3], neurons=[1], batch_size=4)
    assert runs == [4, 4, 1], "every image once"
    written = room.collect_units(clip, images, path, heads=[2, 3], neurons=[1], batch_size=4)
    assert runs == 3 * [4, 4, 1], "in each of two passes"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(room.neurons, "fit", None)  # from here on the file is read
    read_again = room.collect_units(clip, images, path, heads=[2, 3], neurons=[1])
    for found in (without, written, read_again):
        assert found.moments.keys() == moments.keys() and [order.layer for order in found.orders] == [1]
        assert all(fingerprint(vars(each)) == fingerprint(vars(moments[head])) for head, each in found.moments.items())
        assert fingerprint(found.orders[0].rank_one) == fingerprint(lens.rank_one)
    whole = room.collect_units(clip, images, path)
    assert len(whole.moments) == 4 * clip.n_heads and [order.layer for order in whole.orders] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"belongs to another run: it differs in statistics \(units there, neurons here\)"):
        room.collect_neurons(clip, images, path)
    clip.model.visual.proj.data.mul_(2)
    with pytest.raises(ValueError, match="belongs to another run: it differs in weights"):
        room.collect_units(clip, images, path)


@pytest.fixture
def matched():
    """What `collect_matches` takes: a generator and two models that see, of few units, and samples."""
    generator = rosetta.load_unit_model("sandbox/big_gan", device="cpu")
    seeing = [rosetta.load_unit_model(f"sandbox/viewers/{name}", device="cpu") for name in ("resnet", "clip_resnet")]
    for model in (generator, *seeing):
        model.layers = model.layers[:2]
    return generator, seeing, {"any": generator.sample(6), "others": generator.sample(4, seed=1)}


def test_matches_are_those_of_match_and_go_on_after_the_pairs_that_are_done(matched, tmp_path, monkeypatch):
    generator, seeing, samples = matched
    plain = {name: rosetta.match(generator, [*seeing, generator], sample, 32) for name, sample in samples.items()}
    path, ran, match = tmp_path / "matches.safetensors", [], room.matches.match

    def counted(reference, others, *rest):
        if len(ran) == 4:
            raise KeyboardInterrupt
        ran.append(others[0].name)
        return match(reference, others, *rest)

    monkeypatch.setattr(room.matches, "match", counted)
    with pytest.raises(KeyboardInterrupt):
        room.collect_matches(generator, seeing, samples, path)
    assert not path.exists() and len(ran) == 4
    with pytest.raises(ValueError, match="belongs to another run: it differs in sample 'others'"):
        room.collect_matches(generator, seeing, samples | {"others": generator.sample(5)}, path)
    ran[:] = ran[:2]  # two more are allowed, which is what is left
    found = [room.collect_matches(generator, seeing, samples, path)]
    assert ran[2:] == [seeing[1].name, generator.name] and [each.name for each in tmp_path.iterdir()] == [path.name]
    found.append(room.collect_matches(generator, seeing, samples, path))
    monkeypatch.setattr(room.matches, "match", match)
    found.append(room.collect_matches(generator, seeing, samples))
    for each in found:
        assert fingerprint(each) == fingerprint(plain), "to the last bit"
        rosetta.build_dictionary(each["any"][:-1], each["any"][-1])
    with pytest.raises(ValueError, match=r"it differs in model sandbox/viewers/clip_resnet \(.* there, nothing here\)"):
        room.collect_matches(generator, seeing[:1], samples, path)
    blank = rosetta.load_unit_model(seeing[1].name, device="cpu", pretrained=False)
    with pytest.raises(ValueError, match=r"belongs to another run: it differs in model sandbox/viewers/clip_resnet"):
        room.collect_matches(generator, [seeing[0], blank], samples, path)


def test_the_command_matches_the_models_of_a_preset(tmp_path, capsys, monkeypatch, matched):
    asked = []
    monkeypatch.setattr(command, "zoo", lambda preset: asked.append(preset.name) or room.Zoo(None, *three(matched)))
    path = tmp_path / "matches.safetensors"
    main(["--preset", "laptop", "--statistics", "matches", "--save-to", str(path)])
    assert asked == ["laptop"] and read(path)[1]["statistics"] == "matches"
    assert capsys.readouterr().out.startswith(f"{path}: matches of sandbox/big_gan with sandbox/viewers/resnet, ")


def three(matched):
    generator, seeing, samples = matched
    return generator, {model.name: model for model in seeing}, None, samples


@pytest.mark.parametrize(
    "told, said",
    [
        ("heads,neurons", r"neurons are asked for alone, .* which chapter 3 reads. Run twice: --statistics neurons --save-to "
         r"neurons.safetensors, and --statistics heads --save-to run.safetensors$"),
        ("matches,heads,top", r"matches are asked for alone.* --statistics heads,top --save-to run.safetensors$"),
        ("matches", "say --preset sandbox or another$"),
        ("matches --preset colab --n-images 4", "say --preset sandbox or another, without --n-images$"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_with_what_to_type(told, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--statistics", *told.split(), "--save-to", str(tmp_path / "run.safetensors")])
    assert re.search(said, capsys.readouterr().err.strip())


def test_the_zoo_is_what_the_presets_download():
    zoo = room.zoo(PRESETS["laptop"])
    assert zoo.kind is None and list(zoo.models) == list(mining.SEEING) and len(zoo.samples["one class"][0]) == 96
    one, any_ = (zoo.samples[name][1].argmax(1).unique() for name in ("one class", "any"))
    assert len(any_) > 5 and one.tolist() == [known.KINDS.index("cat")]
    for name in ("colab", "paper"):
        needed = {download.name for download in downloads.needs(PRESETS[name]) if download.kind == "units"}
        assert {"biggan_deep256", *downloads.MATCHED} <= needed
