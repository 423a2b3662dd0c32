"""The browser of a data set with 10,000 videos: what the kernel needs for first page, page, sort and filter, and what a page in JupyterLab waits for.

    python tests/bench/bench_companions.py [--videos 10000] [--rounds 40] [--build 500] [--browser]

`--build` also walks that many videos of features through a small model; `--browser` opens Chromium (see tests/browser) and takes the times there:
first paint from the moment the widget's state is in the page, a scroll to the row that is asked for, a change of order.
"""
import argparse, sys, time, tracemalloc
from pathlib import Path
import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from made_records import made  # noqa: E402

def times(f, rounds):
    "Milliseconds of wall time: median and 95th percentile"
    took = []
    for i in range(rounds):
        begin = time.perf_counter()
        f(i)
        took.append(1e3*(time.perf_counter() - begin))
    return np.percentile(took, [50, 95])

def kernel(n, rounds):
    "What happens in Python"
    from tqn.widgets.browse import DataBrowser, pack_page
    from tqn.widgets.browse import Confusions
    r, rows = made(n), []
    begin = time.perf_counter()
    w = DataBrowser(r, on_open=lambda id: None)
    rows.append(('widget made', 1e3*(time.perf_counter() - begin), None))
    begin = time.perf_counter()
    w._repr_mimebundle_()
    rows.append(('picture for the saved notebook', 1e3*(time.perf_counter() - begin), None))
    pages = [pack_page(r, w.order, s, 48, w.values, view=1) for s in range(0, 960, 48)]
    rows.append((f'page of 48 rows ({np.mean([len(p) for p in pages])/1024:.0f} KB)', *times(lambda i: pack_page(r, w.order, 48*i % n, 48, w.values, view=1), rounds)))
    sorts = ['loss', 'entropy', 'heads', 'readings', 'p', 'id', 'clips', 'given']
    rows.append(('sort, first page included', *times(lambda i: setattr(w, 'sort', sorts[i % 8]), rounds)))
    rows.append(('filter to the wrong ones', *times(lambda i: setattr(w, 'verdict', ['all', 'wrong'][i % 2]), rounds)))
    rows.append(('search', *times(lambda i: setattr(w, 'text', f'dive_{i:04d}'), rounds)))
    c = Confusions(r, question='takeoff')
    rows.append(('confusions: a cell lists its videos', *times(lambda i: setattr(c, 'cell', [i % 4, i//4 % 4]), rounds)))
    return rows

def build(n):
    "The walk over a loader: videos a second and bytes a video"
    import torch
    from tqn.data.batches import FeatureDataset, make_loader
    from tqn.models.tqn import TQN
    from tqn.attention.records import record
    from tqn.attention.localise import planted
    qs, features, items = planted(n, clips=(20, 60))
    data, model = FeatureDataset(features, items, qs), TQN(qs, d_model=64, d_features=16, n_layers=2, n_heads=4).eval()
    record(model, make_loader(FeatureDataset(features, items[:32], qs), 32), progress=False)
    begin = time.perf_counter()
    r = record(model, make_loader(data, 32), progress=False)
    took = time.perf_counter() - begin
    return [(f'walk over {n} videos of features, a video', 1e3*took/n, None), ('bytes a video that stay', sum(c.nbytes for c in r.columns.values())/n, None)]

SHELL = """<!doctype html><meta charset=utf-8><div id=a></div>"""
STUB = """async ([js, traits, head]) => {
  const bytes = s => new DataView(Uint8Array.from(atob(s), c => c.charCodeAt(0)).buffer), L = {}
  const m = await import('data:text/javascript;base64,' + js)
  window.T = {...traits, head: bytes(head)}; window.bytes = bytes; window.L = L
  const model = {get: k => T[k], set: (k, v) => { T[k] = v }, save_changes() {}, on: (e, f) => (L[e] ??= []).push(f), off() {},
    send: msg => { if (msg.type === 'page') window.page(msg).then(p => L['msg:custom'].forEach(f => f({type: 'page'}, [bytes(p)]))) }}
  const t = performance.now()
  window.end = m.default.render({model, el: document.getElementById('a')})
  await new Promise(done => { const look = () => document.querySelector('.tqb-row:not(.is-waiting) canvas') ? requestAnimationFrame(done) : requestAnimationFrame(look); look() })
  return performance.now() - t
}"""
SCROLL = """async i => {
  const e = document.querySelector('.tqb-list'), h = parseFloat(getComputedStyle(e.querySelector('.tqb-row')).height), t = performance.now()
  e.scrollTop = i*h
  const here = () => [...e.querySelectorAll('.tqb-row:not([hidden])')].some(r => +r.ariaPosInSet === i + 1 && !r.classList.contains('is-waiting'))
  await new Promise(done => { const look = () => here() ? done() : requestAnimationFrame(look); look() })
  return performance.now() - t
}"""
SORT = """async head => { const t = performance.now(); T.head = bytes(head); L['change:head'].forEach(f => f()); await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame); return performance.now() - t }"""

def chromium_times(n, rounds):
    "The same in a page, where pages come from Python through playwright, as they would through the kernel"
    import base64
    sys.path.insert(0, str(TESTS/'browser'))
    from conftest import FLAGS, chromium
    from playwright.sync_api import sync_playwright
    from tqn.widgets.browse import DataBrowser, pack_page
    from tqn.widgets.lanes import front_end
    w, text = DataBrowser(made(n)), lambda b: base64.b64encode(b).decode()
    names = 'error notice theme selected meta question answer truth text verdict sort descending height'.split()
    traits = {**{k: getattr(w, k) for k in names}, 'viewer': None}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.set_content(f'<style>{front_end("browse")[1]}</style>{SHELL}')
        page.expose_function('page', lambda m: text(pack_page(w.records, w.order, m['start'], m['count'], w.values, view=m['view'])))
        first = page.evaluate(STUB, [text(front_end('browse')[0].encode()), traits, text(w.head)])
        g = np.random.default_rng(0)
        scroll = [page.evaluate(SCROLL, int(i)) for i in g.integers(0, n, rounds)]
        sort = []
        for i in range(rounds):
            w.sort = ['loss', 'entropy'][i % 2]
            sort.append(page.evaluate(SORT, text(w.head)))
        last = page.evaluate(SCROLL, n-12), page.locator('.tqb-row').count()
        browser.close()
    return [('in Chromium: first paint', first, None), ('in Chromium: scroll anywhere to its rows', *np.percentile(scroll, [50, 95])),
            ('in Chromium: new order to its rows', *np.percentile(sort, [50, 95])), (f'in Chromium: to the last rows ({last[1]} rows in the page)', last[0], None)]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (('videos', 10_000), ('rounds', 40), ('build', 500)): p.add_argument(f'--{name}', type=int, default=value)
    p.add_argument('--browser', action='store_true')
    a = p.parse_args()
    rows = kernel(a.videos, a.rounds) + (build(a.build) if a.build else []) + (chromium_times(a.videos, a.rounds) if a.browser else [])
    print(f'{a.videos:,} videos, 7 questions; milliseconds unless said otherwise\n{"":55} {"median":>9} {"95%":>9}')
    for name, median, high in rows: print(f'{name:55} {median:9.1f} ' + ('' if high is None else f'{high:9.1f}'))

if __name__ == '__main__': main()
