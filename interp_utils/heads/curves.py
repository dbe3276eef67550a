"""How accuracy falls as parts are ablated one after another (thesis, figure 2.2)."""

from collections.abc import Sequence

from torch import Tensor

from ..checks import checked_count


def ablation_curve(
    terms: Tensor, labels: Tensor, classifier: Tensor, order: Sequence[int], also: Sequence[int] = ()
) -> list[float]:
    """Zero-shot accuracy in percent with none, the first, the first two ... of the terms in `order` at their mean over images.

    terms: [K, P, E], what the parts of the model write, as `DirectEffects.layers` gives it, in parts of a unit representation;
    labels: [K], negative where an image does not count; classifier: [C, E]; also: terms at their mean from the start.
    Raises ValueError for other numbers of terms and labels, terms that do not exist, and where no image counts.
    """
    for term in (*order, *also):
        checked_count("a term", term, terms.shape[1] - 1, least=0)
    if len(terms) != len(labels) or not (labels >= 0).any():
        raise ValueError(f"need a label for each image, at least one not negative; got {len(terms)} images, {len(labels)} labels")
    mean, classifier, seen = terms.mean(0), classifier.to(terms), labels >= 0
    whole = terms.sum(1) + sum(mean[term] - terms[:, term] for term in also)
    found = []
    for step in range(len(order) + 1):
        if step:
            whole = whole + mean[order[step - 1]] - terms[:, order[step - 1]]
        guesses = (whole @ classifier.T).argmax(1).to(labels.device)
        found.append(100 * (guesses == labels)[seen].double().mean().item())
    return found
