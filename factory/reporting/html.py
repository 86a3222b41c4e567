"""A page that needs no server, no network and no other file, light or dark as the reader's system is."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1c2024; --muted: #5f6770;
  --rule: #dfe2e5; --accent: #1f6feb; --second: #b3470a; --sim: #1f6feb; --infer: #12805c; --learn: #b3470a;
  --eval: #7a4fc4; --startup: #8a6d00; --checkpoint: #b0357a; --io: #2f7f93; --idle: #6b7280; --rest: #747b84;
  --cpu: #1f6feb; --gpu: #12805c; --dram: #7a4fc4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1c2024; --ink: #e8eaec;
  --muted: #9aa3ac; --rule: #343a41; --accent: #6aa5ff; --second: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .8rem; }
p { margin: .6rem 0; max-width: 46rem; }
a { color: var(--accent); }
.quiet { color: var(--muted); font-size: .875rem; }
.status { border: 1px solid currentColor; border-radius: 1rem; padding: .05rem .6rem; font-size: .8rem;
  margin-left: .6rem; vertical-align: .35rem; font-weight: 500; letter-spacing: 0; }
.status.odd, .missing strong { color: var(--second); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .8rem;
  margin: 1.6rem 0; }
.tile, .missing, details, pre.command { background: var(--card); border: 1px solid var(--rule);
  border-radius: .6rem; }
.tile { padding: .8rem 1rem; }
.tile dt, .tile .note { font-size: .8rem; color: var(--muted); }
.tile dd { margin: 0; font-variant-numeric: tabular-nums; }
.tile .value { font-size: 1.45rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.35; }
.missing { border-left: 4px solid var(--second); padding: .7rem 1rem; margin: 1rem 0; }
.missing ul { margin: .2rem 0 0; padding-left: 1.2rem; }
figure { margin: 0; }
.film { display: grid; gap: .8rem; }
img, video { display: block; width: 100%; border-radius: .5rem; background: var(--rule); }
.film video { max-width: 40rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { text-align: left; font-weight: 400; padding: .2rem 1.4rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
td.number { text-align: right; white-space: nowrap; }
details { padding: .6rem 1rem; margin: .6rem 0; }
summary { cursor: pointer; font-weight: 500; }
pre { overflow-x: auto; margin: .6rem 0; font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, monospace; }
pre.command { padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.curves { display: grid; gap: 1.4rem 1.8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.curves.narrow { grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.curves svg { width: 100%; height: auto; display: block; }
.curves text { font-family: inherit !important; }
.curves h3, .split h3 { font-size: .875rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.stack { display: flex; gap: 2px; height: 2rem; border-radius: .4rem; overflow: hidden; margin-bottom: .5rem;
  print-color-adjust: exact; }
.stack span { color: #fff; font-size: .8rem; line-height: 2rem; text-align: center; overflow: hidden;
  white-space: nowrap; min-width: 1px; }
.split table { width: 100%; max-width: 30rem; }
.swatch { display: inline-block; width: .75rem; height: .75rem; border-radius: .2rem; margin-right: .5rem;
  vertical-align: -.05rem; print-color-adjust: exact; }
"""


def write_html(path: Path, *, title: str, body: str, style: str = "") -> None:
    """Write a page of HTML `body` in the common style, to which `style` is added."""
    html = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><style>{STYLE}{style}</style></head>'
        f"<body>{body}</body></html>\n"
    )
    path.write_text(re.sub(r"[ \t]+\n", "\n", html), encoding="utf-8")


def folded(summary: str, body: str) -> str:
    """Return HTML that shows `summary` and, unfolded, `body`."""
    return f"<details><summary>{summary}</summary>{body}</details>"
