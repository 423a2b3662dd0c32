"""The viewer's five goals, in a real JupyterLab and Chromium, on a 10-minute film at 25 frames a second with cached features.

    python tests/bench/bench_viewer.py [--minutes 10] [--clicks 40] [--rounds 5] [--film FILE]

First paint after the cell ran: at most 1 s. From a click to the right frame on the screen: at most 100 ms at the 95th percentile.
From a change of the hidden range to the new answers on the screen: at most 150 ms. Bytes beyond the film for 20,000 frames, 2,500 clips,
13 questions, 4 layers and 4 heads: at most 2 MB. JavaScript: at most 60 KB a page. The network is the paper's: width 1024, 4 layers, 4 heads.
Times of the page are read in the page. `load` is what else the machine did: above 2 on two cores, times say more about that than about the viewer.
"""
import argparse, json, os, sys, tempfile, time
from pathlib import Path
import numpy as np
import torch
sys.path.insert(0, str(Path(__file__).resolve().parents[1]/'browser'))

SETUP = '''
import time, torch, tqn
torch.manual_seed(0)
names = [f'question {{i}}' for i in range(12)]
queries = tqn.QuerySet({{n: ['no', 'once', 'twice', 'often'] for n in names}}, classes=[(f'class {{i}}', ['no', 'once', 'twice', 'often', 'no', 'once']*2) for i in range(2)])
model = tqn.TQN(queries, d_model=1024, n_layers=4, n_heads=4).eval()
film = tqn.Video({film!r})
features = torch.randn(film.n_clips(), 1024)
tqn.view(model, features[:4]).close()
'''
VIEW = '''
begin, cpu = time.time(), time.process_time()
viewer = tqn.view(model, {film!r}, features=features)
made, cpu = time.time(), time.process_time() - cpu
viewer
'''
WATCH = """() => { window.painted = []; new MutationObserver(ms => { for (const m of ms) for (const n of m.addedNodes) if (n.querySelector?.('.tqn-viewer') || n.classList?.contains('tqn-viewer')) {
  const r = n.classList.contains('tqn-viewer') ? n : n.querySelector('.tqn-viewer')
  const look = () => r.dataset.ready ? requestAnimationFrame(() => window.painted.push(Date.now()/1000)) : setTimeout(look, 2); look() } }).observe(document.body, {childList: true, subtree: true}) }"""
CLICK = """async ([e, x, want]) => {
  const track = e.querySelector('.tqn-lane .tqn-track'), c = track.querySelector('canvas'), b = c.getBoundingClientRect(), at = {clientX: b.left + x*b.width, clientY: b.top + 9, bubbles: true, pointerId: 1, button: 0}
  c.setPointerCapture = () => {}
  const start = performance.now()
  c.dispatchEvent(new PointerEvent('pointerdown', at)); c.dispatchEvent(new PointerEvent('pointerup', at))
  const frame = +e.dataset.frame
  while (+e.dataset.shown !== frame) { if (performance.now() - start > 5000) return [NaN, frame]; await new Promise(r => setTimeout(r, 1)) }
  return [performance.now() - start, frame]
}"""
WHATIF = """async ([e, key]) => {
  const text = () => e.querySelector('.tqn-what').textContent, start = performance.now(), before = text()
  e.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
  const read = /answers? change/
  while (!(read.test(text()) && text() !== before)) { if (performance.now() - start > 5000) return NaN; await new Promise(r => setTimeout(r, 1)) }
  return performance.now() - start
}"""

def make_film(path, minutes):
    "A long film of moving noise"
    from tqn.video.video import write_video
    ground = np.random.default_rng(0).integers(0, 255, (15, 20, 3)).repeat(8, 0).repeat(8, 1).astype('u1')
    write_video(path, (np.roll(ground, i, 1) for i in range(int(minutes*60*25))), crf=28)

def payload_bytes():
    "Everything but the film for the largest case that is promised"
    from tqn.attention.answer import Answer
    from tqn.widgets.lanes import view_data
    n, names = 2500, [f'question {i}' for i in range(12)]+['class']
    spans = np.stack([np.arange(n)*8, np.arange(1, n+1)*8], -1)
    attn = torch.rand(4, 4, 13, n).softmax(-1)
    data = view_data(Answer('long', {q: [('yes', .9), ('no', .1)] for q in names}, names, attn, spans, spans/25, torch.full((4, 4, 13, 13), 1/13)))
    return sum(len(v) for v in data.traits().values() if isinstance(v, bytes)) + len(json.dumps(data.meta)), data.meta['bin']

FOUND = {}

def report(name, values, goal, unit='ms', pick=max):
    v = np.asarray(values, float)
    worst = float(np.percentile(v, 95)) if pick == 'p95' else float(np.median(v))
    FOUND[f'viewer: {name.strip()}, {unit}'] = worst
    print(f"{name:46} {worst:8.1f} {unit}   goal {goal:g}   {'reached' if worst <= goal else 'MISSED'}   ({len(v)}: {v.min():.1f} to {v.max():.1f})", flush=True)

def main(args=None):
    "Measure everything; {what: figure}"
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--minutes', type=float, default=10); p.add_argument('--clicks', type=int, default=40); p.add_argument('--rounds', type=int, default=5); p.add_argument('--film')
    a = p.parse_args(args)
    from playwright.sync_api import sync_playwright
    from conftest import FLAGS, Kernel, Lab, Notebook, chromium
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    from tqn.widgets.lanes import front_end
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        folder = Path(folder)
        os.environ['TQN_CACHE'] = str(folder/'cache')
        film = a.film or str(folder/'long.mp4')
        if not a.film: make_film(film, a.minutes)
        browser, lab = play.chromium.launch(executable_path=chromium(), args=FLAGS), Lab(folder)
        try:
            lab.wait()
            cells = [SETUP.format(film=film), *[VIEW.format(film=film)]*a.rounds]
            kernels = {'name': 'python3', 'display_name': 'python3', 'language': 'python'}
            nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in cells], metadata={'kernelspec': kernels}), lab.notebooks/'bench.ipynb')
            nb = Notebook(browser, lab, 'bench.ipynb')
            nb.page.evaluate(WATCH)
            kernel, cell, after, cpu = Kernel(nb), [], [], []
            nb.page.locator('.jp-Cell').first.click()
            nb.page.keyboard.press('Shift+Enter'); nb.idle(300)
            for i in range(a.rounds):
                nb.page.keyboard.press('Shift+Enter')
                nb.page.wait_for_function(f'painted.length > {i}', timeout=120_000)
                nb.idle(120)
                painted, begin, made = nb.page.evaluate(f'painted[{i}]'), kernel.get('begin'), kernel.get('made')
                cell.append(1000*(made - begin)); cpu.append(1000*kernel.get('cpu')); after.append(1000*(painted - made))
            print(f"load {os.getloadavg()[0]:.1f}; film of {kernel.get('len(film)'):,} frames, {kernel.get('len(features)'):,} clips, {Path(film).stat().st_size/1e6:.1f} MB")
            report('the cell itself (view)', cell, 1000)
            report('   in CPU time', cpu, 1000)
            report('first paint after the cell ran', after, 1000)
            root = nb.page.locator('.tqn-viewer').last
            root.scroll_into_view_if_needed()
            nb.page.wait_for_function("e => e.dataset.video === 'ready'", arg=root.element_handle(), timeout=120_000)
            clicks = []
            for x in np.random.default_rng(0).uniform(.01, .99, a.clicks):
                clicks.append(nb.page.evaluate(CLICK, [root.element_handle(), float(x), 0])[0])
                nb.page.wait_for_timeout(60)
            report('click to the right frame, 95th percentile', clicks, 100, pick='p95')
            what = []
            for i in range(12):
                kernel.run(f'viewer.frame = {1000*i + 500}')
                nb.page.wait_for_timeout(200)
                what.append(nb.page.evaluate(WHATIF, [root.element_handle(), 'h' if i % 2 == 0 else 'c'])) if i % 2 == 0 else root.evaluate("e => e.dispatchEvent(new KeyboardEvent('keydown', {key: 'c', bubbles: true}))")
                nb.page.wait_for_timeout(100)
            report('what-if to new answers, 95th percentile', what, 150, pick='p95')
            kernel.run("from tqn.widgets.viewer import respond\nms = []\nfor i in range(12):\n    c = time.process_time()\n    respond(viewer, dict(type='whatif', hidden=[[10*i, 10*i + 50]]))\n    ms.append(1000*(time.process_time() - c))")
            report('   of which the kernel, in CPU time', kernel.get('ms'), 150)
            kernel.close(); nb.close()
        finally:
            lab.stop(); browser.close()
    size, k = payload_bytes()
    report(f'bytes beyond the film, {k} clip a column', [size/1e6], 2, 'MB')
    for name in ('viewer', 'browse', 'compare', 'confusions', 'label'): report(f'{name}, JavaScript', [len(front_end(name)[0])/1000], 60, 'KB')
    return FOUND

if __name__ == '__main__': main()
