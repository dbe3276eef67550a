import re
from collections import Counter

import open_clip
import pytest
import torch
import torch.nn.functional as F
from small_clips import get_tokenizer, tiny_model

from interp_utils.models import DATA, Clip
from interp_utils.sandbox.world import COLOURS, FACTORS, OBJECTS
from interp_utils.texts import Pool, class_descriptions, load_pool, mentions, random_vectors, understood


def distinct(texts: list[str]) -> bool:
    return len({text.casefold() for text in texts}) == len(texts)


def test_general_pool_is_large_distinct_and_spread_over_kinds():
    pool = load_pool("general")
    counts = Counter(pool.kinds)
    assert len(pool.texts) == len(pool.kinds) >= 3498 and distinct(pool.texts)
    assert len(counts) >= 30 and min(counts.values()) >= 20 and max(counts.values()) <= 0.15 * len(pool.texts)
    file = (DATA / "texts" / "general.tsv").read_text(encoding="utf-8")
    assert file == "".join(f"{kind}\t{text}\n" for kind, text in zip(pool.kinds, pool.texts))  # nothing to drop or strip


def test_general_texts_are_short_and_not_corrupted():
    for text in load_pool("general").texts:
        assert re.fullmatch(r"[A-Za-z0-9',-]+( [A-Za-z0-9',-]+)*", text), text
        assert 2 <= len(text.split()) <= 7, text
        assert not re.search(r"\ba [aeio]|\ban [^aeiouAEFHILMNORSXh8]|\b(\w+) \1\b|\{|  ", text), text


def test_the_start_of_the_general_pool_is_a_sample_of_it():
    whole, start = load_pool("general"), load_pool("general", 1000)
    assert start == Pool(whole.texts[:1000], whole.kinds[:1000]) and set(start.kinds) == set(whole.kinds)


def test_the_data_card_counts_as_the_file_does():
    counts = Counter(load_pool("general").kinds)
    card = (DATA / "texts" / "README.md").read_text(encoding="utf-8")
    rows = {kind: int(n) for kind, n in re.findall(r"^\| ([a-z ]+) \| (\d+) \|", card, re.MULTILINE)}
    assert rows == {**counts, "all": counts.total()}


def test_words_are_common_and_alphabetic():
    pool = load_pool("words")
    assert len(pool.texts) == 3498 and distinct(pool.texts) and set(pool.kinds) == {"word"}
    assert {"the", "water", "red"} <= set(pool.texts) and all(word.isalpha() and len(word) >= 3 for word in pool.texts)
    assert load_pool("words", 20).texts == pool.texts[:20] and len(load_pool("words", 10_000).texts) == 10_000


def test_sandbox_pool_has_every_prompt_of_every_factor_and_the_model_knows_them_all(sandbox):
    pool = load_pool("sandbox")
    assert set(pool.kinds) == {*FACTORS, "category", "family"} and distinct(pool.texts)
    assert {"a dog", "a water animal", "an animal", "a red object", "two objects", "a picture of a forest"} <= set(pool.texts)
    assert understood(sandbox, pool) == pool


def test_files_in_both_formats(tmp_path):
    plain, kinds = tmp_path / "plain.txt", tmp_path / "kinds.tsv"
    plain.write_bytes("\ufeff  a dog \r\n\r\nA Dog\r\nein schöner Hund\r\nwords with a trailing tab\t\r\n".encode())
    assert load_pool(plain) == Pool(["a dog", "ein schöner Hund", "words with a trailing tab"], [""] * 3)
    kinds.write_text("animal\ta dog\n\n animal \t a cat \ncolour\tred\nother\tRED\n\tno kind\n", encoding="utf-8")
    assert load_pool(str(kinds)) == Pool(["a dog", "a cat", "red", "no kind"], ["animal", "animal", "colour", ""])
    assert load_pool(kinds, 2).texts == ["a dog", "a cat"]


def test_a_line_ends_where_its_line_ends(tmp_path):
    """Form feeds, U+2028 and their like stand inside a text and are a space; only line ends end it."""
    path = tmp_path / "pool.txt"
    path.write_bytes("a dog\u2028on a\x0cbeach\na\x1cred\x85cat\r\n\u2028\n".encode())
    assert load_pool(path).texts == ["a dog on a beach", "a red cat"]
    path.write_text("animal\u2028s\ta dog\u2029here\n", encoding="utf-8")
    assert load_pool(path) == Pool(["a dog here"], ["animal s"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "animal\ta dog\nanimal\ta cat\na bird\n", "line 3 of .* has 0 tabs where most have 1: 'a bird'"),
        ("a.tsv", "a dog\na cat\n\nanimal\ta bird\n", "line 4 of .* has 1 tabs where most have 0: 'animal a bird'"),
        ("a.tsv", "animal\ta dog\t3\nanimal\ta cat\t4\n", "line 1 of .* has 2 tabs where most have 1"),
        ("a.txt", "kind,text\nanimal,a dog\n", "looks like JSON or CSV"),
        ("a.txt", "text;kind\na dog;animal\n", "looks like JSON or CSV"),
        ("a.txt", '["a dog", "a cat"]', "looks like JSON or CSV"),
        ("a.json", '{"texts": ["a dog"]}', "must hold one list of texts"),
        ("a.json", '["a dog", 3]', "must hold one list of texts"),
        ("a.json", '["a dog",', "is not JSON"),
        ("a.json", "[]", "holds no text"),
        ("a.csv", "a dog\na cat\n", 'one of them "text"'),
        ("a.csv", "text,kind\na dog\na cat,animal,more\n", "row 2"),
        ("a.csv", "text\n", "it starts 'text"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_pool(tmp_path / name)


def test_tables_and_lists(tmp_path):
    for name, content, expected in (
        (
            "a.csv",
            '\ufeffid, Kind ,TEXT\n1,animal,"a dog, asleep"\n2,,a  cat\n3,animal,\n',
            (["a dog, asleep", "a cat"], ["animal", ""]),
        ),
        ("b.csv", "text\na dog\nA DOG\n", (["a dog"], [""])),
        ("c.json", '["a dog", "a \\u2028 cat", " ", "A dog"]', (["a dog", "a cat"], ["", ""])),
        ("d.tsv", "Kind\ttext\nanimal\ta dog\n", (["a dog"], ["animal"])),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert load_pool(tmp_path / name) == Pool(*expected)


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("car", ["a red car", "two CARS", "the car's door", "a sports-car"], ["a scarf on a carpet", "a cart", "caring", "care"]),
        ("cat", ["cats", "a cat."], ["location", "cattle", "a catapult"]),
        ("bus", ["two buses", "busses and a bus"], ["a business", "busy"]),
        ("horse", ["horses"], ["horseradish"]),
        ("leaf", ["leaves"], ["leaving"]),
        ("person", ["people on a street"], ["personal things"]),
        ("mouse", ["mice"], ["mousse"]),
        ("fireman", ["two firemen"], ["firemanship"]),
        ("cherry", ["cherries"], []),
        ("letter A", ["two letters A", "a letter a"], ["letter B", "a letter", "a letterbox"]),
        ("ice cream", ["ice creams", "an ice-cream cone"], ["cream on ice", "ice"]),
        ("scissors", ["a pair of scissors"], []),
        ("glasses", ["a glass"], ["glassware"]),
    ],
)
def test_names_are_whole_words_in_either_number(name, yes, no):
    assert all(mentions(text, name) for text in yes) and not any(mentions(text, name) for text in no)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="choose general, words, classes, sandbox, or give the path of a text file"):
        load_pool("genral")
    for missing in ("pool.txt", tmp_path / "pool", tmp_path):
        with pytest.raises(FileNotFoundError, match="one text a line"):
            load_pool(missing)
    (tmp_path / "empty.txt").write_text(" \n\t\n")
    with pytest.raises(ValueError, match="holds no text"):
        load_pool(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("Straße\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        load_pool(tmp_path / "latin.txt")
    for n in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match="n must be .*at least 1"):
            load_pool("general", n)
    with pytest.raises(ValueError, match="needs the class names"):
        load_pool("classes")


@pytest.mark.parametrize("classes", [[], "dog", ["dog", " "], [3]])
def test_class_descriptions_need_names(classes):
    with pytest.raises(ValueError, match="at least one class name"):
        class_descriptions(classes)


IMAGENETTE = [open_clip.IMAGENET_CLASSNAMES[k] for k in (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)]


def test_descriptions_of_a_class_do_not_name_it():
    """The thesis forbids it (table A.2), in the plural as well."""
    for name in {*IMAGENETTE, *OBJECTS}:
        pool = class_descriptions([name])
        assert len(pool.texts) >= 6 and distinct(pool.texts) and set(pool.kinds) == {name}
        assert not any(mentions(text, name) for text in pool.texts), name
    for name in IMAGENETTE:
        assert len(class_descriptions([name]).texts) >= 20


def test_our_file_of_classes_is_clean():
    rows = [line.split("\t") for line in (DATA / "texts" / "classes.tsv").read_text(encoding="utf-8").splitlines()]
    assert all(len(row) == 2 and [" ".join(cell.split()) for cell in row] == row for row in rows)
    assert len({(name, text.casefold()) for name, text in rows}) == len(rows)
    assert {name for name, _ in rows} == {*IMAGENETTE, *OBJECTS}


def test_the_pool_of_classes_is_that_of_all_of_them():
    pool = load_pool("classes", classes=["Church", "tench", "TENCH", "golf ball"])
    assert set(pool.kinds) == {"Church", "tench", "golf ball"} and distinct(pool.texts) and "Image with dimples" in pool.texts
    assert load_pool("classes", 5, ["tench"]).texts == class_descriptions(["tench"]).texts[:5]


def test_other_classes_are_written_once_and_kept(tmp_path):
    path, asked = tmp_path / "deep" / "mine.tsv", []

    def writer(name):
        asked.append(name)
        if name == "zebra" and asked.count("zebra") == 1:
            raise KeyboardInterrupt
        return [f"a photo of {name}s", "black  and white\tstripes", "long legs", " "]

    with pytest.raises(ValueError, match="no descriptions of 2 of 3 classes, okapi, zebra the first.*class_writer.*mine.tsv"):
        class_descriptions(["okapi", "tench", "zebra"], path=path)
    with pytest.raises(KeyboardInterrupt):
        class_descriptions(["okapi", "zebra"], writer, path)
    pool = class_descriptions(["okapi", "tench", "zebra"], writer, path)
    assert asked == ["okapi", "zebra", "zebra"], "what was written before the interruption is kept"
    assert class_descriptions(["zebra"], path=path) == Pool(["black and white stripes", "long legs"], ["zebra"] * 2)
    assert pool.kinds.count("okapi") == 2 and "zebra" not in pool.kinds, "a text of several classes counts for the first"
    with pytest.warns(UserWarning, match="no description of 'gnu' that does not name it; the writer's first: .'gnus'"):
        assert class_descriptions(["gnu"], lambda name: ["gnus"], tmp_path / "new.tsv") == Pool([], [])
    assert not (tmp_path / "new.tsv").exists()


def test_the_sandbox_understands_descriptions_of_its_classes(sandbox):
    for name in OBJECTS:
        assert len(understood(sandbox, class_descriptions([name])).texts) >= 4, name


def test_the_sandbox_understands_enough_of_the_general_pool(sandbox):
    pool = understood(sandbox, load_pool("general"))
    counts = Counter(pool.kinds)
    factors = ["colour", "count", "texture", "position", "setting", "style"]
    objects = ["animal", "vehicle", "food", "tool", "shape"]
    assert len(pool.texts) >= 300 and min(counts[kind] for kind in factors + objects) >= 10, counts
    for words in (COLOURS, FACTORS["scene"]):
        for word in words:
            assert any(word in text for text in pool.texts), word


def test_understood_drops_texts_with_a_word_unknown_to_the_sandbox(sandbox):
    pool = Pool(["a red dog", "a dog on a skateboard", "a skateboard", "two ships"], ["a", "b", "c", "d"])
    assert understood(sandbox, pool) == Pool(["a red dog", "two ships"], ["a", "d"])
    with pytest.raises(ValueError, match="none of these 1 texts"):
        understood(sandbox, Pool(["zebra crossings"], [""]))


def test_understood_drops_texts_that_the_model_does_not_read_to_their_end(sandbox):
    long = "a red dog " * 12
    assert understood(sandbox, Pool(["a red dog", long], ["a", "b"])) == Pool(["a red dog"], ["a"])


def test_a_model_with_a_full_vocabulary_understands_everything(tiny):
    pool = load_pool("general", 300)
    assert understood(tiny, pool) == pool
    with pytest.raises(ValueError, match="no tokenizer"):
        understood(Clip(tiny.model), pool)


def test_understood_looks_into_a_custom_text_tower(sandbox):
    class Custom(torch.nn.Module):  # open_clip's CustomTextCLIP keeps its text tower in .text
        def __init__(self):
            super().__init__()
            self.visual, self.text = sandbox.visual, torch.nn.Module()
            self.text.token_embedding = sandbox.model.token_embedding

    clip = Clip(Custom(), tokenizer=sandbox.tokenizer, check=False)
    assert understood(clip, Pool(["a red dog", "a skateboard"], ["", ""])).texts == ["a red dog"]
    del clip.model.text.token_embedding
    assert len(understood(clip, Pool(["a red dog", "a skateboard"], ["", ""])).texts) == 2


def test_random_vectors_are_gaussian_and_reproducible():
    vectors = random_vectors(2000, 24, seed=3)
    assert vectors.shape == (2000, 24) and torch.equal(vectors, random_vectors(2000, 24, seed=3))
    assert not torch.equal(vectors, random_vectors(2000, 24, seed=4))
    assert vectors.mean().abs() < 0.02 and (vectors.std() - 1).abs() < 0.02
    with pytest.raises(ValueError, match="at least 1"):
        random_vectors(0, 24, seed=0)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_not_run_where_no_token_sees_it(causal):
    """In a plain CLIP, whose text attention is causal; the model stays as it is."""
    model, tokenizer, lengths = tiny_model(), get_tokenizer("ViT-B-32"), []
    if not causal:
        model.attn_mask = None
    before = {name: id(each) for name, each in [*model.named_parameters(), *model.named_buffers()]}
    texts = ["a dog", "a photo of a very small, very wet dog!", "dog " * 90]
    expected = [F.normalize(model.encode_text(tokenizer(part)), dim=-1) for part in (texts[:2], texts)]
    model.transformer.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    clip = Clip(model, tokenizer=tokenizer)
    torch.testing.assert_close(clip.encode_text(texts[:2]), expected[0])
    with pytest.warns(UserWarning, match="the beginning alone"):
        torch.testing.assert_close(clip.encode_text(texts), expected[1])
    assert lengths == ([13, 77] if causal else [77, 77])
    assert before == {name: id(each) for name, each in [*model.named_parameters(), *model.named_buffers()]}
