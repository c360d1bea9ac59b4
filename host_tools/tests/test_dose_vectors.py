"""Dose maths as it is displayed, against exact rationals worked out here from first principles."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import amounts, dose, units
from cisterna.errors import UsageError
from cisterna.mixture import Drug, Mixture, by_ratio, mixed

VECTORS = 10_000
SEED = 20_261_126

# What one of each displayed unit is, in ng, nL, ng/day and nL/day.
SCALES = {"mg": 10**6, "ug": 10**3, "ng": 1, "mL": 10**6, "uL": 10**3, "nL": 1}
DIGITS = 3  # decimals of masses and dose rates on screens; volumes of a day have 6


def displayed(text: str, digits: int, exact: Fraction) -> None:
    """Fail when ``text`` is further from ``exact`` than one in its last displayed digit."""
    number, unit = text.split(" ")
    scale = SCALES[unit.removesuffix("/day")]
    assert abs(Fraction(number) * scale - exact) <= Fraction(scale, 10**digits), (text, exact)


def vector(rng: random.Random) -> tuple[list[int], list[Fraction], int, int]:
    """Concentrations in ng/mL, ratios to the first, wanted dose rate in ng/day, volume in nL."""
    first = rng.choice((1, 5, 25)) * 10 ** rng.randrange(2, 8)
    ratios = [Fraction(rng.randrange(1, 400), 100) for _ in range(rng.randrange(4))]
    first *= 100
    rate = rng.randrange(48_000, 24_000_000)
    wanted = max(1, rate * first // 10**6)
    return (
        [first, *(int(first * ratio) for ratio in ratios)],
        ratios,
        wanted,
        rng.randrange(1, 10**8),
    )


@pytest.mark.requirement("ACC-7")
def test_ten_thousand_vectors_are_right_to_the_last_displayed_digit():
    rng = random.Random(SEED)
    drugs_seen = set()
    for _ in range(VECTORS):
        concentrations, ratios, wanted, volume = vector(rng)
        others = tuple((f"drug {i}", ratio) for i, ratio in enumerate(ratios, 2))
        mixture = by_ratio(Drug("drug 1", concentrations[0]), others)
        assert [d.concentration_ng_ml for d in mixture.drugs] == concentrations
        drugs_seen.add(len(concentrations))

        found = dose.achievable_rate(wanted, concentrations[0])
        # The nearest thousandth of a mL/day, from nothing but the definition.
        ideal = Fraction(wanted * 10**6, concentrations[0])
        assert abs(found.rate_nl_day - ideal) <= 500
        assert found.rate_nl_day % 1000 == 0
        displayed(amounts.format_rate(found.rate_nl_day, 3), 3, Fraction(found.rate_nl_day))
        displayed(amounts.format_dose_rate(wanted, DIGITS), DIGITS, Fraction(wanted))
        for got, concentration in zip(
            mixture.dose_rates_ng_day(found.rate_nl_day), concentrations, strict=True
        ):
            exact = Fraction(found.rate_nl_day * concentration, 10**6)
            displayed(amounts.format_dose_rate(got, DIGITS), DIGITS, exact)
        for got, concentration in zip(mixture.masses_ng(volume), concentrations, strict=True):
            exact = Fraction(volume * concentration, 10**6)
            displayed(amounts.format_mass(got, DIGITS), DIGITS, exact)
        displayed(amounts.format_volume_nl(volume, 6), 6, Fraction(volume))
        mass_ng = max(1, int(mixture.masses_ng(volume)[0]))
        back_nl = dose.volume_of_mass_nl(mass_ng, concentrations[0])
        displayed(
            amounts.format_volume_nl(back_nl, 6), 6, Fraction(mass_ng * 10**6, concentrations[0])
        )
    assert drugs_seen == {1, 2, 3, 4}


@pytest.mark.requirement("ACC-7")
def test_a_wrong_scale_is_seen():
    with pytest.raises(AssertionError):
        displayed("100.002 ug/day", 3, Fraction(100_000))
    displayed("100.001 ug/day", 3, Fraction(100_000))


@pytest.mark.requirement("ACC-7")
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=4),
    st.lists(st.integers(1, 10**9), min_size=1, max_size=4),
    st.integers(0, 4 * 10**7),
    st.integers(1, 4 * 10**7),
)
def test_no_drug_is_lost_when_a_fill_mixes_with_a_residual(before, fill, residual_nl, fill_nl):
    old = Mixture(tuple(Drug(f"d{i}", c) for i, c in enumerate(before)))
    new = Mixture(tuple(Drug(f"d{i + 1}", c) for i, c in enumerate(fill)))
    found = mixed(old, residual_nl, new, fill_nl)
    assert [drug.name for drug in found][: len(fill)] == [d.name for d in new.drugs]
    for drug in found:
        mass = old.concentration_ng_ml(drug.name) * residual_nl
        mass += new.concentration_ng_ml(drug.name) * fill_nl
        assert drug.concentration_ng_ml * (residual_nl + fill_nl) == mass
    names = {drug.name for drug in found}
    assert all(d.name in names for d in new.drugs)
    assert (not residual_nl) or all(d.name in names for d in old.drugs)


def test_a_refill_with_another_concentration_on_a_residual():
    old, new = (Mixture((Drug("baclofen", c),)) for c in (500_000, 2_000_000))
    (found,) = mixed(old, 2_000_000, new, 18_000_000)
    assert found.concentration_ng_ml == 1_850_000  # (2 x 500 + 18 x 2,000) / 20 ug/mL
    assert found.words == "baclofen 1.85 mg/mL"
    assert mixed(None, 0, new, 18_000_000) == new.drugs


@pytest.mark.parametrize(("known", "rest", "fill"), [(False, 1, 1), (True, -1, 1), (True, 0, 0)])
def test_what_cannot_mix(known, rest, fill):
    one = Mixture((Drug("baclofen", 500_000),))
    with pytest.raises(ValueError, match=r"mix|known"):
        mixed(one if known else None, rest, one, fill)


@pytest.mark.parametrize(
    ("drugs", "words"),
    [
        ([], "0 drugs, allowed are 1 to 4"),
        ([Drug(str(i), 1) for i in range(5)], "5 drugs, allowed are 1 to 4"),
        ([Drug("a", 1), Drug("a", 2)], '"a" is in the mixture twice'),
    ],
)
def test_a_mixture_that_is_none(drugs, words):
    with pytest.raises(UsageError, match=words):
        Mixture(tuple(drugs))


def test_a_ratio_that_makes_no_concentration():
    with pytest.raises(UsageError, match=r"ratio 0.333333 makes no whole number of ng/mL"):
        by_ratio(Drug("a", 1000), (("b", Fraction(1, 3)),))
    with pytest.raises(UsageError, match=r"allowed are 1 to 1000000000000 ng/mL"):
        by_ratio(Drug("a", 10**12), (("b", Fraction(2)),))


def test_lengths_and_volumes_per_length_are_read_strictly():
    assert units.parse_length("80 cm") == 800_000
    assert units.parse_length("80.5 mm") == 80_500
    assert units.parse_volume_per_length("0.0022 mL/cm") == 2_200
    assert units.parse_volume_per_length("2.2 uL/cm") == 2_200
    for text in (".5 cm", "80", "80 mL", "-1 cm", "1e1 cm", "80 m"):
        with pytest.raises(units.QuantityError):
            units.parse_length(text)
