"""How the page looks, in light and in dark, wide and narrow."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea;
  --good: #1f7a4d; --fair: #9a6200; --bad: #c4262e; --none: #66717f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11151b; --card: #181e26; --ink: #e6ebf1; --soft: #97a3b2; --line: #2a323d;
    --good: #4fc487; --fair: #f0a818; --bad: #ff6b70; --none: #8a95a3;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 20px 48px; }
#stale { position: sticky; top: 0; margin: 0; padding: 8px 20px; background: var(--bad); color: var(--page); }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 20px; }
h1 { font-size: 24px; margin: 0; letter-spacing: -0.01em; }
h1 small, .state small { color: var(--soft); font-weight: 400; }
h1 small { font-size: 15px; }
h2 { font-size: 16px; margin: 28px 0 10px; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
h3 span { color: var(--soft); font-weight: 400; }
.verdict { margin: 0; font-weight: 600; }
.good { color: var(--good); } .fair { color: var(--fair); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; margin: 18px 0 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
.tiles b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tiles span, dt, footer { color: var(--soft); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
article { border-left: 5px solid var(--none); }
article.healthy { border-left-color: var(--good); }
article.degraded { border-left-color: var(--fair); }
article.unhealthy { border-left-color: var(--bad); }
.state { display: flex; justify-content: space-between; gap: 12px; margin: 2px 0 0; font-weight: 600; }
.state small { font-size: 13px; overflow-wrap: anywhere; text-align: right; }
.healthy .state { color: var(--good); } .degraded .state { color: var(--fair); }
.unhealthy .state { color: var(--bad); } .unknown .state { color: var(--none); }
.why { margin: 8px 0; overflow-wrap: anywhere; }
.why.passed { font-weight: 600; }
.why.asked { color: var(--soft); }
meter { width: 100%; height: 10px; }
dl { margin: 8px 0 0; }
dl div { display: flex; justify-content: space-between; gap: 12px; border-top: 1px solid var(--line); padding: 3px 0; }
dt { flex: none; }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; font-size: 14px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; padding: 7px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-size: 13px; }
footer { margin-top: 28px; }
@media (max-width: 520px) {
  main { padding: 16px 12px 32px; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .cards { grid-template-columns: 1fr; }
}
"""
