"""Drawings of fixed findings. CI has no matplotlib: there the message is what is tested."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.findings import Plot
from bench.libraries import LibraryMissing
from bench.page.plots import draw
from tests.project.bench.sections import PLOTS


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.kind)
def test_a_plot_is_drawn_the_same_twice_or_says_what_it_needs(plot: Plot, tmp_path: Path) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    if find_spec("matplotlib") is None:
        with pytest.raises(LibraryMissing, match="uv run --group bench"):
            draw(plot, one)
        return
    draw(plot, one)
    draw(plot, two)
    assert one.read_bytes() == two.read_bytes()
    texts = "".join([text for text in ET.parse(one).getroot().itertext() if text.strip()])
    assert plot.title in texts
    assert plot.x in texts
    for name in plot.series:
        assert name in texts
