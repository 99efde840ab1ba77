"""Our model gives the published implementation's numbers (tests/golden/README.md)."""

import pytest

from tests.tcclip.model.golden import check_all


def test_tcclip_t4() -> None:
    check_all("tcclip_t4")


@pytest.mark.parametrize("case", ["vificlip_t4", "clip_t4"])
def test_frame_by_frame_everything(case: str) -> None:
    check_all(case)


@pytest.mark.slow
def test_tcclip_t16_in_float64() -> None:
    check_all("tcclip_t16_f64")
