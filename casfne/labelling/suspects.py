"""Which images kill the worker that treats them. No Ray in it: `fleet` says whether a worker survived.

A worker can also be killed from outside, with its machine or for want of memory. So an image is condemned only when
every one of several workers died that had nothing but it.
"""

from collections.abc import Callable, Sequence

from casfne.corpora.record import Photo

TRIES = 3
_GROUP = 16
STEPS = {"decode": "while decoding it", "predict": "in the model"}

# treats photos up to a step of STEPS in a worker of its own; "" when that survives, else a code of `schema.REASONS`
Dies = Callable[[str, Sequence[Photo]], str]


def isolate(photos: Sequence[Photo], dies: Dies) -> dict[str, tuple[str, str]]:
    """The images that kill their worker: image id to reason_code and reason.

    All are treated at once, then those of a group that died one by one.
    """
    if not dies("predict", photos):
        return {}
    groups = [photos[i : i + _GROUP] for i in range(0, len(photos), _GROUP)]
    alone = [photo for group in groups if dies("predict", group) for photo in group]
    found = {photo.image_id: _condemned(photo, dies) for photo in alone}
    return {image_id: sentence for image_id, sentence in found.items() if sentence}


def _condemned(photo: Photo, dies: Dies) -> tuple[str, str] | None:
    for step, where in STEPS.items():
        codes: list[str] = []
        while len(codes) < TRIES and (code := dies(step, [photo])):
            codes.append(code)
        if len(codes) == TRIES:
            return codes[-1], f"the worker process died on this image, {TRIES} times out of {TRIES}, {where}"
    return None
