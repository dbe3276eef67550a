"""Rounds of proposals and tests: what is rejected is told, a budget ends it, and a language model may propose."""

import pytest
import torch

from interp_utils import neurons, science

NAMES = {0: "L9H5", 1: "L7N3"}
TRUE = {0: "a beach", 1: "a dog"}


def judged(asked, level):
    """Findings of units that answer to one text each."""
    noise = 0.1 * torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(0))
    texts = {text for texts in asked.values() for text in texts}
    steps = {text: torch.tensor([float(TRUE[k] == text) for k in NAMES]) for text in texts}
    measured = {text: noise + torch.stack([step, 0 * step])[:, None] for text, step in steps.items()}
    ones = torch.ones(2)
    return science.investigate(measured, asked, ones, 0.5 * ones, lambda text: [text], level)


def known(text):
    return bool(science.facts_named(text))


def test_rounds_end_for_a_unit_with_a_claim_and_go_on_for_the_others():
    asked = []

    def propose(unit, evidence):
        asked.append((unit, evidence))
        return science.from_lists({0: ["a city", "a beach", "a cat"], 1: ["a cat", "a cow", "a beach", "a fish", "a dog"]})(
            unit, evidence
        )

    log = science.investigate_rounds(propose, NAMES, judged, known, 20, per_round=2)
    assert [(e.round, e.unit, e.text, e.verdict) for e in log] == [
        (0, 0, "a city", "rejected"), (0, 0, "a beach", "accepted"), (0, 1, "a cat", "rejected"), (0, 1, "a cow", "rejected"),
        (1, 1, "a beach", "rejected"), (1, 1, "a fish", "rejected"), (2, 1, "a dog", "accepted"),
    ]  # fmt: skip
    assert [unit for unit, _ in asked] == [0, 1, 1, 1]
    assert [entry.text for entry in asked[-1][1].tried] == ["a cat", "a cow", "a beach", "a fish"] and asked[-1][1].name == "L7N3"


def test_the_budget_counts_what_is_tested_and_nothing_is_tested_twice():
    seen = []

    def test(asked, level):
        seen.append((sum(map(len, asked.values())), level))
        return judged(asked, level)

    stubborn = lambda unit, evidence: ["a cat", "hello", "a cow", "a cat", "a fish"]  # noqa: E731
    log = science.investigate_rounds(stubborn, NAMES, test, known, 3, per_round=2, level=0.06)
    assert [n for n, _ in seen] == [3] and all(level == pytest.approx(0.02) for _, level in seen)
    assert [(e.unit, e.text, e.verdict) for e in log][:2] == [(0, "hello", "untestable"), (1, "hello", "untestable")]
    assert [(e.unit, e.text) for e in log if e.finding] == [(0, "a cat"), (0, "a cow"), (1, "a cat")]
    log = science.investigate_rounds(lambda unit, evidence: ["a cat"], NAMES, judged, known, 9)
    assert len(log) == 2, "a text is tried once"
    with pytest.raises(TypeError, match="gives a list of texts, got the text 'a cat'"):
        science.investigate_rounds(lambda unit, evidence: "a cat", NAMES, judged, known, 9)
    with pytest.raises(ValueError, match="at least 1 text to test"):
        science.investigate_rounds(stubborn, NAMES, judged, known, 0)


def test_a_language_model_is_told_what_is_shown_and_what_was_rejected():
    heard = []

    def ask(request, seed):
        heard.append((request, seed))
        return "Here are some:\n1. a beach\n2. a city\n" if "a dog" not in request.split("such as")[0] else "- a cow\n- a dog"

    shown = {0: ["a red fish at sea"], 1: ["a dog in the forest"]}
    log = science.investigate_rounds(science.from_language_model(ask), NAMES, judged, known, 20, shown, per_round=2, rounds=2)
    assert [(e.unit, e.text, e.verdict) for e in log if e.finding.claims] == [(0, "a beach", "accepted"), (1, "a dog", "accepted")]
    assert "- a red fish at sea" in heard[0][0] and "Earlier guesses" not in heard[0][0]
    other = science.from_language_model(lambda request, seed: heard.append((request, seed)) or "a cow")
    science.investigate_rounds(other, {1: "L7N3"}, judged, known, 20, rounds=2)
    assert "- a cow: rejected, effect" in heard[-1][0] and heard[-1][1] == 1 and "show:" not in heard[-1][0]


def test_a_local_language_model_proposes(tmp_path):
    """Random weights write random letters; that these come back as proposals is what is tested."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["a", "red", "dog", "beach", "the", "on", "\n"]
    model = tokenizers.models.WordLevel({**{word: k for k, word in enumerate(words)}, "?": len(words)}, unk_token="?")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    config = transformers.GPT2Config(vocab_size=len(words) + 1, n_positions=256, n_embd=8, n_layer=1, n_head=1, eos_token_id=7)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    ask = neurons.chat(str(tmp_path), "cpu", 12)
    replies = [ask("Say what you see.", seed) for seed in (0, 1, 0)]
    assert replies[0] == replies[2] != replies[1]
    propose = science.from_language_model(lambda request, seed: ask(request, seed).replace("\n", " ") + "\na dog\n")
    log = science.investigate_rounds(propose, NAMES, judged, known, 6, {0: ["a dog"]}, rounds=2)
    assert (1, "a dog", "accepted") in [(e.unit, e.text, e.verdict) for e in log]
