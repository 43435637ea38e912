import pytest

from peregrine.stages import wording


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0%"), (0.0004, "< 0.1%"), (0.8336, "83.4%"), (0.9996, "> 99.9%"), (1, "100.0%")]
)
def test_only_everything_is_100_percent(share: float, text: str) -> None:
    assert wording.percent(share) == text


@pytest.mark.parametrize(
    ("probability", "text"), [(0, "0%"), (0.004, "< 1%"), (0.29, "29%"), (0.999, "99%"), (1, "100%")]
)
def test_a_probability_is_never_rounded_up_to_certainty(probability: float, text: str) -> None:
    assert wording.sure(probability) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (10_000, "10,000 images")])
def test_counts_agree_with_their_noun(number: int, text: str) -> None:
    assert wording.count(number, "image") == text
    assert wording.are(number) == ("is" if number == 1 else "are")


@pytest.mark.parametrize(
    ("value", "text"), [(0.5123, "0.512"), (0.44, "0.440"), (12.345, "12.3"), (99.96, "100"), (12_340.4, "12,340")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.841, "0.84 s"), (47.26, "47.3 s"), (59.97, "1 min 00 s"), (192.4, "3 min 12 s"), (7_500, "2 h 05 min")],
)
def test_durations_are_told_in_the_unit_people_use(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(("size_bytes", "text"), [(812_345, "812 kB"), (999_600, "1.0 MB"), (44_700_000, "44.7 MB")])
def test_sizes_have_units(size_bytes: int, text: str) -> None:
    assert wording.size(size_bytes) == text


def test_long_names_lose_their_middle_and_keep_both_ends() -> None:
    assert wording.short("ship", 12) == "ship"
    short = wording.short("Ursus_arctos_horribilis_female_adult", 18)
    assert len(short) == 18
    assert short.startswith("Ursus_arcto")
    assert short.endswith("_adult")


def test_control_characters_cannot_turn_a_line_around() -> None:
    assert wording.short("dog\u202egod\n", 20) == "dog\ufffdgod\ufffd"


@pytest.mark.parametrize(
    ("text", "sentence"), [("it is busy", "It is busy."), ("It is.", "It is."), ("why?", "Why?"), ("", ".")]
)
def test_a_sentence_begins_and_ends(text: str, sentence: str) -> None:
    assert wording.sentence(text) == sentence


@pytest.mark.parametrize(("share", "text"), [(0.90166, "90.17%"), (1, "100.00%"), (0.99999, "> 99.99%")])
def test_only_everything_is_exactly_100_percent(share: float, text: str) -> None:
    assert wording.exact_percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.0000"), (0.0123, "0.0123"), (2.4e-7, "2.4 × 10⁻⁷"), (9.96e-5, "1.0 × 10⁻⁴")]
)
def test_small_differences_have_powers(value: float, text: str) -> None:
    assert wording.power(value) == text


def test_a_ratio_has_three_digits() -> None:
    assert [wording.ratio(value) for value in (3.618, 0.9067, 12.34)] == ["3.62×", "0.907×", "12.3×"]


@pytest.mark.parametrize(("value", "text"), [(0.068, "+0.07"), (-11.85, "−11.85"), (-0.004, "0.00"), (0, "0.00")])
def test_changes_have_a_sign(value: float, text: str) -> None:
    assert wording.points(value) == text
