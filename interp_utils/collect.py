"""What chapter 2 or 3 wants from a set of images, from two passes that can be stopped and shared: python -m interp_utils.collect

    python -m interp_utils.collect --clip ViT-L-14/laion2b_s32b_b82k --images imagenet --save-to run.safetensors
    python -m interp_utils.collect --preset paper --statistics neurons --save-to neurons.safetensors    for chapter 3
    torchrun --nproc-per-node 8 -m interp_utils.collect ...    the same, by eight processes

Started again, it goes on where it was. The notebooks read the file where it is named in RUN, and so does
`interp_utils.collected("run.safetensors")` for chapter 2.
"""

import argparse

from .collecting import STATISTICS, collect, collect_neurons
from .datasets import load_task
from .models import load_clip
from .presets import PRESETS
from .processes import rank_and_count
from .texts import load_pool, understood


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.collect", description=__doc__.splitlines()[0].split(":")[0] + ".")
    parser.add_argument("--preset", choices=PRESETS, help="model, images, texts and ln as in the notebooks; what else is told wins")
    parser.add_argument("--clip", default="sandbox", help="a model as load_clip takes it, say ViT-B-32-quickgelu/openai")
    parser.add_argument("--precision", default="fp32", help="of its weights, as load_clip takes it")
    parser.add_argument("--images", default="sandbox", help="an image set by name, or a folder, as load_task takes it")
    parser.add_argument("--n-images", type=int, help="so many images of the set; all by default")
    parser.add_argument("--texts", default="general", help="a pool of texts by name, or a file, for the top images")
    parser.add_argument("--statistics", default=",".join(STATISTICS), help="some of " + ",".join(STATISTICS) + "; or neurons")
    parser.add_argument("--ln", default="centered", help='"centered", or "split" for the numbers of the thesis')
    parser.add_argument("--save-to", required=True, help="the file to write, and to go on from")
    parser.add_argument("--every", type=float, default=60, help="seconds from one writing of what is there to the next")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--skip", action="store_true", help="leave out images that cannot be read, and list them")
    asked = parser.parse_args(arguments)
    neurons = asked.statistics == "neurons"
    if preset := PRESETS.get(asked.preset):
        images = (preset.fit, preset.n_fit) if neurons else (preset.images, preset.n_images)
        parser.set_defaults(images=images[0], n_images=images[1], texts=preset.pool, ln=preset.ln)
        parser.set_defaults(clip=preset.neurons_clip if neurons else preset.clip)
        asked = parser.parse_args(arguments)
    clip = load_clip(asked.clip, precision=asked.precision)
    task = load_task(asked.images, clip.preprocess, asked.n_images)
    options = {"every": asked.every, "batch_size": asked.batch_size, "on_error": "skip" if asked.skip else "raise"}
    if neurons:
        orders = collect_neurons(clip, task.images, asked.save_to, asked.ln, **options)
        said = f"neurons of layers {', '.join(str(order.layer) for order in orders)}"
    else:
        pool = understood(clip, load_pool(asked.texts))
        found = collect(clip, task, pool, asked.save_to, asked.statistics.split(","), asked.ln, **options)
        said = ", ".join(name for name, each in found._asdict().items() if each is not None)
    if rank_and_count()[0] == 0:
        print(f"{asked.save_to}: {said}")


if __name__ == "__main__":
    main()
