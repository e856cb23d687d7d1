"""`bitexact report`: what the page says, that it escapes what it is given, and what it refuses."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.compare.mismatch import find_array_mismatch
from bench.compare.verdict import VERDICTS
from bench.reports import json_file
from bench.reports.html.page import Page, render
from bench.reports.html.picture import MOST_PANELS, picture_of
from bench.reports.html.png import data_uri
from bench.reports.html.states import layer_state
from tests.bench.report_runs import (
    HOSTILE,
    broken_layers,
    every_verdict,
    exact_networks,
    layer,
    mismatch,
    verdict,
)

VOID = {"meta", "link", "br", "rect", "image", "path", "img"}


class Reader(HTMLParser):
    """Text, ids, links and addresses of a page; an element that is not closed is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.ids, self.targets, self.addresses = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.targets += [given["href"][1:]] if tag == "a" else []
        self.addresses += [value for key, value in attributes if key in ("src", "href") and tag != "a"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def page(run):
    return Reader(render([("run.json", run)]))


def test_every_verdict_is_counted_and_explained():
    read = page(every_verdict())
    assert "9 of 11 runs are not exact" in read.words
    for name in VERDICTS:
        assert name in read.words
    for said in (
        "two threads",
        "qemu-hexagon not found: apt-get install qemu-user",
        "it has 2 groups",
        "a-fault",
    ):
        assert said in read.words
    assert "and 50 more, in the JSON" in read.words


def test_links_lead_somewhere_and_ids_are_unique():
    for run in (every_verdict(), exact_networks()):
        read = page(run)
        assert len(set(read.ids)) == len(read.ids)
        assert set(read.targets) <= set(read.ids)


def test_the_page_fetches_nothing():
    text = render([("run.json", every_verdict())])
    assert all(address.startswith("data:") for address in Reader(text).addresses)
    assert not re.search(r"url\(|@import|<script|<iframe|https?://", text)


def test_text_of_the_run_is_no_markup():
    read = page(every_verdict())
    assert HOSTILE in read.words
    hostile = every_verdict()
    hostile.verdicts[0].workload = HOSTILE
    assert read.words.count(HOSTILE) < page(hostile).words.count(HOSTILE)


def test_exact_runs_say_so():
    read = page(exact_networks())
    assert "All 3 runs are exact" in read.words
    assert "What went wrong" not in read.words
    assert "36 exact, 18 unsupported" in read.words


def test_a_mismatch_is_told_in_words():
    words = page(every_verdict()).words
    found = every_verdict().verdicts[2].mismatch
    assert f"The device computed {found.device} where the reference has {found.reference}" in words.replace(
        " :", ":"
    )
    assert f"in {found.differing} of {found.elements} elements" in words
    assert "n = 0, c = 0; rows h, columns w." in words
    assert "All 20 products" in words
    assert "lanes swapped lanes 0 and 1 90 of 93 (of 1 image) 4" in words
    assert "8x4; 12 shapes were tried" in words
    assert "Run again on of-2, as the server of-1 was lost" in words
    assert "relax.nn.pad 2 padding" in words
    assert "gives 4 at [0, 0], reference 5" in words


def test_files_are_named_where_runs_are_alike():
    run = exact_networks()
    twice = [("before.json", run), ("after.json", run)]
    assert [entry.file for entry in Page(twice).entries] == ["before.json"] * 3 + ["after.json"] * 3
    assert [entry.file for entry in Page(twice[:1]).entries] == [None] * 3


@pytest.mark.parametrize(
    ("state", "run", "changes"),
    [
        ("exact", "exact", {}),
        ("mismatch", "mismatch", {"verdict": "mismatch", "errors": 1}),
        ("hazard", "hazard", {"errors": 1}),
        ("exact", "hazard", {}),
        ("unsupported", "exact", {"instruction": None}),
        ("exact", "exact", {"instruction": None, "operator": "kernel"}),
        ("not reached", "device-missing", {"verdict": None}),
    ],
)
def test_the_state_of_a_layer(state, run, changes):
    assert layer_state(verdict(run), layer(1, **changes)).name == state


def test_the_only_layer_of_a_hazard_is_hazardous():
    assert layer_state(verdict("hazard", layers=[layer(1)]), layer(1)).name == "hazard"


def test_only_the_first_layer_that_differs_is_marked():
    wrong = verdict("mismatch", mismatch=mismatch(), layers=broken_layers())
    run = json_file.Run({}, None, [wrong])
    assert [cell.first for cell in Page([("run.json", run)]).entries[0].cells] == [False, True, False]


def test_the_instruction_of_a_kernel_by_itself_is_named():
    found = find_array_mismatch("out", np.zeros((2, 2), np.int8), np.eye(2, dtype=np.int8))
    kernel = layer(1, name="kernel", operator="kernel", instruction="vrmpy", verdict="mismatch")
    words = page(json_file.Run({}, None, [verdict("mismatch", mismatch=found, layers=[kernel])])).words
    assert "vrmpy , executed 100 times" in words
    kernel.instruction = None
    words = page(json_file.Run({}, None, [verdict("mismatch", mismatch=found, layers=[kernel])])).words
    assert "none was asked for; 100 tensor instructions were executed" in words
    assert "d0 0" in words
    assert "Tensors before it" not in words


class TestPicture:
    def test_a_slice_for_each_channel(self):
        picture = picture_of(mismatch((2, 5, 6, 7)))
        assert (picture.panel_axis, picture.row_axis, picture.column_axis) == ("c", "h", "w")
        assert picture.fixed == "n = 0"
        assert [panel.label for panel in picture.panels] == ["c 0", "c 1", "c 2", "c 3", "c 4"]
        assert [panel.first is not None for panel in picture.panels] == [True] + [False] * 4
        assert sum(picture.profiles[1].heights) > 0
        cells = [cell for _, row in picture.window.rows for cell in row]
        assert sum(cell.first for cell in cells) == 1
        (first,) = (cell for cell in cells if cell.first)
        assert first.device != first.reference

    @pytest.mark.parametrize(
        ("shape", "axes", "panels"), [((7,), "N", 1), ((3, 4), "NC", 1), ((2, 3, 4), "BNC", 2)]
    )
    def test_tensors_of_lower_rank(self, shape, axes, panels):
        picture = picture_of(mismatch(shape, axes, share=0.9))
        assert len(picture.panels) == panels
        assert len(picture.profiles) == len(shape)
        assert sum(cell.first for _, row in picture.window.rows for cell in row) == 1

    def test_of_many_slices_those_that_differ_are_shown(self):
        few = picture_of(mismatch((1, 300, 3, 3), share=0.02))
        many = picture_of(mismatch((1, 300, 3, 3), share=0.5))
        assert all(panel.image for panel in few.panels)
        assert len(few.panels) + few.equal == 300
        assert len(many.panels) == MOST_PANELS
        assert len(many.panels) + many.equal + many.more == 300

    def test_older_runs_have_none(self):
        found = mismatch()
        assert picture_of(type(found)(**{**vars(found), "difference": None})) is None

    def test_the_first_element_gets_a_box_that_can_be_seen(self):
        (panel,) = picture_of(mismatch((200, 200), "NC")).panels
        left, top, side = panel.mark
        row, column = panel.first
        assert side * panel.scale >= 9
        assert (left + side / 2, top + side / 2) == (column + 0.5, row + 0.5)


def test_a_png_has_one_bit_for_each_element():
    import base64
    import struct
    import zlib

    mask = np.random.default_rng(0).random((5, 13)) < 0.5
    content = base64.b64decode(data_uri(mask, (1, 2, 3)).split(",")[1])
    assert struct.unpack(">II", content[16:24]) == (13, 5)
    at = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[at - 4 : at])
    lines = np.frombuffer(zlib.decompress(content[at + 4 : at + 4 + length]), np.uint8).reshape(5, 3)
    np.testing.assert_array_equal(np.unpackbits(lines[:, 1:], axis=1)[:, :13], mask)


def written(path: Path, run) -> Path:
    json_file.write(path, run.verdicts, seed=run.seed)
    return path


def test_the_command_writes_the_page_and_says_what_is_in_it(tmp_path, capsys):
    path, output = written(tmp_path / "run.json", every_verdict()), tmp_path / "page.html"
    assert main(["report", str(path), "-o", str(output)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"{output}: 2 of 11 exact\n")
    assert "✗ wrong, tensorcore on sim: mismatch" in printed
    assert page(json_file.read(path)).words == Reader(output.read_text()).words


def test_the_exit_status_is_0_only_where_all_is_exact(tmp_path):
    good, bad = written(tmp_path / "a.json", exact_networks()), written(tmp_path / "b.json", every_verdict())
    empty = written(tmp_path / "c.json", json_file.Run({}, None, []))
    output = ["-o", str(tmp_path / "page.html")]
    assert main(["report", str(good), *output]) == 0
    assert main(["report", str(good), str(bad), *output]) == 1
    assert main(["report", str(empty), *output]) == 1


def changed(where, value):
    """The JSON of a run with one key replaced, or left out where the value is ``...``."""

    def change(content):
        *path, last = where
        for key in path:
            content = content[key]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return change


HUGE = {
    "axes": ["N"],
    "extents": [1 << 20],
    "logical": [1 << 20],
    "counts": {"N": [0] * (1 << 20)},
    "part": [[0, 1 << 20]],
    "mask": "",
    "window": {"corner": [0], "device": [], "reference": []},
}
MALFORMED = {
    "not-a-list": (changed(["verdicts"], 3), "verdicts: expected a list, found 3"),
    "no-verdicts": (changed(["verdicts"], ...), "it has no key 'verdicts'"),
    "unknown-verdict": (
        changed(["verdicts", 0, "verdict"], "fine"),
        "verdicts[0]: unknown verdict 'fine': one of exact",
    ),
    "missing-key": (changed(["verdicts", 1, "target"], ...), "verdicts[1].target: it is missing"),
    "text-for-number": (
        changed(["verdicts", 2, "layers", 1, "count"], "many"),
        "verdicts[2].layers[1].count: expected a whole number, found 'many'",
    ),
    "true-for-number": (
        changed(["verdicts", 0, "counters", "tensor_instructions"], True),
        "verdicts[0].counters.tensor_instructions: expected a whole number, found True",
    ),
    "number-for-text": (changed(["versions", "python"], 3), "versions.python: expected text, found 3"),
    "object-for-list": (
        changed(["verdicts", 0, "layers"], {}),
        "verdicts[0].layers: expected a list, found an object",
    ),
    "list-for-object": (changed(["verdicts", 0], []), "verdicts[0]: expected an object, found []"),
    "pair-of-three": (
        changed(["verdicts", 2, "mismatch", "difference", "part", 0], [0, 1, 2]),
        "verdicts[2].mismatch.difference.part[0]: expected 2 values, found 3",
    ),
    "mask": (
        changed(["verdicts", 2, "mismatch", "difference", "mask"], "AAAA"),
        "verdicts[2].mismatch.difference: no mask of 420 bits",
    ),
    "part-outside": (
        changed(["verdicts", 2, "mismatch", "difference", "part", 1], [3, 9]),
        "verdicts[2].mismatch.difference: part 3 to 9 of axis C is not within 0 to 5",
    ),
    "counts": (
        changed(["verdicts", 2, "mismatch", "difference", "counts", "C"], [1]),
        "verdicts[2].mismatch.difference: counts of axis C are not 5 numbers",
    ),
    "axes": (
        changed(["verdicts", 2, "mismatch", "difference", "axes"], ["N"]),
        "axes, extents, logical, counts, part and the corner are not of one length",
    ),
    "window": (
        changed(["verdicts", 2, "mismatch", "difference", "window", "device", 1], [1]),
        "verdicts[2].mismatch.difference.window: device and reference are not two tables of one shape",
    ),
    "part-too-large": (
        changed(["verdicts", 3, "mismatch", "difference"], HUGE),
        "verdicts[3].mismatch.difference: part has more than 524288 elements",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_run_names_the_key(case, tmp_path, capsys):
    change, message = MALFORMED[case]
    path = written(tmp_path / "run.json", every_verdict())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert main(["report", str(path), "-o", str(tmp_path / "page.html")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"bitexact report: {path}: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_a_first_element_that_is_not_kept_is_an_error(tmp_path, capsys):
    path = written(tmp_path / "run.json", every_verdict())
    content = json.loads(path.read_text())
    content["verdicts"][2]["mismatch"]["coordinate"]["C"] = 99
    path.write_text(json.dumps(content))
    assert main(["report", str(path), "-o", str(tmp_path / "page.html")]) == 2
    assert "mismatch in out: coordinate" in capsys.readouterr().err


def test_keys_of_a_later_version_are_passed_over(tmp_path):
    path = written(tmp_path / "run.json", exact_networks())
    content = json.loads(path.read_text())
    content["verdicts"][0]["layers"][0]["temperature"] = 40
    path.write_text(json.dumps(content))
    assert json_file.read(path).verdicts[0].exact


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON of a run"),
        (None, "No such file or directory"),
    ],
    ids=["half", "no-text", "another-json", "no-file"],
)
def test_what_is_no_run_is_a_usage_error(content, message, tmp_path, capsys):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(path)]) == 2
    assert f"bitexact report: {path}: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "why"),
    [("/nowhere/page.html", "No such file or directory"), ("/dev/full", "No space left on device")],
)
def test_an_output_that_cannot_be_written_is_a_usage_error(output, why, tmp_path, capsys):
    path = written(tmp_path / "run.json", exact_networks())
    assert main(["report", str(path), "-o", output]) == 2
    assert f"bitexact report: -o {output}: {why}" in capsys.readouterr().err


def test_what_is_written_is_read_back(tmp_path):
    run = every_verdict()
    again = json_file.read(written(tmp_path / "run.json", run))
    assert (again.verdicts, again.seed) == (run.verdicts, 7)
