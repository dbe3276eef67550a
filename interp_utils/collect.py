"""What chapter 2, 3, 4 or 5 wants of its images, from passes that can be stopped and shared: python -m interp_utils.collect

    python -m interp_utils.collect --clip ViT-L-14/laion2b_s32b_b82k --images imagenet --save-to run.safetensors
    python -m interp_utils.collect --preset paper --statistics neurons --save-to neurons.safetensors    for chapter 3
    python -m interp_utils.collect --preset paper --statistics matches --save-to matches.safetensors    for chapter 4
    python -m interp_utils.collect --preset paper --statistics units --save-to units.safetensors        for chapters 5a and 5b
    torchrun --nproc-per-node 8 -m interp_utils.collect ...    the same, by eight processes

Started again, it goes on where it was. The notebooks read the file where it is named in RUN, and so does
`interp_utils.collected("run.safetensors")` for chapter 2.
"""

import argparse

from .collecting import ALONE, STATISTICS, collect, collect_matches, collect_neurons, collect_units, zoo
from .datasets import load_task
from .models import load_clip
from .presets import PRESETS
from .processes import rank_and_count
from .texts import load_pool, understood

_OF_IMAGES = ("clip", "precision", "images", "n_images", "texts", "ln", "skip")  # which chapter 4 has no use for


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.collect", description=__doc__.splitlines()[0].split(":")[0] + ".")
    parser.add_argument("--preset", choices=PRESETS, help="model, images, texts and ln as in the notebooks; what else is told wins")
    parser.add_argument("--clip", default="sandbox", help="a model as load_clip takes it, say ViT-B-32-quickgelu/openai")
    parser.add_argument("--precision", default="fp32", help="of its weights, as load_clip takes it")
    parser.add_argument("--images", default="sandbox", help="an image set by name, or a folder, as load_task takes it")
    parser.add_argument("--n-images", type=int, help="so many images of the set; all by default")
    parser.add_argument("--texts", default="general", help="a pool of texts by name, or a file, for the top images")
    parser.add_argument(
        "--statistics", default=",".join(STATISTICS), help=f"some of {','.join(STATISTICS)}; or one of {', '.join(ALONE)}, alone"
    )
    parser.add_argument("--ln", default="centered", help='"centered", or "split" for the numbers of the thesis')
    parser.add_argument("--save-to", required=True, help="the file to write, and to go on from")
    parser.add_argument("--every", type=float, default=60, help="seconds from one writing of what is there to the next")
    parser.add_argument("--batch-size", type=int, help="by default 64, of chapter 4 32")
    parser.add_argument("--skip", action="store_true", help="leave out images that cannot be read, and list them")
    asked = parser.parse_args(arguments)
    statistics = asked.statistics.split(",")
    alone = next((name for name in statistics if name in ALONE), None)
    if alone and len(statistics) > 1:
        rest = ",".join(name for name in statistics if name != alone)
        parser.error(
            f"{alone} are asked for alone, in a file of their own, which {ALONE[alone]} reads. Run twice: --statistics {alone} "
            f"--save-to {alone}.safetensors, and --statistics {rest} --save-to run.safetensors"
        )
    if alone == "matches":
        told = [name for name in _OF_IMAGES if getattr(asked, name) != parser.get_default(name)]
        if told or not asked.preset:
            without = f", without --{told[0].replace('_', '-')}" if told else ""
            parser.error(f"matches are of the models and samples of a preset: say --preset sandbox or another{without}")
        _, reference, models, _, samples = zoo(PRESETS[asked.preset])
        collect_matches(reference, list(models.values()), samples, asked.save_to, asked.batch_size or 32)
        said = f"matches of {reference.name} with {', '.join(models)}"
    else:
        said = _from_images(parser, arguments, alone)
    if rank_and_count()[0] == 0:
        print(f"{asked.save_to}: {said}")


def _from_images(parser: argparse.ArgumentParser, arguments: list[str] | None, alone: str | None) -> str:
    """Pass over images; says what was found."""
    asked = parser.parse_args(arguments)
    if preset := PRESETS.get(asked.preset):
        images = (preset.fit, preset.n_fit) if alone else (preset.images, preset.n_images)
        ln = "centered" if alone == "units" else preset.ln  # as chapter 5 does under every preset
        parser.set_defaults(images=images[0], n_images=images[1], texts=preset.pool, ln=ln)
        parser.set_defaults(clip=preset.neurons_clip if alone == "neurons" else preset.clip)
        asked = parser.parse_args(arguments)
    clip = load_clip(asked.clip, precision=asked.precision, ln=asked.ln)
    task = load_task(asked.images, clip.preprocess, asked.n_images)
    options = {"every": asked.every, "batch_size": asked.batch_size or 64, "on_error": "skip" if asked.skip else "raise"}
    if alone == "neurons":
        orders = collect_neurons(clip, task.images, asked.save_to, **options)
        return f"neurons of layers {', '.join(str(order.layer) for order in orders)}"
    if alone == "units":
        found = collect_units(clip, task.images, asked.save_to, **options)
        return f"{len(found.moments)} heads, neurons of layers {', '.join(str(order.layer) for order in found.orders)}"
    pool = understood(clip, load_pool(asked.texts))
    found = collect(clip, task, pool, asked.save_to, asked.statistics.split(","), **options)
    return ", ".join(name for name, each in found._asdict().items() if each is not None)


if __name__ == "__main__":
    main()
