"""Interpolated n-grams by the recursion, in plain Python: slow, and close to the formulas."""

from collections import Counter


def plain_ngram(texts, order, smoothing, size, end, drawable):
    """A function (whole context with its beginning, token) -> probability."""
    counts = [Counter() for _ in range(order + 1)]
    for text in texts:
        tokens = [end, *text, end]
        for k in range(1, order + 1):
            for stop in range(1, len(tokens)):
                if stop + 1 - k >= 0:
                    # The beginning is told from the end: it is marked, never predicted.
                    gram = ("begin" if stop + 1 - k == 0 and k > 1 else tokens[stop + 1 - k],)
                    counts[k][gram + tuple(tokens[stop + 2 - k : stop + 1])] += 1

    kneser_ney = type(smoothing).__name__ == "KneserNey"
    if kneser_ney:
        used = []
        for k in range(order + 1):
            if k in (0, order):
                used.append(counts[k])
                continue
            kinds = Counter(gram[1:] for gram in counts[k + 1])
            for gram, count in counts[k].items():
                if gram[0] == "begin":
                    kinds[gram] = count
            used.append(kinds)
        counts = used

    def discount(k):
        if smoothing.discount is not None:
            return smoothing.discount
        values = list(counts[k].values())
        once, twice = values.count(1), values.count(2)
        return once / (once + 2 * twice) if once and twice else 0.5

    def probability(history, token):
        """History: a tuple of at most order - 1 tokens; shortened until nothing is left."""
        shorter = probability(history[1:], token) if history else 1 / len(drawable)
        k = len(history) + 1
        followers = {gram: count for gram, count in counts[k].items() if gram[:-1] == history}
        if not followers:
            return shorter
        total, kinds, own = sum(followers.values()), len(followers), followers.get((*history, token), 0)
        if kneser_ney:
            D = discount(k)
            return max(own - D, 0) / total + D * kinds / total * shorter
        return (own + kinds * shorter) / (total + kinds)

    def of(context, token):
        context = ["begin", *context[1:]]
        return probability(tuple(context[len(context) - min(order - 1, len(context)) :]), token)

    return of
