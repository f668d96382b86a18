"""Random numbers and noise: as random as they say, and never another sample's business."""

import math

import pytest
import torch

from casfne.capture.draws import Draws
from casfne.capture.noise import CHANNELS, layered, noise

MANY = 40_000
NAMES = [f"name {i}" for i in range(40)]


def draws(count: int = MANY, seed: int = 5) -> Draws:
    return Draws.numbered(seed, range(count), torch.device("cpu"))


def chi_square(counts: torch.Tensor, shares: torch.Tensor | None = None) -> float:
    """Of counts in K bins against ``shares`` (None: equal), as deviations of what chi square's own normal limit has."""
    counts = counts.flatten().double()
    expected = counts.sum() * (torch.ones_like(counts) / len(counts) if shares is None else shares)
    freedom = len(counts) - 1
    return float(((counts - expected).square() / expected).sum().sub(freedom) / math.sqrt(2 * freedom))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


# --- what they are ---


@pytest.mark.parametrize("seed", [0, 1, -1, 2**62])
def test_numbers_fill_0_to_1_evenly(seed: int) -> None:
    across, along = draws(seed=seed).uniform("x"), draws(1, seed).uniform("x", MANY)[0]
    for values in (across, along):
        assert 0 <= values.min() < 1e-3 and 0.999 < values.max() < 1
        assert chi_square((values * 100).long().bincount(minlength=100)) < 5
        assert abs(correlation(values[1:], values[:-1])) < 0.025


def test_every_bit_is_one_half_of_the_time() -> None:
    bits = draws().bits("b")
    assert bits.min() >= 0 and bits.max() < 2**53
    share = torch.stack([(bits >> k & 1).double().mean() for k in range(53)])
    assert (share - 0.5).abs().max() < 5 * 0.5 / MANY**0.5


def test_neighbours_in_number_seed_place_and_name_are_independent() -> None:
    first = draws().uniform("a", 2)
    others = [draws().uniform("b", 2), draws(seed=6).uniform("a", 2), draws().sub("a").uniform("a", 2)]
    pairs = [(first, other) for other in others] + [(first[:, 0], first[:, 1]), (first[1:], first[:-1])]
    for one, other in pairs:
        assert abs(correlation(one, other)) < 5 / MANY**0.5
        cells = (one.flatten() * 10).long() * 10 + (other.flatten() * 10).long()
        assert chi_square(cells.bincount(minlength=100)) < 5


def test_names_are_independent_of_each_other() -> None:
    values = torch.stack([draws(4000).uniform(name) for name in NAMES])
    off = torch.corrcoef(values) - torch.eye(len(NAMES))
    assert off.abs().max() < 5.5 / 4000**0.5
    values = torch.stack([draws(4000).sub(name).uniform("x") for name in NAMES])
    assert (torch.corrcoef(values) - torch.eye(len(NAMES))).abs().max() < 5.5 / 4000**0.5


def test_no_two_streams_meet() -> None:
    streams = [draws(1000), draws(1000).sub("a"), draws(1000).sub("b"), draws(1000).sub("a").sub("b"), draws(1000, 6)]
    streams.append(draws(1000).sub("b").sub("a"))
    every = torch.cat([stream.bits("x", 3).flatten() for stream in streams] + [streams[0].bits("y", 3).flatten()])
    assert len(every.unique()) == len(every)


def test_normal_numbers_have_its_moments_and_tails() -> None:
    x = draws().normal("n", 5).double().flatten()
    count = len(x)
    assert x.isfinite().all() and x.abs().max() < 6.1
    moments = torch.stack([x.mean(), x.square().mean(), x.pow(3).mean(), x.pow(4).mean()])
    spread = torch.tensor([1.0, 2, 15, 96]).sqrt() / count**0.5  # of those moments' estimates
    assert ((moments - torch.tensor([0.0, 1, 0, 3])).abs() < 4.5 * spread).all()
    for bound, share in ((1, 0.317311), (2, 0.0455003), (3, 0.0026998)):
        beyond = float((x.abs() > bound).double().mean())
        assert abs(beyond - share) < 4.5 * (share / count) ** 0.5
    pairs = draws().normal("n", 2)
    assert abs(correlation(pairs[:, 0], pairs[:, 1])) < 5 / MANY**0.5
    assert abs(correlation(pairs[:, 0].square(), pairs[:, 1].square())) < 5 / MANY**0.5


def test_ranges_are_kept_and_logarithms_are_even() -> None:
    low = draws().between("r", -2.0, 3.0)
    assert -2 <= low.min() < -1.99 and 2.99 < low.max() <= 3 and abs(low.mean() - 0.5) < 0.04
    ratio = draws().log_between("l", 0.1, 10.0)
    assert ratio.min() >= 0.09999 and ratio.max() <= 10.001
    assert chi_square(((ratio / 0.1).log() / math.log(100) * 50).long().clamp(0, 49).bincount(minlength=50)) < 5


def test_choices_come_in_their_shares_and_never_those_of_none() -> None:
    shares = torch.tensor([0.0, 2.0, 1.0, 0.0, 5.0, 0.0])
    counts = draws().choice("c", shares.tolist()).bincount(minlength=6)
    assert not counts[shares == 0].any()
    assert chi_square(counts[shares > 0], (shares / shares.sum())[shares > 0].double()) < 5
    assert (draws(10).choice("c", [3.0]) == 0).all()


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 1), (0.5, 3), (1 - 2.0**-24, 3)])
def test_choices_at_the_edges_are_possible_ones(drawn: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draws, "uniform", lambda self, name: torch.full((len(self),), drawn))
    assert draws(1).choice("c", [0.0, 1.0, 0.0, 1.0, 0.0]).tolist() == [expected]


def test_chances_are_shares_of_all_or_of_each() -> None:
    assert abs(draws().chance("p", 0.3).double().mean() - 0.3) < 5 * (0.21 / MANY) ** 0.5
    assert not draws().chance("p", 0.0).any() and draws().chance("p", 1.0).all()
    each = draws(4).chance("p", torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert each.tolist() == [False, True, False, True]


# --- whose they are ---


def test_a_sample_does_not_depend_on_its_batch_nor_on_the_order_of_questions() -> None:
    together, order = draws(20), [7, 3, 19]
    some = Draws.numbered(5, order, torch.device("cpu"))
    for ask in (
        lambda d: d.uniform("u", 2, 3),
        lambda d: d.normal("n", 4),
        lambda d: d.sub("s").choice("c", (1, 1, 1)),
    ):
        before = ask(together)
        together.uniform("something else", 100)
        assert torch.equal(ask(together), before)
        assert torch.equal(ask(some), before[order])
        assert torch.equal(ask(together.of(torch.tensor(order))), before[order])
        assert torch.equal(ask(together.of(torch.arange(20) < 3)), before[:3])


def test_more_numbers_begin_with_the_fewer() -> None:
    assert torch.equal(draws(9).uniform("u", 12)[:, :5], draws(9).uniform("u", 5))
    assert draws(9).uniform("u", 2, 3).shape == (9, 2, 3) and draws(9).uniform("u").shape == (9,)


def test_numbers_are_the_same_on_every_machine() -> None:
    made = Draws.numbered(1, [0, 1, 10**12], torch.device("cpu")).bits("a")
    assert made.tolist() == [6599811263131015, 4364019761159026, 203287314811275]


def test_data_sets_do_not_share_samples() -> None:
    seeds = torch.cat([draws(2000, seed).seeds for seed in range(-10, 10)])
    assert len(seeds.unique()) == len(seeds)


def test_nobody_is_asked_for_nothing() -> None:
    nobody = Draws.numbered(1, [], torch.device("cpu"))
    assert len(nobody) == 0 and nobody.uniform("u", 3).shape == (0, 3) and nobody.choice("c", (1, 1)).shape == (0,)


@pytest.mark.parametrize("seeds", [torch.zeros(3), torch.zeros(3, 1, dtype=torch.int64), torch.tensor(1)])
def test_wrong_seeds_are_named(seeds: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected int64 seeds \[B\]"):
        Draws(seeds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same() -> None:
    device = torch.device("cuda")
    there = Draws.numbered(5, range(1000), device)
    assert torch.equal(there.bits("b", 7).cpu(), draws(1000).bits("b", 7))
    assert torch.equal(there.uniform("u").cpu(), draws(1000).uniform("u"))
    assert torch.allclose(there.normal("n").cpu(), draws(1000).normal("n"), atol=1e-5)


# --- noise ---


def places(count: int = MANY) -> torch.Tensor:
    """Within the space that repeats for wavelengths of 1 m and up."""
    return draws(count).uniform("places", 3) * 8


@pytest.mark.parametrize("wavelength", [0.002, 0.1, 1.0])
def test_noise_has_mean_0_and_deviation_1(wavelength: float) -> None:
    made = noise(places() * wavelength, wavelength, torch.tensor([0.3, 0.6, 0.9]))
    assert made.shape == (MANY, CHANNELS) and made.mean(0).abs().max() < 0.03
    assert (made.std(0) - 1).abs().max() < 0.03
    assert (torch.corrcoef(made.T) - torch.eye(CHANNELS)).abs().max() < 0.08


@pytest.mark.parametrize("octaves", [1, 2, 4])
def test_layers_keep_the_deviation(octaves: int) -> None:
    made = layered(places(), 1.0, torch.tensor([0.3, 0.6, 0.9]), octaves)
    assert made.mean(0).abs().max() < 0.04 and (made.std(0) - 1).abs().max() < 0.06


def test_noise_repeats_after_eight_wavelengths_and_not_before() -> None:
    where, none = places(2000), torch.zeros(3)
    here = noise(where, 1.0, none)
    for axis in torch.eye(3):
        for times in (-8.0, 8.0):
            assert (noise(where + times * axis, 1.0, none) - here).abs().max() < 1e-3
        for times in (1.0, 2.0, 4.0):
            assert abs(correlation(noise(where + times * axis, 1.0, none), here)) < 0.35
    assert (noise(where * 0.05, 0.05, none) - here).abs().max() < 1e-3


def test_noise_is_continuous_over_the_seam() -> None:
    steps = torch.linspace(-0.02, 0.02, 401)
    line = torch.stack([steps, 0.3 + 0 * steps, 1.7 + 0 * steps], -1)
    made = noise(line, 1.0, torch.zeros(3))
    assert made.diff(dim=0).abs().max() < 0.01 and made.isfinite().all()


def test_another_offset_is_other_noise_and_offsets_may_be_each_places_own() -> None:
    where = places(4000)
    one, other = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.6, 0.25, 0.9])
    a, b = noise(where, 1.0, one), noise(where, 1.0, other)
    assert all(abs(correlation(a[:, k], b[:, k])) < 0.15 for k in range(CHANNELS))
    mine = torch.arange(len(where)) % 2 == 0
    both = noise(where, 1.0, torch.where(mine[:, None], one, other))
    assert torch.equal(both, torch.where(mine[:, None], a, b))
    lengths = torch.where(mine, 1.0, 2.0)[:, None]
    mixed = noise(where, lengths, one)
    assert torch.equal(mixed[mine], a[mine]) and torch.equal(mixed[~mine], noise(where, 2.0, one)[~mine])


def test_noise_is_smooth_at_a_tenth_of_its_wavelength_and_gone_at_a_half() -> None:
    where, none = places(4000), torch.zeros(3)
    here = noise(where, 1.0, none)[:, 0]
    near, far = (noise(where + torch.tensor([step, 0, 0]), 1.0, none)[:, 0] for step in (0.1, 0.5))
    assert correlation(here, near) > 0.8 and correlation(here, far) < 0.1


def test_a_place_does_not_depend_on_its_batch() -> None:
    where, offset = places(50), torch.tensor([0.1, 0.2, 0.3])
    together = layered(where, 0.7, offset, 3)
    alone = torch.cat([layered(w[None], 0.7, offset, 3) for w in where])
    assert torch.allclose(together, alone, atol=1e-6)
