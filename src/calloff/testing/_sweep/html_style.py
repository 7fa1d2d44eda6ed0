"""How the page looks: by day, by night, on a phone and on paper."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--page:#fff;--text:#1f2328;--soft:#59636e;--line:#d1d9e0;--box:#f6f8fa;--link:#0550ae;
--unsafe:#c5221f;--unsafe-box:#fff0ee;--warn:#8a5200;--warn-box:#fff6e0;--safe:#1a6f33;--safe-box:#eaf7ed;
--known:#6639ba;--known-box:#f5efff}
@media(prefers-color-scheme:dark){:root{--page:#15181d;--text:#e4e8ec;--soft:#9ea8b3;--line:#353c45;--box:#1d2127;
--link:#7ab7ff;--unsafe:#ff8a80;--unsafe-box:#3a1d1d;--warn:#f0b95a;--warn-box:#332813;--safe:#6fd08c;
--safe-box:#16301f;--known:#c4a5ff;--known-box:#2a2140}}
*{box-sizing:border-box}
body{margin:0 auto;padding:0 1.25rem 3rem;max-width:66rem;background:var(--page);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
code,.stack,td{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.84rem}
a{color:var(--link)}
a:focus-visible,summary:focus-visible,.code:focus-visible{outline:3px solid var(--link);outline-offset:2px}
nav{display:flex;gap:1.4rem;margin:0 0 -.6rem}
header{margin:1.5rem 0 1.2rem;padding:1.25rem 1.5rem;border-radius:.75rem;border:1px solid;--tone:var(--warn);
border-color:var(--tone);background:var(--tint,var(--warn-box))}
header.safe{--tone:var(--safe);--tint:var(--safe-box)}header.unsafe{--tone:var(--unsafe);--tint:var(--unsafe-box)}
.verdict{margin:0;font-weight:700;letter-spacing:.08em;color:var(--tone)}
h1{margin:.1rem 0 .4rem;font-size:1.45rem;line-height:1.25;overflow-wrap:anywhere}
h2{margin:2.2rem 0 .8rem;font-size:1.2rem}
.what{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
header dl{display:flex;flex-wrap:wrap;gap:.3rem 1.8rem;margin:1rem 0 0}
dt{font-size:.8rem;color:var(--soft)}dd{margin:0}header dd{font-weight:650;font-variant-numeric:tabular-nums}
article dl{margin:.6rem 0 0}article dd{margin:0 0 .35rem}article dd span{color:var(--soft);font-size:.88rem}
article{margin:0 0 1rem;padding:.9rem 1.2rem;border:1px solid var(--line);border-left:5px solid var(--warn);
border-radius:.5rem;scroll-margin-top:1rem}
article.unsafe{border-left-color:var(--unsafe)}article.known{border-left-color:var(--known)}
article:has(:target),tr:target{outline:3px solid var(--link);outline-offset:-1px}
article p{margin:.5rem 0 .2rem}
h3{display:flex;flex-wrap:wrap;gap:.2rem .7rem;align-items:baseline;margin:0;font-size:1.02rem;overflow-wrap:anywhere}
h3 span{font-weight:400}h3 .phase{scroll-margin-top:3rem}
h3 .phase,td a{padding:0 .5rem;border-radius:1rem;font-weight:650;background:var(--warn-box);color:var(--warn)}
.unsafe .phase,tr.unsafe a{background:var(--unsafe-box);color:var(--unsafe)}
.known .phase,tr.known a{background:var(--known-box);color:var(--known)}
.reason{color:var(--known)}
.evidence{margin:.5rem 0;padding:0;list-style:none}
.evidence li{display:flex;gap:.8rem;margin:.15rem 0}.evidence span{min-width:0;overflow-wrap:anywhere}
.evidence b{flex:0 0 5.5rem;color:var(--unsafe)}.known .evidence b{color:var(--known)}
.unresolved .evidence b,.error .evidence b{color:var(--warn)}
.stack{margin:.2rem 0;padding:.5rem .8rem;list-style:none;background:var(--box);border-radius:.4rem;overflow-x:auto}
.stack span{color:var(--soft);margin-right:.6rem}
.command{padding:.1rem .4rem;background:var(--box);border-radius:.3rem;user-select:all;overflow-wrap:anywhere}
.key{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;margin:0 0 1rem;padding:0;list-style:none}
.mark{white-space:nowrap;font:650 .78rem/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--soft)}
.mark i{display:inline-block;width:1.1em;text-align:center;font-style:normal}
.mark.unsafe,.mark.inside{color:var(--unsafe)}.mark.safe{color:var(--safe)}
.mark.unresolved{color:var(--warn)}.mark.known{color:var(--known)}
details{margin:0 0 1.2rem;border:1px solid var(--line);border-radius:.5rem;overflow:hidden}
summary{padding:.5rem .9rem;background:var(--box);font-weight:650;cursor:pointer;overflow-wrap:anywhere}
details p{margin:0;padding:.5rem .9rem;border-top:1px solid var(--line);color:var(--soft);font-size:.88rem}
.code{overflow-x:auto}
table{border-collapse:collapse;min-width:100%;padding:.4rem 0}
td{padding:.06rem .6rem;white-space:pre;vertical-align:baseline}td:last-child{width:100%}
td:first-child{color:var(--soft);text-align:right;user-select:none}
td b{font-weight:700}tr.unsafe td{background:var(--unsafe-box)}tr.unresolved td{background:var(--warn-box)}
tr.known td{background:var(--known-box)}
.gap td{color:var(--soft);text-align:center;border-block:1px dashed var(--line)}
td a{margin-left:.6rem;font:650 .75rem/1.5 system-ui,sans-serif;text-decoration:none;border:1px solid}
footer{margin-top:2.5rem;color:var(--soft);font-size:.88rem;overflow-wrap:anywhere}
@media(max-width:40rem){body{padding:0 .8rem 2rem}header{padding:1rem}td{padding:.06rem .3rem}
td .mark span{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
.evidence li{display:block}.evidence b{display:block}}
@media print{details,article{break-inside:avoid}.code{overflow:visible}td{white-space:pre-wrap}}
"""
