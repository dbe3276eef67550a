"""Write the atlas of a model: python -m interp_utils.atlas --clip sandbox --out build/atlas"""

import argparse
import dataclasses

import interp_utils as iu
from interp_utils.sandbox.known import KINDS, mining
from interp_utils.sandbox.known.units import NAME, style

from . import Atlas, measure, measure_concepts, write


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.atlas", description=__doc__.splitlines()[0].split(":")[0] + ".")
    parser.add_argument("--clip", default="sandbox", help="a model as load_clip takes it, say ViT-B-32-quickgelu/openai")
    parser.add_argument("--images", help="an image set by name, or a folder; the sandbox's own by default, else imagenette")
    parser.add_argument("--texts", help="a pool of texts by name, or a file; the sandbox's own by default, else general")
    parser.add_argument("--n-images", type=int, default=1000, help="so many images of the set")
    parser.add_argument("--neurons", type=int, default=16, help="so many neurons of each of the layers that chapter 3 reads")
    parser.add_argument("--mined", type=int, default=160, help="drawn images to mine the sandbox's concepts on; 0 for none")
    parser.add_argument("--out", default="build/atlas", help="the folder to write")
    parser.add_argument("--notebooks", help="where the notebooks' pages lie, as seen from that folder, to link to them")
    asked = parser.parse_args(arguments)
    clip, known = iu.load_clip(asked.clip), asked.clip.startswith("sandbox")
    images = asked.images or ("sandbox" if known else "imagenette")
    task = iu.datasets.load_task(images, clip.preprocess, asked.n_images)
    pool = iu.texts.load_pool(asked.texts or ("sandbox" if known else "general"))
    atlas = measure(clip, task.images, pool, n_neurons=asked.neurons, factors=known and images == "sandbox")
    if known and asked.mined:
        atlas = with_concepts(atlas, mining.mine(n=asked.mined))
    pages = write(atlas, asked.out, asked.notebooks)
    print(f"{len(pages)} pages; open {pages[0]}")


def with_concepts(atlas: Atlas, mined: mining.Mined, n: int = 40) -> Atlas:
    """The atlas with concepts of the sandbox's known generator, looked for on n images of one whole object each."""
    z, kinds, _ = mining.chosen(n)
    latents = style(iu.rosetta.load_unit_model(NAME), z), kinds
    objects = mining.with_objects(mined.generator)
    entries, pictures = measure_concepts(mined.generator, mined.models, mined.dictionary, latents, objects=objects)
    captions = {name: f"drawn image {name.removeprefix('drawn_')}: {KINDS[int(name[6:]) % len(KINDS)]}" for name in pictures}
    return dataclasses.replace(atlas, concepts=entries, pictures=atlas.pictures | pictures, captions=atlas.captions | captions)


if __name__ == "__main__":
    main()
