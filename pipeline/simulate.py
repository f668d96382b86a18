"""Stage simulate: people under four known lights as Photoface lays them out, and small corpora of photographs."""

import shutil
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from casfne import config
from casfne.capture import corpora, heads, photoface, shading
from casfne.errors import guard

CAPTURES, TRUTH = Path("data/captures/photoface"), Path("data/captures/truth")
CORPORA = Path("data/corpora")


@guard
def main() -> None:
    """Write captures, their truth and the corpora; what was there before goes."""
    p: config.Simulate = config.load("params.yaml", "simulate")
    torch.set_num_threads(1)  # arrays are small: threads win little, and lose fivefold on a busy machine
    for folder in (CAPTURES, TRUTH, *(CORPORA / name for name in ("celeba", "ffhq", "300w"))):
        shutil.rmtree(folder, ignore_errors=True)
    with Progress() as progress:
        bar = progress.add_task("captures", total=p.people * p.sessions)
        for subject in range(1, p.people + 1):
            capture_subject(p, subject)
            progress.advance(bar, p.sessions)
        bar = progress.add_task("photographs", total=3 * p.corpus_images)
        writers = {"celeba": corpora.write_celeba, "ffhq": corpora.write_ffhq, "300w": corpora.write_300w}
        for name, write in writers.items():
            for _ in write(CORPORA / name, p.corpus_images, p.seed):
                progress.advance(bar)


def capture_subject(p: config.Simulate, subject: int) -> None:
    """All sessions of one person; each has its own stream of random numbers."""
    rng = np.random.default_rng([p.seed, 0, subject])
    person = heads.sample_person(rng)
    skin = shading.sample_skin(rng, person)
    studio = photoface.Studio(p.height, p.width, p.max_yaw_deg, p.max_pitch_deg, p.noise, p.specular, p.ambient)
    for session in range(p.sessions):
        made = photoface.capture(person, skin, studio, np.random.default_rng([p.seed, 0, subject, session]))
        photoface.write_session(CAPTURES, TRUTH, subject, photoface.session_name(subject, session), made)


if __name__ == "__main__":
    main()
