"""The page's own sheet: light, dark and on paper; nothing of it comes from elsewhere."""

from typing import Final

CSS: Final = """
:root { color-scheme: light dark; --ground: #fff; --panel: #f5f6f8; --ink: #16191d; --quiet: #57606b; --line: #dce0e6;
  --accent: #0b5cad; --good: #12703a; --busy: #855600; --bad: #b3261e; --bad-ground: #fdf0ef;
  --c1: #1d6fb8; --c2: #c2410c; --c3: #15803d; --c4: #7c3aed; --c5: #b45309; --c6: #0e7490; --c7: #be185d;
  --c8: #6b7280;
  --own: #f2b98f; --lib: #d6dbe2; --own-ink: #16191d; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --panel: #1c2127; --ink: #e6e9ed; --quiet: #a0aab6;
  --line: #303842; --accent: #75b5ff; --good: #63cc8e; --busy: #e2b34d; --bad: #ff8f85; --bad-ground: #2c1b1b;
  --c1: #6cb0ff; --c2: #ff9a62; --c3: #63cc8e; --c4: #b79bff; --c5: #e2b34d; --c6: #55c6dc; --c7: #f58cba;
  --c8: #9aa5b3;
  --own: #9c4f1c; --lib: #3a434e; --own-ink: #f3f5f7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 15px/1.42 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: clamp(1.3rem, 3vw, 1.8rem); line-height: 1.25; margin: .2rem 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.1rem 0 .35rem; overflow-wrap: anywhere; }
p { margin: .35rem 0; }
a { color: var(--accent); }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { background: var(--panel); border-radius: 6px; padding: .6rem .8rem; overflow: auto; max-height: 32rem;
  white-space: pre-wrap; margin: .4rem 0; }
small, .quiet { color: var(--quiet); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.verdict { border-left: 5px solid var(--quiet); padding: .1rem 0 .1rem .9rem; }
.verdict.critical { border-color: var(--bad); } .verdict.warning { border-color: var(--busy); }
.verdict.well { border-color: var(--good); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin: .5rem 0 .2rem; }
.answer { margin: .7rem 0 0; }
.block { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0 1rem; padding: .22rem 0;
  border-bottom: 1px solid var(--line); }
.block dt { font-weight: 700; font-size: .85rem; padding-top: .1rem; }
.block dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.block p { margin: 0; }
.block ul { margin: 0; padding: 0; list-style: none; }
.block li { padding-left: 3.6rem; text-indent: -3.6rem; }
.block small { display: block; text-indent: 0; }
.block li b { display: inline-block; min-width: 3.4rem; text-indent: 0; }
.block-evidence { font-size: .92rem; }
.block-evidence p { padding-left: 5.6rem; text-indent: -5.6rem; }
.block-evidence .quiet { display: inline-block; min-width: 5.3rem; text-indent: 0; }
.word { display: inline-block; border: 1px solid currentColor; border-radius: 4px; padding: 0 .4rem; font-size: .82rem;
  font-weight: 600; white-space: nowrap; }
.finding.critical .severity, .word.bad { color: var(--bad); }
.finding.warning .severity, .word.busy { color: var(--busy); }
.word.good { color: var(--good); } .word.calm { color: var(--quiet); }
.finding { border: 1px solid var(--line); border-left-width: 5px; border-radius: 7px; padding: .5rem .9rem .7rem;
  margin: .8rem 0; }
.finding.critical { border-left-color: var(--bad); } .finding.warning { border-left-color: var(--busy); }
.finding h3 { margin: .1rem 0 .3rem; font-size: 1.08rem; }
.finding h4 { margin: .7rem 0 .15rem; font-size: .88rem; }
.finding ul { margin: .1rem 0; padding-left: 1.2rem; }
.remedy { margin: .25rem 0; }
.remedy code { background: var(--panel); padding: .1rem .35rem; border-radius: 4px; }
.remedy small { display: block; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: .5rem 0; }
.facts dt { color: var(--quiet); font-size: .82rem; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.facts div { min-width: 0; max-width: 100%; }
details { margin: .4rem 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
details > summary:hover { color: var(--accent); }
.box { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; margin: .3rem 0; }
th { text-align: left; color: var(--quiet); font-size: .8rem; white-space: nowrap; }
th, td { padding: .2rem .5rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td > code { overflow-wrap: normal; } td.wide > code { overflow-wrap: anywhere; }
td.num, th.num { text-align: right; white-space: nowrap; } td.wide { min-width: 14rem; overflow-wrap: anywhere; }
.list { list-style: none; padding: 0; margin: .4rem 0; }
.list li { display: grid; grid-template-columns: 5.2rem 6.5rem minmax(0, 1fr); gap: 0 .7rem; padding: .12rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
time { font-variant-numeric: tabular-nums; white-space: nowrap; } .list .kind, .list time { color: var(--quiet); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem 1.6rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { font-weight: 600; font-size: .9rem; } figcaption .quiet { font-weight: 400; }
.plot { position: relative; margin: .2rem 0; }
.plot svg { display: block; width: 100%; height: 130px; background: var(--panel); border-radius: 4px; }
.plot .most, .plot .mark { position: absolute; font-size: 11px; line-height: 1.2; color: var(--quiet);
  background: color-mix(in srgb, var(--panel) 80%, transparent); }
.plot .most { left: 3px; top: 2px; } .plot .mark { bottom: 2px; transform: translateX(2px); color: var(--ink); }
.plot path, .plot line { fill: none; vector-effect: non-scaling-stroke; stroke-width: 1.5; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .limit { stroke: var(--bad); stroke-dasharray: 5 4; stroke-width: 1; }
.plot .span { fill: var(--accent); opacity: .1; }
.plot .at { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3; }
.s1 { stroke: var(--c1); background: var(--c1); } .s2 { stroke: var(--c2); background: var(--c2); }
.s3 { stroke: var(--c3); background: var(--c3); } .s4 { stroke: var(--c4); background: var(--c4); }
.s5 { stroke: var(--c5); background: var(--c5); } .s6 { stroke: var(--c6); background: var(--c6); }
.s7 { stroke: var(--c7); background: var(--c7); } .s8 { stroke: var(--c8); background: var(--c8); }
.ends { display: flex; justify-content: space-between; font-size: 11px; color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .82rem; }
.legend i { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin-right: .35em; }
.track .plot svg { height: 46px; }
.flame { overflow-x: auto; } .flame svg { display: block; min-width: 640px; width: 100%; height: auto; }
.flame rect { stroke: var(--ground); stroke-width: .6; fill: var(--lib); } .flame .own rect { fill: var(--own); }
.flame text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: var(--own-ink); pointer-events: none; }
.stack { border: 1px solid var(--line); border-radius: 6px; padding: .35rem .7rem; margin: .5rem 0;
  break-inside: avoid; }
.stack pre { margin: .25rem 0 0; max-height: 20rem; } .stack .lib { color: var(--quiet); }
.stack .own { font-weight: 700; }
.log { font-size: 12px; max-height: 26rem; } .log .err { color: var(--busy); }
.note { border-left: 3px solid var(--busy); background: var(--panel); padding: .4rem .8rem;
  border-radius: 0 5px 5px 0; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
@media (max-width: 620px) {
  body { padding: .8rem .8rem 3rem; }
  .block { grid-template-columns: minmax(0, 1fr); }
  .list li { grid-template-columns: auto minmax(0, 1fr); } .list li > :last-child { grid-column: 1 / -1; }
}
@media print {
  :root { color-scheme: light; --ground: #fff; --ink: #000; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  pre, .log, .stack pre, .box { max-height: none; overflow: visible; }
  table { font-size: 7.5pt; }
  td, th, td.num, td > code, td.wide { white-space: normal; min-width: 0;
    overflow-wrap: anywhere; } h2, h3, summary { break-after: avoid; }
  .finding { break-inside: avoid; } .flame svg { min-width: 0; }
}
"""
