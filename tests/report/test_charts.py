import itertools
import re
import xml.etree.ElementTree as ET

from vae_lab.report import charts
from vae_lab.report.charts import Curves, Latent, Point

TWO_SEEDS = [Curves("2", [[5.0, 3.0], [6.0, 4.0]], [[7.0, 4.0], [8.0, 5.0]]), Curves("3", [[9.0, 8.0]], [])]


def words(svg: str) -> list[str]:
    """The texts of a chart."""
    return ["".join(node.itertext()).strip() for node in tree(svg).iter() if node.tag.endswith("text")]


def tree(svg: str) -> ET.Element:
    return ET.fromstring(re.sub("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', svg, count=1))


def bands(svg: str) -> int:
    return svg.count("PolyCollection") or svg.count("FillBetweenPolyCollection")


def test_a_chart_is_one_scalable_element_whose_colours_the_page_decides() -> None:
    svg = charts.loss_curves("depth", "layers", TWO_SEEDS)
    root = tree(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert not {"width", "height"} & root.attrib.keys()
    assert {"var(--c0)", "var(--c1)", "var(--rule)", "currentColor"} <= set(
        re.findall(r"var\(--\w+\)|currentColor", svg)
    )
    assert re.findall(r"#0[0-9a-f]{5}\b", svg) == []


def test_every_curve_is_labelled_and_the_axes_have_units() -> None:
    shown = words(charts.loss_curves("depth", "layers", TWO_SEEDS))
    assert {"2", "3", "layers", "held out", "train", "epoch", "loss, nats per image"} <= set(shown)


def test_a_band_stands_where_there_are_several_replicates() -> None:
    assert bands(charts.loss_curves("a", "layers", TWO_SEEDS)) == 2
    assert bands(charts.loss_curves("a", "layers", [Curves("3", [[9.0, 8.0]], [[9.0, 8.5]])])) == 0


def test_labels_of_curves_that_end_together_do_not_overlap() -> None:
    crowded = [Curves(f"k{i}", [[9.0, 5.0 + i / 1000]], []) for i in range(4)]
    svg = charts.loss_curves("a", "layers", crowded)
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
    series = [Latent("2", [[3.0, 2.0, 0.0], [3.2, 1.8, 0.1]]), Latent("30", [[4.0, 0.1]])]
    drawn = charts.latent_use("latent", "latent size", series)
    assert {"2", "30", "latent size", "KL, nats per image", "latent dimension, by its KL"} <= {*words(drawn)}
    assert bands(drawn) == 1
    assert {"var(--c0)", "var(--c1)"} <= {*re.findall(r"var\(--\w+\)", drawn)}


def test_hostile_labels_stay_text() -> None:
    name = '<script>"&"</script>$\\x$'
    for svg in (
        charts.loss_curves("a", name, [Curves(name, [[1.0, 2.0]], [])]),
        charts.latent_use("c", name, [Latent(name, [[1.0, 0.5]])]),
        charts.rate_distortion("b", [Point(name, name, 1.0, 2.0), Point("other", "y", 2.0, 3.0)]),
    ):
        assert "<script" not in svg
        assert name in words(svg)


def test_the_same_chart_is_drawn_the_same_and_ids_differ_between_charts() -> None:
    first, again, other = (charts.loss_curves(name, "layers", TWO_SEEDS) for name in ("a", "a", "b"))
    assert first == again
    clips = [set(re.findall(r'clipPath id="(\w+)"', svg)) for svg in (first, other)]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_iso_lines_carry_the_sum_of_rate_and_distortion() -> None:
    points = [Point("VAE", "L2", 10.0, 90.0), Point("CVAE", "L3", 20.0, 100.0)]
    shown = words(charts.rate_distortion("rd", points))
    assert {"L2", "L3", "VAE", "CVAE", "110"} <= set(shown)
    assert {"rate: KL, nats per image", "distortion: reconstruction, nats per image"} <= set(shown)


def test_one_point_alone_can_be_drawn() -> None:
    assert "L2" in words(charts.rate_distortion("rd", [Point("VAE", "L2", 10.0, 90.0)]))


def test_a_long_label_is_cut_and_says_so() -> None:
    shown = words(charts.loss_curves("a", "layers", [Curves("long " * 30, [[1.0, 2.0]], [])]))
    assert "long long long long lon…" in shown


def test_replicates_share_one_label_and_many_configurations_have_none() -> None:
    seeds = [Point("VAE", "L2", 10.0 + i, 90.0 - i) for i in range(3)]
    assert words(charts.rate_distortion("rd", seeds)).count("L2") == 1
    many = [Point("VAE", f"k{i}", 10.0 + i, 90.0) for i in range(charts.LABELLED + 1)]
    assert not [word for word in words(charts.rate_distortion("rd", many)) if word.startswith("k")]


def test_of_many_flat_dimensions_the_first_are_shown() -> None:
    tail = [0.01] * 94
    assert "latent dimension, by its KL (the first 20)" in words(
        charts.latent_use("latent", "size", [Latent("100", [[3.0] * 6 + tail])])
    )
    assert "latent dimension, by its KL" in words(
        charts.latent_use("latent", "size", [Latent("100", [[3.0] * 80 + [0.0] * 20])])
    )
