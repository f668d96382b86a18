"""Stage simulate: people under four known lights as Photoface lays them out, and small corpora of photographs."""

import shutil
from pathlib import Path

import torch
from rich.progress import Progress

from casfne import config
from casfne.capture import corpora, photoface
from casfne.capture.draws import Draws
from casfne.capture.people.anny import open_head_model
from casfne.capture.scene import Studio
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
    studio = Studio([open_head_model(p.heads)])
    with Progress() as progress:
        bar = progress.add_task("captures", total=p.people * p.sessions)
        for subject in range(1, p.people + 1):
            capture_subject(p, studio, subject)
            progress.advance(bar, p.sessions)
        bar = progress.add_task("photographs", total=3 * p.corpus_images)
        writers = {"celeba": corpora.write_celeba, "ffhq": corpora.write_ffhq, "300w": corpora.write_300w}
        for name, write in writers.items():
            for _ in write(CORPORA / name, studio, p.corpus_images, p.seed):
                progress.advance(bar)


def capture_subject(p: config.Simulate, studio: Studio, subject: int) -> None:
    """All sessions of one person, one after the other: memory."""
    keys = ("height", "width", "max_yaw_deg", "max_pitch_deg", "noise", "gloss", "ambient", "light_distance", "motion")
    rig = photoface.Rig(**{key: getattr(p, key) for key in keys})
    who = Draws.numbered(p.seed, [subject], studio.device)
    for session in range(p.sessions):
        [made] = photoface.capture(studio, 0, who, who.sub(f"session {session}"), rig)
        photoface.write_session(CAPTURES, TRUTH, subject, photoface.session_name(subject, session), made)


if __name__ == "__main__":
    main()
