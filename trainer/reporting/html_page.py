"""Build a self-contained HTML page: style, head, sections and tables; it fetches nothing and runs no script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable


def escape(value: object) -> str:
    """Return text that is safe in HTML and in quoted attributes; control characters become "�"."""
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "�", str(value))
    return html.escape(plain, quote=True)


def page(name: str, facts: Iterable[tuple[str, str]], sections: Iterable[tuple[str, str]]) -> str:
    """Return a complete HTML document.

    Args:
        name: the title; escaped here, as the facts are.
        facts: (term, value) pairs for the head of the page.
        sections: (title, content) pairs of HTML; sections without content are omitted.
    """
    head = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in facts)
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{title}</h2>{content}</section>\n'
        for i, (title, content) in enumerate(sections)
        if content
    )
    return _DOCUMENT.format(name=escape(name), style=_STYLE, facts=head, body=body)


def table(kind: str, head: str, rows: str) -> str:
    """Return a table from the HTML of its cells; ``kind`` is its style: "values" (aligned right) or "options"."""
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


_STYLE = """
:root{color-scheme:light dark;--paper:#fafafa;--card:#fff;--ink:#1d2129;--dim:#626a78;--line:#e1e4ea;
--curve:#2b5fc4;--band:#b9cdf2}
@media (prefers-color-scheme:dark){:root{--paper:#14161b;--card:#1d2027;--ink:#e6e8ec;--dim:#9aa3b2;--line:#313742;
--curve:#7fa9ff;--band:#2f4675}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 20px 48px;max-width:1320px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{margin:0 0 12px;font-size:26px;line-height:1.2;overflow-wrap:anywhere}
h2{margin:36px 0 12px;font-size:19px}
h3{margin:20px 0 8px;font-size:14px;font-weight:600;color:var(--dim)}
dl{display:flex;flex-wrap:wrap;gap:10px 32px;margin:0}
dt{font-size:12px;color:var(--dim)}
dd{margin:0;font-weight:600;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
figure{margin:0;padding:10px;background:var(--card);border:1px solid var(--line);border-radius:8px}
figcaption{font-size:13px;color:var(--dim)}
img{display:block;max-width:100%;height:auto;border-radius:4px}
.newest{display:flex;flex-wrap:wrap;gap:14px}
.newest figcaption,.strip figcaption{margin-top:6px}
.strip{display:flex;gap:12px;overflow-x:auto;padding-bottom:8px}
.strip figure{flex:0 0 260px}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:14px}
.curves figcaption{display:flex;justify-content:space-between;gap:12px;margin-bottom:4px}
.curves span{overflow-wrap:anywhere}
.curves b,td{font-variant-numeric:tabular-nums}
.curves b{color:var(--ink)}
svg{display:block;width:100%;height:auto}
svg text{font-size:11.5px;fill:var(--dim)}
.x{text-anchor:middle}
.y{text-anchor:end;dominant-baseline:middle}
.grid{stroke:var(--line)}
.band{fill:var(--band);stroke:var(--band);stroke-linejoin:round;fill-opacity:.55;stroke-opacity:.8}
.mean{fill:none;stroke:var(--curve);stroke-width:2;stroke-linejoin:round}
.end{fill:var(--curve)}
.run{fill:none;stroke-width:2;stroke-linejoin:round}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px}
.legend svg{display:inline;width:12px;height:12px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:14px}
th,td{padding:4px 20px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{font-size:12px;font-weight:600;color:var(--dim)}
tbody th{font-weight:400}
.values td,.values thead th+th{text-align:right}
.options td{overflow-wrap:anywhere}
a{color:var(--curve)}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media (max-width:600px){
body{padding:16px 12px 32px}h1{font-size:22px}.strip figure{flex-basis:210px}th,td{padding-right:12px}}
"""

# The content security policy is a second line of defence behind the escaping.
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{name}</h1><dl>{facts}</dl></header>
<main>
{body}</main>
</body>
</html>
"""
