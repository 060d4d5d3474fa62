import itertools
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from vae_lab.report import drawing
from vae_lab.report.charts import loss_curves, rate_distortion
from vae_lab.report.charts.data_spectrum import data_spectrum
from vae_lab.report.charts.latent_use import MOST_LABELLED, LatentUse, latent_use
from vae_lab.report.charts.loss_curves import LossCurves, run_losses, study_losses
from vae_lab.report.charts.rate_distortion import RateDistortion
from vae_lab.report.charts.searches import best_so_far, search_charts
from vae_lab.report.pictures import load_picture
from vae_lab.report.searches import headings
from vae_lab.studies.searched import Searched, State, Step

TWO_SEEDS = [
    LossCurves("2", [[5.0, 3.0], [6.0, 4.0]], [[7.0, 4.0], [8.0, 5.0]]),
    LossCurves("3", [[9.0, 8.0]], []),
]


def losses(*arguments: Any, **more: Any) -> str:
    return drawing.svg(study_losses(*arguments, **more))


def use(*arguments: Any) -> str:
    return drawing.svg(latent_use(*arguments))


def plane(*arguments: Any) -> str:
    return drawing.svg(rate_distortion.rate_distortion(*arguments))


def words(svg: str) -> list[str]:
    """The texts of a chart."""
    return ["".join(node.itertext()).strip() for node in tree(svg).iter() if node.tag.endswith("text")]


def tree(svg: str) -> ET.Element:
    return ET.fromstring(re.sub("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', svg, count=1))


def bands(svg: str) -> int:
    return svg.count("PolyCollection") or svg.count("FillBetweenPolyCollection")


def test_a_chart_is_one_scalable_element_whose_colours_the_page_decides() -> None:
    svg = losses("depth", "layers", TWO_SEEDS)
    root = tree(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert not {"width", "height"} & root.attrib.keys()
    assert {"var(--c0)", "var(--c1)", "var(--rule)", "currentColor"} <= set(
        re.findall(r"var\(--\w+\)|currentColor", svg)
    )
    assert re.findall(r"#0[0-9a-f]{5}\b", svg) == []


def test_every_curve_is_labelled_and_the_axes_have_units() -> None:
    shown = words(losses("depth", "layers", TWO_SEEDS))
    assert {"2", "3", "layers", "held out", "train", "epoch", "loss, nats per image"} <= set(shown)


def test_a_band_stands_where_there_are_several_replicates() -> None:
    assert bands(losses("a", "layers", TWO_SEEDS)) == 2
    assert bands(losses("a", "layers", [LossCurves("3", [[9.0, 8.0]], [[9.0, 8.5]])])) == 0


def test_labels_of_curves_that_end_together_do_not_overlap() -> None:
    crowded = [LossCurves(f"k{i}", [[9.0, 5.0 + i / 1000]], []) for i in range(4)]
    svg = losses("a", "layers", crowded)
    heights = sorted(
        float(re.findall(r"translate\(\S+ (\S+)\)", node.attrib["transform"])[0])
        if "translate" in node.attrib.get("transform", "")
        else float(node.attrib["y"])
        for node in tree(svg).iter()
        if node.tag.endswith("text") and "".join(node.itertext()).strip().startswith("k")
    )
    assert len(heights) == 4
    assert min(b - a for a, b in itertools.pairwise(heights)) > 8


def test_the_latent_dimensions_of_every_configuration_have_a_curve_and_a_label() -> None:
    series = [LatentUse("2", [[3.0, 2.0, 0.0], [3.2, 1.8, 0.1]]), LatentUse("30", [[4.0, 0.1]])]
    drawn = use("latent", "latent size", series)
    assert {"2", "30", "latent size", "KL, nats per image", "latent dimension, by its KL"} <= {*words(drawn)}
    assert bands(drawn) == 1
    assert {"var(--c0)", "var(--c1)"} <= {*re.findall(r"var\(--\w+\)", drawn)}


def test_hostile_labels_stay_text() -> None:
    name = '<script>"&"</script>$\\x$'
    for svg in (
        losses("a", name, [LossCurves(name, [[1.0, 2.0]], [])]),
        use("c", name, [LatentUse(name, [[1.0, 0.5]])]),
        plane("b", [RateDistortion(name, name, 1.0, 2.0), RateDistortion("other", "y", 2.0, 3.0)]),
    ):
        assert "<script" not in svg
        assert name in words(svg)


def test_the_same_chart_is_drawn_the_same_and_ids_differ_between_charts() -> None:
    first, again, other = (losses(name, "layers", TWO_SEEDS) for name in ("a", "a", "b"))
    assert first == again
    clips = [set(re.findall(r'clipPath id="(\w+)"', svg)) for svg in (first, other)]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_iso_lines_carry_the_sum_of_rate_and_distortion() -> None:
    points = [RateDistortion("VAE", "L2", 10.0, 90.0), RateDistortion("CVAE", "L3", 20.0, 100.0)]
    shown = words(plane("rd", points))
    assert {"L2", "L3", "VAE", "CVAE", "110"} <= set(shown)
    assert {"rate: KL, nats per image", "distortion: reconstruction, nats per image"} <= set(shown)


def test_a_decoders_curve_is_a_line_and_leaves_the_runs_where_they_are() -> None:
    bare = RateDistortion("VAE", "L2", 10.0, 90.0)
    other = RateDistortion("VAE", "L3", 20.0, 100.0)
    curve = ((0.0, 550.0), (5.0, 200.0), (11.0, 88.0))
    plain, drawn = (plane("rd", [run, other]) for run in (bare, bare._replace(curve=curve)))
    assert "stroke-dasharray" in drawn
    assert "stroke-dasharray" not in plain
    assert words(drawn) == words(plain)


def test_one_point_alone_can_be_drawn() -> None:
    assert "L2" in words(plane("rd", [RateDistortion("VAE", "L2", 10.0, 90.0)]))


def test_a_long_label_is_cut_and_says_so() -> None:
    shown = words(losses("a", "layers", [LossCurves("long " * 30, [[1.0, 2.0]], [])]))
    assert "long long long long lon…" in shown


def test_replicates_share_one_label_and_many_configurations_have_none() -> None:
    seeds = [RateDistortion("VAE", "L2", 10.0 + i, 90.0 - i) for i in range(3)]
    assert words(plane("rd", seeds)).count("L2") == 1
    many = [RateDistortion("VAE", f"k{i}", 10.0 + i, 90.0) for i in range(rate_distortion.LABELLED + 1)]
    assert not [word for word in words(plane("rd", many)) if word.startswith("k")]


def test_of_many_flat_dimensions_the_first_are_shown() -> None:
    tail = [0.01] * 94
    assert "latent dimension, by its KL (the first 20)" in words(
        use("latent", "size", [LatentUse("100", [[3.0] * 6 + tail])])
    )
    assert "latent dimension, by its KL" in words(
        use("latent", "size", [LatentUse("100", [[3.0] * 80 + [0.0] * 20])])
    )


def test_a_picture_has_the_pages_light_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DOTS", 150)  # with fewer a line is nowhere of its colour alone
    drawing.save(study_losses("a", "layers", TWO_SEEDS, title="depth"), tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")[..., :3]
    width, height = loss_curves.ON_A_PAGE
    assert picture.shape[:2] == (
        round((height + drawing.TITLE_HEIGHT) * drawing.DOTS), round(width * drawing.DOTS)
    )  # fmt: skip
    for shade in ("1863a6", "c2500a"):
        assert (picture == [*bytes.fromhex(shade)]).all(-1).any()


def test_pictures_drawn_in_several_threads_are_those_of_one(tmp_path: Path) -> None:
    charts = [study_losses(str(i), "layers", TWO_SEEDS, title="$x$ 数") for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        pages = list(threads.map(drawing.svg, charts))
        list(threads.map(lambda chart: drawing.save(chart, tmp_path / f"{chart.name}.png"), charts))
    assert pages == [drawing.svg(chart) for chart in charts]
    first, *others = (load_picture(tmp_path / f"{chart.name}.png") for chart in charts)
    assert all(np.array_equal(first, other) for other in others)


def test_a_picture_shows_a_box_for_a_sign_that_the_font_lacks() -> None:
    with drawing.standalone_figure(
        study_losses("a", "", [LossCurves("数 L2", [[9.0, 8.0]], [])], title="数")
    ) as figure:
        texts = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    assert {"□", "□ L2"} <= {*texts}


@pytest.mark.parametrize(
    ("count", "first"), [(1, 150.0), (3, 150.0), (10, 150.0), (10, 50.0), (40, 150.0), (100, 150.0)]
)
def test_the_labels_of_many_configurations_do_not_overlap(count: int, first: float) -> None:
    losses = np.random.default_rng(count).normal(100, 0.1, count)  # they end close together
    series = [LossCurves(f"cvae L{i} Z30", [[first, 98.0, loss]], []) for i, loss in enumerate(losses)]
    with drawing.standalone_figure(study_losses("a", "", series, title="many", size=(8.0, 4.0))) as figure:
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts if text.get_text()]
        axis = figure.axes[0].bbox
    assert len(boxes) == count
    boxes.sort(key=lambda box: float(box.y0))
    assert all(lower.y1 <= upper.y0 + 2 for lower, upper in itertools.pairwise(boxes))
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= figure.bbox.y1
    middles = [(box.y0 + box.y1) / 2 for box in boxes]
    assert middles[0] >= axis.y0 - 1
    assert middles[-1] <= axis.y1 + 1 or count > loss_curves.MOST_BESIDE
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_more_configurations_than_can_be_read_have_no_labels() -> None:
    series = [LossCurves(f"k{i}", [[9.0, 8.0]], []) for i in range(loss_curves.MOST_LABELLED + 1)]
    assert not [word for word in words(losses("a", "size", series)) if word.startswith("k")]
    uses = [LatentUse(f"k{i}", [[2.0, 1.0]]) for i in range(MOST_LABELLED + 1)]
    assert not [word for word in words(use("a", "seed", uses)) if word.startswith("k")]
    assert latent_use("a", "seed", uses).width == latent_use("a", "seed", uses[:1]).width


def test_a_mean_goes_on_over_the_longer_replicates() -> None:
    with drawing.standalone_figure(
        study_losses("a", "", [LossCurves("k", [[9.0, 8.0], [7.0]], [])])
    ) as figure:
        (line,) = figure.axes[0].lines
    assert np.array_equal(line.get_ydata(), [8.0, 8.0])


def test_one_epoch_can_be_seen() -> None:
    with drawing.standalone_figure(study_losses("a", "", [LossCurves("k", [[9.0]], [])])) as figure:
        (line,) = figure.axes[0].lines
    assert line.get_marker() == "o"


def test_a_runs_curves_show_train_and_held_out_with_units() -> None:
    epochs = [
        {
            f"{part}/{name}": float(i)
            for part in ("train", "test")
            for name in ("loss", "reconstruction", "kl")
        }
        for i in range(3)
    ]
    with drawing.standalone_figure(run_losses(epochs, "vae")) as figure:
        assert [axes.get_title() for axes in figure.axes] == ["Loss", "Reconstruction", "KL"]
        assert figure.axes[0].get_ylabel() == "nats per image"
        legend = figure.axes[0].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.texts] == ["held out", "train"]
        for axes in figure.axes:
            train, held_out = axes.lines
            assert [train.get_linestyle(), held_out.get_linestyle()] == ["--", "-"]
            assert np.array_equal(train.get_xdata(), [1, 2, 3])


def test_a_data_set_s_spectrum_names_the_ranks(tmp_path: Path) -> None:
    chart = data_spectrum([3.0, 2.0, 1.0], [0.64, 0.93, 1.0], {0.9: 2}, "digits")
    with drawing.standalone_figure(chart) as figure:
        left, right = figure.axes
        assert [text.get_text() for text in right.texts] == ["90%: 2"]
        assert left.get_ylabel() == "singular value"
    for suffix in ("png", "pdf", "svg"):
        drawing.save(chart, tmp_path / f"spectrum.{suffix}")
        assert (tmp_path / f"spectrum.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_search_shows_its_whole_trials_whichever_way_is_better(
    direction: Literal["minimize", "maximize"],
) -> None:
    sign = 1 if direction == "minimize" else -1
    ends = [
        Step(name, 3, [100.0 + sign * worse], at) for at, (name, worse) in enumerate([("a", 5), ("b", 9)])
    ]
    stopped = Step("c", 1, [100.0 + sign * 400], 3)
    searched = Searched(["test/loss"], [direction], 3, 9, 3, [*ends, stopped])
    figure = Figure()
    best_so_far("best", searched, "loss").draw(figure)
    low, high = figure.axes[0].get_ylim()
    assert [low < step.values[0] < high for step in (*ends, stopped)] == [True, True, False]


def test_crosses_are_the_trials_that_were_stopped_and_triangles_those_that_broke_off() -> None:
    steps = [Step("one", 3, [5.0], 3, 0), Step("two", 1, [9.0], 4, 1), Step("two", 1, [8.0], 5, 2)]
    states: dict[str, State] = {"0": "whole", "1": "stopped", "2": "failed", "3": "failed"}
    searched = Searched(["test/loss"], ["minimize"], 3, 9, 4, steps, spent=8, states=states)
    figure = Figure()
    ((chart, said),) = search_charts(searched)
    chart.draw(figure)
    marks = {line.get_marker(): np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines[:3]}
    assert marks == {"x": [9.0], "v": [8.0], "o": [5.0]}
    # Epochs after the last pause are spent, too.
    assert np.max(np.asarray(figure.axes[0].lines[-1].get_xdata())) == 8
    assert said.endswith(
        "crosses are trials that were stopped, triangles those that failed or were left, where "
        "they paused last."
    )


@pytest.mark.parametrize("objectives", [2, 3])
def test_a_line_joins_the_best_of_two_objectives_and_of_more_every_pair_is_drawn(objectives: int) -> None:
    values = [[1.0, 4.0, 2.0], [2.0, 5.0, 1.0], [3.0, 1.0, 3.0], [4.0, 6.0, 9.0]]
    metrics = ["test/kl", "test/reconstruction", "test/loss"][:objectives]
    steps = [Step(f"r{at}", 1, ends[:objectives], at + 1) for at, ends in enumerate(values)]
    searched = Searched(metrics, ["minimize"] * objectives, 1, 4, 4, steps)
    figure = Figure()
    _, (chart, said) = search_charts(searched)
    chart.draw(figure)
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [*itertools.combinations(headings(searched), 2)]
    joined = {line.get_linestyle() for axes in figure.axes for line in axes.lines}
    assert ("-" in joined) == (objectives == 2)
    assert ("the line joins" in said) == (objectives == 2)
    assert ("in all 3 objectives" in said) == (objectives == 3)
