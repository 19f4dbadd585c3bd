"""What is noted of options that are left out."""

import pytest

from libs.worker.seeds import fits_32_bits
from libs.worker.unsupported_options import UnsupportedOptions


def noted(unsupported: UnsupportedOptions) -> list[tuple[str, str]]:
    return [(dropped.option, dropped.reason) for dropped in unsupported.dropped]


class TestOnce:
    def test_the_first_place_stands_for_all(self) -> None:
        unsupported = UnsupportedOptions()
        for place in ("messages[0]", "messages[1]", "messages[2]"):
            unsupported.drop_once(place, "It takes none.")
        unsupported.drop_once("messages[3]", "It takes few.")
        assert noted(unsupported) == [("messages[0]", "It takes none."), ("messages[3]", "It takes few.")]

    def test_options_that_share_a_reason_are_noted_each(self) -> None:
        unsupported = UnsupportedOptions()
        for option in ("options.presencePenalty", "options.frequencyPenalty"):
            unsupported.drop(option, "It has no penalties.")
        assert len(unsupported.dropped) == 2


class TestSeed:
    @pytest.mark.parametrize("seed", [0, 7, -7, 2_147_483_647, -2_147_483_648])
    def test_of_32_bits_fits(self, seed: int) -> None:
        unsupported = UnsupportedOptions()
        assert fits_32_bits(seed, "Acme", unsupported)
        assert noted(unsupported) == []

    @pytest.mark.parametrize("seed", [2_147_483_648, -2_147_483_649, 2**62])
    def test_of_more_is_noted(self, seed: int) -> None:
        unsupported = UnsupportedOptions()
        assert not fits_32_bits(seed, "Acme", unsupported)
        assert noted(unsupported) == [("options.seed", "Acme takes seeds of 32 bits only.")]
