"""Image sets of a few tiny files in the layouts of the real ones, shared by tests."""

import h5py
import numpy as np
from PIL import Image

WATERBIRDS = "waterbird_complete95_forest2water2"


def write_image(path, colour, mode="RGB", size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def write_waterbirds(root, columns="img_id,img_filename,y,split,place,place_filename"):
    lines = [columns]
    for k in range(24):  # split, class and place run through all combinations
        split, y, place = k % 3, k // 3 % 2, k // 6 % 2
        name = f"{k:03d}.Bird/Bird_{k}.jpg"
        write_image(root / WATERBIRDS / name, 10 * k, "L" if k == 5 else "RGB")
        lines.append(f"{k},{name},{y},{split},{place},/o/ocean/{k}.jpg")
    (root / WATERBIRDS / "metadata.csv").write_text("\n".join(lines) + "\n")


def matlab_images(n=5):
    """Images [rows, columns, 3] and masks [rows, columns] as MATLAB sees them; the last image is greyscale."""
    rng = np.random.default_rng(0)
    sizes = [(6 + k, 11 - k) for k in range(n)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    images[-1] = images[-1][..., 0]
    return images, [rng.integers(0, 2, size, np.uint8) for size in sizes]


def write_gtsegs(path, images, masks, cells=True):
    """As MATLAB writes a v7.3 struct array: object references, axes reversed; masks are in cells of their own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        store = file.create_group("#refs#")

        def column(key, arrays):
            refs = np.empty((len(arrays), 1), object)
            for k, array in enumerate(arrays):
                refs[k, 0] = store.create_dataset(f"{key}{k}", data=array.T).ref
                if key == "gt" and cells:
                    cell = store.create_dataset(f"cell{k}", (1, 1), h5py.ref_dtype)
                    cell[0, 0] = refs[k, 0]
                    refs[k, 0] = cell.ref
            file.create_dataset(f"value/{key}", data=refs, dtype=h5py.ref_dtype)

        column("img", images)
        column("gt", masks)


def write_pets(root):
    base = root / "pets" / "oxford-iiit-pet"
    lines = []
    for k, breed in enumerate(["Abyssinian", "american_bulldog", "Bengal"]):
        write_image(base / "images" / f"{breed}_{k}.jpg", 50 * k, "L" if k == 2 else "RGB")
        trimap = np.full((8, 12), 2, np.uint8)
        trimap[2:6, 2 : 6 + k] = 3
        trimap[3:5, 3:5] = 1
        (base / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
        Image.fromarray(trimap).save(base / "annotations" / "trimaps" / f"{breed}_{k}.png")
        lines.append(f"{breed}_{k} {k + 1} {1 + (k == 1)} 1\n")
    (base / "annotations" / "test.txt").write_text("".join(lines))
