from pathlib import Path

import pytest

from subpixel.evaluation.published import known_name, published


def found(name, scale):
    return {(row.method, row.source): row.psnr_db for row in published(name, scale)}


def test_numbers_of_the_espcn_paper():
    first, second = "ESPCN paper, table 1", "ESPCN paper, table 2"
    assert found("Set5", 3)["ESPCN tanh (91)", first] == 32.55
    assert found("Set14", 3)["ESPCN relu (91)", first] == 28.97
    assert found("Set14", 4)["Bicubic", second] == 26.00
    assert found("BSD100", 3)["ESPCN tanh (ImageNet)", second] == 28.54  # the paper says BSD300
    assert found("BSD500", 4)["TNRD 7x7 5-stage", second] == 27.00


def test_numbers_of_later_papers():
    assert found("Set5", 2)["FSRCNN", "later papers"] == 37.00
    assert found("BSD100", 2)["SESR-M5", "later papers, unchecked"] == 31.70
    assert found("Urban100", 4)["Bicubic", "later papers"] == 23.14


def test_numbers_are_sorted_and_unique():
    rows = published("Set5", 3)
    assert [row.psnr_db for row in rows] == sorted(row.psnr_db for row in rows)
    assert [row.source for row in rows if row.method == "Bicubic"] == ["ESPCN paper, table 2"]
    assert [row.psnr_db for row in published("Set14", 3) if row.method == "Bicubic"] == [27.54, 27.55]
    assert len(rows) == 14


@pytest.mark.parametrize(("name", "scale"), [("Set5", 5), ("holiday", 3), (None, 3), ("Average", 3)])
def test_unknown_test_sets_and_scales_have_no_numbers(name, scale):
    assert published(name, scale) == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("x/Set5", "Set5"),
        ("x/set14/", "Set14"),
        ("x/Set5/HR", "Set5"),
        ("x/BSDS500/val", "BSD100"),
        ("x/BSDS500/test", "BSD500"),
        ("x/B100", "BSD100"),
        ("x/BSD300", "BSD100"),
        ("x/BSDS500/train", None),
        ("x/val", None),
        ("x/Set55", None),
    ],
)
def test_test_sets_are_recognized_by_folder_names(folder, name):
    assert known_name(Path(folder)) == name
