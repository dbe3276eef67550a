"""Models that write descriptions, paint images and compare words (thesis, section 3.5 and table A.2): extra "generate"."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..models import best_device

Writer = Callable[[Sequence[str], str, str, int, int], list[str]]  # words, true, wrong, n, seed -> descriptions
Painter = Callable[[Sequence[str], int, int], list[list[Image.Image]]]  # descriptions, per_text, seed -> images of each

SYSTEM = "You are a capable instruction-following AI agent."
_PROMPT = (
    "I want to generate an image by providing image descriptions as input to a text-to-image model. The image descriptions "
    'should be short. Each of them must include the word "{true}". They must not include the word "{wrong}", any synonym of '
    "it, or a plural version! The image descriptions should include as many words as possible from the next list and almost no "
    "other words: {words} Do not use names of people or places from the list unless they are famous and there is something "
    "visually distinctive about them. In each of the image descriptions mention as many objects and animals as possible from "
    "the list above. If you want to mention the place in which the image is taken or a name of a person, describe it with "
    'visually distinctive words. For example, if "Paris" is in the list, instead of saying "... in Paris", say "... with the '
    "Eiffel Tower in the background\" or \"... next to a sign saying 'Paris'\". Don't mention words that are too similar to "
    '"{wrong}", even if they are in the list above. For example, if the word was "tree" you should not mention "trees", "bush" '
    'or "eucalyptus". Only use words that you know what they mean. Generate a list of {n} image descriptions.'
)
_CLASS_PROMPT = (  # table A.2, which is table B.3
    "Provide 40 image characteristics that are true for almost all the images of {name}. Be as general as possible and give "
    "short descriptions presenting one characteristic at a time that can describe almost all the possible images of this "
    'category. Don\'t mention the category name itself (which is "{name}"). Here are some possible phrases: "Image with texture '
    'of ...", "Picture taken in the geographical location of...", "Photo that is taken outdoors", "Caricature with text", "Image '
    'with the artistic style of...", "Image with one/two/three objects", "Illustration with the color palette ...", "Photo taken '
    'from above/below", "Photograph taken during ... season". Just give the short titles, don\'t explain why, and don\'t combine '
    'two different concepts (with "or" or "and").'
)
_WRITER = "meta-llama/Meta-Llama-3-8B-Instruct"  # the thesis's; gated
_ITEM = re.compile(r"(?:#*\s*(?:(?:image|description|prompt)\s+)*\(?\d{1,3}(?:\s*[.):](?!\d)|\s+[-–](?=\s))\s*|[-*•–]\s+)+", re.I)
_EMPHASIS = re.compile(r"\*(\S(?:[^*]*\S)?)\*")
_QUOTED = re.compile(r"""^(?:"([^"]*)"|'([^']*)'|“([^“]*)”|‘([^‘]*)’)[.,]?$""")
_AT_ONCE = 5  # images of one description that are painted together


def prompt(words: Sequence[str], true: str, wrong: str, n: int = 50) -> str:
    """What the language model is asked, after SYSTEM: the prompt of table B.2, filled in (the words as "[a, b, c]").

    true: the object that every description must name (class_1 in the table). wrong: the class to induce, which none may name
    (class_2). n: how many descriptions. Raises ValueError for no words, a blank one or n < 1.
    """
    texts = (true, wrong, *words)
    if isinstance(words, str) or len(words) == 0 or not all(isinstance(t, str) and t.strip() for t in texts) or n < 1:
        raise ValueError(f"need a list of words, two class names, none of them blank, and n >= 1, got {(words, true, wrong, n)!r}")
    return _PROMPT.format(words=f"[{', '.join(words)}]", true=true, wrong=wrong, n=n)


def parse_descriptions(reply: str) -> list[str]:
    """The descriptions in a language model's reply, one a line, without numbers, bullets, quotes and markdown.

    Where some lines are numbered or have bullets, the others are remarks and left out, as is a line that ends with a colon.
    """
    lines = [re.sub(r"\*\*|__|`", "", line).strip() for line in reply.splitlines()]
    listed = [line[item.end() :] for line in lines if (item := _ITEM.match(line))]
    texts = [_QUOTED.sub(r"\1\2\3\4", _EMPHASIS.sub(r"\1", text).strip()).strip() for text in listed or lines]
    return [text for text in texts if text and not text.endswith(":")]


def language_model(model_id: str = _WRITER, device=None, max_new_tokens: int = 3072) -> Writer:
    """A writer of image descriptions, `writer(words, true, wrong, n, seed) -> list[str]`: at most n, the same for one seed.

    model_id: a causal language model of the Hugging Face Hub, or its folder. The default (thesis) is gated and takes 16 GB;
    "Qwen/Qwen2.5-1.5B-Instruct" and "HuggingFaceTB/SmolLM2-1.7B-Instruct" are not and take 3 GB. The tokenizer's chat template
    is used where there is one, half precision on GPUs, and the released script's temperature; its 1024 tokens can cut off a list
    of 50; 3072 are 60 for each, and what is cut off is left out. Warns where there are fewer than n.
    Raises ImportError without transformers, OSError for a model that cannot be loaded, ValueError as `prompt` does.
    """
    ask = chat(model_id, device, max_new_tokens)

    def write(words: Sequence[str], true: str, wrong: str, n: int, seed: int) -> list[str]:
        descriptions = parse_descriptions(ask(prompt(words, true, wrong, n), seed))[:n]
        if len(descriptions) < n:
            warnings.warn(f"{model_id} wrote {len(descriptions)} of {n} descriptions; try another seed or model", stacklevel=2)
        return descriptions

    return write


def class_writer(model_id: str = _WRITER, device=None, max_new_tokens: int = 2048) -> Callable[[str], list[str]]:
    """A writer of what images of a class look like, `writer(name) -> list[str]`, for `texts.class_descriptions`.

    It is asked for 40 descriptions by the prompt of table A.2 (thesis). Arguments and errors are those of `language_model`.
    """
    ask = chat(model_id, device, max_new_tokens)
    return lambda name: parse_descriptions(ask(_CLASS_PROMPT.format(name=name), 0))


def chat(model_id: str, device, max_new_tokens: int) -> Callable[[str, int], str]:
    """ask(request, seed) -> what a language model replies, without its last line where the reply is cut off."""
    device = best_device() if device is None else torch.device(device)
    options = {"device": device, "dtype": _precision(device), "model_kwargs": {"use_safetensors": True}}
    with explained(model_id, "language model", "Qwen/Qwen2.5-1.5B-Instruct"):
        import transformers

        pipe = transformers.pipeline("text-generation", model=model_id, trust_remote_code=False, **options)

    def ask(request: str, seed: int) -> str:
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request}]
        given = chat if pipe.tokenizer.chat_template else f"{SYSTEM} {request}"
        tokens = _Tokens(total=max_new_tokens, desc="writing", leave=False)
        sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": max_new_tokens}
        with torch.random.fork_rng([device] if device.type == "cuda" else []), tokens:
            torch.manual_seed(seed)
            reply = pipe(given, return_full_text=False, streamer=tokens, **sampling)[0]["generated_text"]
        return reply.rpartition("\n")[0] if tokens.count >= max_new_tokens else reply

    return ask


def sentence_encoder(
    model_id: str = "sentence-transformers/all-distilroberta-v1", device=None
) -> Callable[[Sequence[str]], Tensor]:
    """`encode(texts) -> unit vectors` [T, width], on the CPU: what the thesis compares words with, to drop synonyms.

    model_id: a sentence-transformers model of the Hugging Face Hub, or its folder. The default (thesis) takes 330 MB;
    "sentence-transformers/all-MiniLM-L6-v2" takes 90 MB.
    Raises ImportError without sentence-transformers, OSError for a model that cannot be loaded.
    """
    with explained(model_id, "sentence encoder", "sentence-transformers/all-MiniLM-L6-v2"):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(model_id, device=str(device or best_device()), trust_remote_code=False)
    return lambda texts: (
        model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False).float().cpu()
    )


def image_model(
    model_id: str = "black-forest-labs/FLUX.1-schnell", steps=4, guidance=0.0, size=256, device=None, dtype=None, upscaler=None
) -> Painter:
    """A painter of descriptions, `painter(descriptions, per_text, seed) -> list[list[Image]]`: per_text RGB images of each.

    model_id: a text-to-image model of the Hugging Face Hub, or its folder. The default takes 34 GB; on small
    GPUs take "stabilityai/sd-turbo" with size=512. steps, guidance, size (pixels): None is the model's own. The thesis's model is
    `image_model("DeepFloyd/IF-I-XL-v1.0", None, None, None, dtype=torch.float16, upscaler="DeepFloyd/IF-II-L-v1.0")`, gated: 64,
    then 256 pixels, with a small mark of its makers in a corner, which the released script leaves out. upscaler is for
    DeepFloyd IF alone, with its own steps and guidance. dtype: by default half precision on GPUs.
    An image depends on its seed, description and place among the copies, not on other descriptions: a stopped run can go on
    with those that are left. Images that a safety checker blacks out are left out, with a warning. Raises ImportError without
    diffusers, OSError for a model that cannot be loaded, ValueError for no or blank descriptions, or an upscaler of other models.
    """
    device = best_device() if device is None else torch.device(device)
    dtype = dtype or _precision(device)
    pipe = _diffusion("AutoPipelineForText2Image", model_id, device, dtype)
    if upscaler is not None and type(pipe).__name__ != "IFPipeline":
        raise ValueError(f"an upscaler needs a DeepFloyd IF model, but {model_id!r} is a {type(pipe).__name__}")
    larger = upscaler and _diffusion("IFSuperResolutionPipeline", upscaler, device, dtype, text_encoder=None)
    settings = {"num_inference_steps": steps, "guidance_scale": guidance, "height": size, "width": size}
    settings = {name: value for name, value in settings.items() if value is not None}

    def draw(text: str, generators: list[torch.Generator]) -> list[Image.Image]:
        n = len(generators)
        if larger:
            embedded = dict(zip(("prompt_embeds", "negative_prompt_embeds"), pipe.encode_prompt(text, num_images_per_prompt=n)))
            small = pipe(**embedded, generator=generators, output_type="pt", **settings).images
            output = larger(**embedded, image=small, generator=generators)
        else:
            output = pipe(prompt=text, num_images_per_prompt=n, generator=generators, **settings)
        flags = [getattr(output, name, None) for name in ("nsfw_content_detected", "nsfw_detected", "watermark_detected")]
        rows = zip(output.images, *(flag or [False] * n for flag in flags))
        return [image for image, *bad in rows if not any(bad) and image.getbbox()]  # no box: all black

    def paint(descriptions: Sequence[str], per_text: int, seed: int) -> list[list[Image.Image]]:
        if isinstance(descriptions, str) or len(descriptions) == 0 or not all(d.strip() for d in descriptions) or per_text < 1:
            raise ValueError(f"need descriptions, none of them blank, and per_text >= 1, got {descriptions!r:.80}, {per_text}")
        images = []
        for text in tqdm(descriptions, desc="painting", leave=False):
            digests = [sha256(f"{seed} {copy} {text}".encode()).digest() for copy in range(per_text)]
            generators = [torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")) for digest in digests]
            parts = [draw(text, generators[k : k + _AT_ONCE]) for k in range(0, per_text, _AT_ONCE)]
            images.append(sum(parts, []))
        lost = len(descriptions) * per_text - sum(map(len, images))
        if lost:
            warnings.warn(f"left out {lost} images that came out black, most likely from a safety checker", stacklevel=2)
        return images

    return paint


def _precision(device: torch.device) -> torch.dtype:
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float32 if device.type == "cpu" else torch.bfloat16 if native else torch.float16


def _diffusion(kind: str, model_id: str, device: torch.device, dtype: torch.dtype, **parts):
    """A diffusion pipeline, from its float16 files where it has some and no more precision is wanted: half the download."""
    with explained(model_id, "image model", "stabilityai/sd-turbo"):
        import diffusers
        import transformers  # noqa: F401  (without it diffusers fails late, with another message)

        renamed = tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 40)
        options = {"dtype" if renamed else "torch_dtype": dtype, "use_safetensors": True, **parts}
        load = getattr(diffusers, kind).from_pretrained
        try:
            pipe = load(model_id, variant=None if dtype == torch.float32 else "fp16", **options)
        except (OSError, ValueError):
            pipe = load(model_id, **options)
    pipe.set_progress_bar_config(disable=True)
    if device.type != "cuda":
        return pipe.to(device)
    pipe.enable_model_cpu_offload(device=device)  # its parts take turns on the GPU
    return pipe


@contextmanager
def explained(model_id: str, kind: str, ungated: str) -> Iterator[None]:
    """Says what to do where a model cannot be loaded: ImportError for a missing package, OSError for all else."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f'the {kind} needs another package ({error}): pip install "interp-utils[generate]"') from error
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the {kind} {model_id!r}: give the folder of a saved model or an id of the Hugging Face Hub; if that is "
            f"gated, accept the terms on its page there and run `hf auth login`, or take one that is not, such as {ungated} "
            f"({' '.join(str(error).split())[:300]})"
        ) from error


class _Tokens(tqdm):
    """A progress bar over new tokens; `generate` calls `put` with the prompt first, then with each token."""

    count = -1  # tqdm's own count stands still where bars are switched off

    def put(self, _):
        self.count += 1
        self.update(min(self.count, 1))

    end = tqdm.close
