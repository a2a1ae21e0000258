"""Formulas as MathML, which browsers draw themselves: pages need no script, and no network to be read."""

from __future__ import annotations

import html
import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert_to_element
from mkdocs.structure.files import File

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
ZIAMATH = importlib.util.find_spec("ziamath")  # a package with a font; importing it would warn
FONT = Path(ZIAMATH.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"  # type: ignore[union-attr,arg-type]
ACCENTS = "^~¯ˇ˙¨→\u0302\u0303\u0304"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls this once. Where a reader's system has no font for formulas, the site's serves."""
    files.append(File.generated(config, f"assets/{FONT.name}", abs_src_path=str(FONT)))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """MkDocs calls this for each page; arithmatex has marked the formulas."""
    return FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[2] == "[" else "inline"
    formula = convert_to_element(html.unescape(match[3]).strip(), display=display)
    for over in formula.iter("mover"):
        # Without this a hat is a limit: smaller, and far above.
        if len(over) == 2 and html.unescape(over[1].text or "") in ACCENTS:
            over.set("accent", "true")
    text = ElementTree.tostring(formula, encoding="unicode").replace("&amp;#", "&#")
    return f'<{match[1]} class="formula">{text}</{match[1]}>'
