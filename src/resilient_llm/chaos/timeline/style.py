"""How the page looks, in light and in dark."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --lane: #eef1f5;
  --band: #1c24300a; --closed: #bfe3cc; --open: #e5484d; --soft-open: #f0a818; --gated: #4a8ff0; --isolated: #7b8794;
  --fault: #4a5361; --fault-ink: #ffffff; --success: #3aa76d; --error: #d92d33;
  --timeout: #9747d1; --cancelled: #8a95a3;
  --p0: #4769d8; --p1: #12a08a; --p2: #d97a21;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11151b; --card: #181e26; --ink: #e6ebf1; --soft: #97a3b2; --line: #2a323d; --lane: #202833;
    --band: #ffffff0a; --closed: #21543a; --open: #e5484d; --soft-open: #d9931a; --gated: #3f7fdb; --isolated: #7b8794;
    --fault: #c3ccd7; --fault-ink: #11151b; --success: #4fc487; --error: #ff6166;
    --timeout: #b980ec; --cancelled: #7c8896;
    --p0: #7f9bff; --p1: #2cc5ac; --p2: #f09a4a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1360px; margin: 0 auto; padding: 28px 24px 60px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 8px 20px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 34px 0 10px; }
.verdict { margin: 0; font-weight: 600; }
.verdict.kept { color: var(--success); }
.verdict.broken { color: var(--error); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 20px 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tiles b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 13px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 10px; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 960px; height: auto; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 12px 14px 2px; }
figcaption { color: var(--soft); font-size: 13px; }
figcaption span { display: inline-flex; align-items: center; gap: 6px; }
.key { display: inline-block; width: 18px; height: 10px; border-radius: 3px; }
.key.dot { width: 9px; height: 9px; border-radius: 50%; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; padding: 7px 12px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-size: 13px; font-weight: 600; }
td:first-child { white-space: nowrap; font-weight: 600; }
.log { max-height: 420px; overflow: auto; }
.log td { padding: 3px 12px; font-size: 13.5px; font-weight: 400; font-variant-numeric: tabular-nums; }
.promises { list-style: none; padding: 0; margin: 0; }
.promises li::before { display: inline-block; width: 1.6em; font-weight: 700; }
.promises .kept::before { content: "\\2713"; color: var(--success); }
.promises .broken::before { content: "\\2717"; color: var(--error); }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .number { fill: var(--soft); font-size: 11px; text-anchor: middle; }
svg .act-title { font-weight: 600; text-anchor: middle; }
svg .lane-name { font-weight: 600; font-size: 14px; text-anchor: end; }
svg .caption { text-anchor: end; }
svg .faint, svg .tick-label { fill: var(--soft); font-size: 11px; }
svg .middle { text-anchor: middle; }
svg .tick, svg .grid { stroke: var(--line); fill: none; }
svg .grid { stroke-dasharray: 3 4; stroke: var(--cancelled); opacity: .6; }
svg .band { fill: transparent; }
svg .odd .band { fill: var(--band); }
svg .lane { fill: var(--lane); opacity: .55; }
svg .fault { fill: var(--fault); }
svg .fault-name { fill: var(--fault-ink); font-size: 9.5px; font-weight: 600; }
svg .closed { fill: var(--closed); } .key.closed { background: var(--closed); }
svg .open { fill: var(--open); } .key.open { background: var(--open); }
svg .softly_open { fill: var(--soft-open); } .key.softly_open { background: var(--soft-open); }
svg .gated { fill: var(--gated); } .key.gated { background: var(--gated); }
svg .isolated { fill: var(--isolated); }
svg .dot:hover { stroke: var(--ink); stroke-width: 1.5; }
svg .success { fill: var(--success); opacity: .55; } .key.success { background: var(--success); }
svg .error { fill: var(--error); } .key.error { background: var(--error); }
svg .timeout { fill: var(--timeout); } .key.timeout { background: var(--timeout); }
svg .rate_limited { fill: var(--gated); } .key.rate_limited { background: var(--gated); }
svg .cancelled { fill: none; stroke: var(--cancelled); } .key.cancelled { border: 2px solid var(--cancelled); }
svg .interrupted { fill: var(--soft-open); } .key.interrupted { background: var(--soft-open); }
svg .failed, svg .wrong { fill: var(--error); } .key.failed { background: var(--error); }
svg .share { opacity: .75; }
svg .call { opacity: .7; }
svg .p0 { fill: var(--p0); } .key.p0 { background: var(--p0); }
svg .p1 { fill: var(--p1); } .key.p1 { background: var(--p1); }
svg .p2 { fill: var(--p2); } .key.p2 { background: var(--p2); }
""".strip()
