"""How fast the viewer is in Chromium, on a long film: `python tests/bench/bench_page.py [frames]`. Prints a table; the goals stand beside the figures.

A film of 20,000 frames with 2,500 clips, 13 questions, 4 layers and 4 heads; every frame carries its number, and a click counts as answered when the decoder shows the right one."""
import sys, tempfile, time
from pathlib import Path
import numpy as np
import torch
from playwright.sync_api import sync_playwright
sys.path[:0] = [str(Path(__file__).resolve().parents[1]/'browser')]
from conftest import FLAGS, chromium
from test_page import CLIP, harness, numbered
from tqn.attention.answer import Answer
from tqn.widgets.viewer import page
from tqn.widgets.lanes import view_data
from tqn.video.video import Video, write_video

CLICKS = """async n => {
    const root = document.querySelector('.tqn-viewer'), out = []
    for (let k = 0; k < n; k++) {
        const c = root.querySelector('.tqn-filmrow canvas').getBoundingClientRect(), x = c.left + c.width * Math.random(), y = c.top + 20, e = document.elementFromPoint(x, y), t = performance.now()
        const right = new Promise(done => { const see = new MutationObserver(() => root.dataset.shown === root.dataset.frame && (see.disconnect(), done())); see.observe(root, {attributes: true}); setTimeout(done, 3000) })
        for (const type of ['pointerdown', 'pointerup']) e.dispatchEvent(new PointerEvent(type, {clientX: x, clientY: y, bubbles: true, pointerId: 1}))
        await right
        out.push(performance.now() - t)
        await new Promise(r => setTimeout(r, 120))
    }
    return out }"""
OPEN = "() => { const t = performance.now(); world.ends[0](); world.ends[0] = render({model: world.models[0], el: document.querySelector('.tqn-page')}); document.querySelector('.tqn-viewer').getBoundingClientRect(); return performance.now() - t }"
TASK = """async f => { const out = []; for (let k = 0; k < 20; k++) { const t = performance.now(); f = %s; f(k); await new Promise(r => requestAnimationFrame(() => setTimeout(r))); out.push(performance.now() - t) } return out }"""


def long_view(folder, frames):
    "A long film with made-up attention"
    path = folder/'long.mp4'
    write_video(path, numbered(frames), fps=25)
    video, n, g = Video(path), -(-frames//CLIP), torch.Generator().manual_seed(0)
    spans = np.stack([np.arange(n)*CLIP, np.minimum(np.arange(n)*CLIP + CLIP, frames)], -1)
    edge = np.append(video.timestamps, video.timestamps[-1] + 1/25)
    names = [f'question {i}' for i in range(13)]
    answers = {q: [(f'answer {j}', .5/(j + 1)) for j in range(6)] for q in names}
    attn = (3*torch.randn(4, 4, 13, n, generator=g)).softmax(-1)
    return view_data(Answer('long.mp4', answers, names, attn, spans, edge[spans], torch.full((4, 4, 13, 13), 1/13)), video, progress=False)

def main(frames=20_000):
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        data = long_view(Path(folder), frames)
        t = time.perf_counter()
        page(data)
        rows.append(('make the page (Python)', time.perf_counter() - t, None))
        file = harness(data, Path(folder)/'long.html')
        browser = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        tab = browser.new_page(viewport=dict(width=1280, height=1000))
        tab.goto(f'file://{file}')
        tab.wait_for_selector('.tqn-viewer[data-video=ready]', timeout=60_000)
        ms = lambda a, q: float(np.percentile(a, q))/1000
        rows.append(('first paint of all lanes', ms([tab.evaluate(OPEN) for _ in range(5)], 50), 1.))
        tab.wait_for_selector('.tqn-viewer[data-video=ready]', timeout=60_000)
        tab.wait_for_timeout(1500)
        clicks = tab.evaluate(CLICKS, 60)
        rows += [('click to the right frame, median', ms(clicks, 50), None), ('click to the right frame, 95 %', ms(clicks, 95), .1)]
        layer = tab.evaluate(TASK % "k => { world.models[0].set('layer', k % 4) }")
        rows.append(('another layer, drawn', ms(layer, 95), None))
        tick = tab.evaluate("() => { const t = performance.now(); for (let k = 0; k < 500; k++) document.querySelector('.tqn-transport [aria-label=\"Next frame\"]').click(); return (performance.now() - t) / 500 }")
        rows.append(('play head one frame on', tick/1000, None))
        size = sum(len(v) for v in data.traits().values() if isinstance(v, bytes))
        browser.close()
    print(f'{frames} frames, {data.meta["n_clips"]} clips, 13 questions, 4 layers, 4 heads; {size/1e6:.2f} MB beside the film (goal 2)')
    for name, s, goal in rows: print(f'{name:36s} {1000*s:8.1f} ms' + (f'   goal {1000*goal:.0f} ms: {"reached" if s <= goal else "missed"}' if goal else ''))

if __name__ == '__main__': main(*map(int, sys.argv[1:]))
