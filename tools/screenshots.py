"""Pictures of the viewer and its companions for README and notebooks: `python tools/screenshots.py` opens a notebook in a real JupyterLab and Chromium, hides the entry of a rendered dive, and takes pictures at three widths, light and dark.

Writes nbs/images/viewer*.png and companion_*.png; `python tools/screenshots.py FOLDER` writes every screen at 700, 1,366 and 1,920 pixels, light and dark, into a folder instead, to be looked at. TQN_CHROMIUM names another browser than the one on the path."""
import io, os, sys, tempfile
from pathlib import Path
import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import sync_playwright
from tqn.core.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT/'nbs/images'
sys.path.insert(0, str(ROOT/'tests/browser'))
from conftest import FLAGS, Kernel, Lab, Notebook, chromium  # noqa: E402  the very JupyterLab of the browser tests

CELLS = ['''
import torch, tqn
from pathlib import Path
from tqn import FeatureDataset, SyntheticDives, clip_features, make_loader, small_model
from tqn.attention.records import record
from tqn.data.items import as_items
from tqn.widgets.browse import opener
dives = SyntheticDives('shots', 'test', n=12, size=192, workers=0, progress=False)
dive, model = dives[6], small_model()                               # the dive of the README's first picture
names, (first, last) = [*model.queries.names, 'class'], dive['extents']['entry']
viewer = tqn.view(model, dive, features=clip_features(model, tqn.Video(dive['path'])), order='peak', frame=(first + last)//2, lane=names.index('entry'),
                  hidden=[[first//8, -(-last//8)]], progress=False)
viewer
''', '''
items = as_items(dives)
data = FeatureDataset({o.id: clip_features(model, tqn.Video(o.path)) for o in items}, items, model.queries)
loader = make_loader(data, 8)
records = record(model, loader, progress=False)
browser = tqn.DataBrowser(records, on_open=opener(model, loader), height=300)
browser
''', '''
confusions = tqn.Confusions(records, question='twist', on_open=opener(model, loader))
confusions
''', '''
torch.manual_seed(0)
stranger = small_model()
for p in stranger.decoder.parameters():
    if p.ndim > 1: torch.nn.init.xavier_uniform_(p)
pair = tqn.CompareViewer([tqn.answer(m, tqn.Video(dive['path'])) for m in (stranger, model)], ['random weights', 'trained'], dive['answers'], video=dive['path'])
pair
''', '''
qs = tqn.QuerySet([dict(name='entry', text='How large is the splash?', answers=['Small', 'Large', 'Rip']), dict(name='approach', answers=['Standing', 'Walking', 'Armstand'])])
labeller = tqn.Labeller('labels.csv', qs, videos='shots')
labeller.receive(dict(type='answer', id=labeller.row['id'], question='entry', value='Large', seq=1))
labeller.receive(dict(type='extent', id=labeller.row['id'], question='entry', value=[180, 204], seq=2))
labeller.receive(dict(type='extent', id=labeller.row['id'], question='approach', value=[[10, 40], [60, 95]], seq=3))
labeller
''']
VIEWER = dict(viewer=(1000, 'light'), viewer_dark=(1000, 'dark'), viewer_narrow=(400, 'light'), viewer_700=(700, 'light'), viewer_1366=(1366, 'light'), viewer_1920=(1920, 'dark'))
OTHERS = dict(companion_browser=('.tqn-browse', 1000, 'light'), companion_confusions=('.tqn-confusions', 1000, 'light'),
              companion_compare=('.tqn-compare', 1000, 'dark'), companion_labeller=('.tqn-label', 1000, 'light'))


def picture(shot):
    "A palette PNG, about a third of the size"
    out = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert('RGB').quantize(256, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return out.getvalue()


def look(nb, root, width, theme, tall=1080):
    "The page this wide, in this theme; a narrow place for the widget where the page cannot be so narrow"
    nb.page.set_viewport_size(dict(width=max(width, 1366), height=tall))
    nb.page.evaluate("([theme, width]) => { document.body.dataset.jpThemeLight = String(theme === 'light'); document.body.dataset.width = width }", [theme, width])
    root.locator('xpath=..').evaluate("(e, w) => { e.style.width = w < 1366 ? `${w}px` : '' }", width)
    root.scroll_into_view_if_needed()
    nb.page.mouse.move(1, 1)
    nb.page.wait_for_timeout(1200)


def everything(nb, folder):
    "Every widget at three widths, light and dark, with whatever lies behind a click"
    folder.mkdir(parents=True, exist_ok=True)
    row = nb.page.locator('.tqn-browse .tqb-row').first
    for kind in ('viewer', 'browse', 'confusions', 'compare', 'label'):
        one = nb.page.locator(f'.tqn-{kind}').first
        for theme in ('light', 'dark'):
            for width in (700, 1366, 1920):
                look(nb, one, width, theme, 1700)
                print(write_atomic(folder/f'{kind}_{width}_{theme}.png', picture(one.screenshot())))
        if kind == 'browse': row.click(); nb.page.wait_for_timeout(4000); print(write_atomic(folder/'browse_opened.png', picture(one.screenshot())))


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        found = chromium() or sys.exit('Chromium is missing; install it, or name a browser in TQN_CHROMIUM')
        browser, lab = p.chromium.launch(executable_path=found, args=FLAGS), Lab(Path(folder))
        try:
            lab.wait()
            kernelspec = {'name': 'python3', 'display_name': 'python3', 'language': 'python'}
            nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in CELLS], metadata={'kernelspec': kernelspec}), lab.notebooks/'shots.ipynb')
            nb = Notebook(browser, lab, 'shots.ipynb')
            nb.menu('Run', 'Run All Cells')
            nb.page.locator('.tqn-label').first.wait_for(state='attached', timeout=400_000)   # the last of them
            if nb.page.locator('#jp-left-stack').is_visible(): nb.page.keyboard.press('Control+b')
            if len(sys.argv) > 1: return everything(nb, Path(sys.argv[1]))
            root = nb.page.locator('.tqn-viewer').first
            for name, (width, theme) in VIEWER.items():
                look(nb, root, width, theme, {1366: 830, 400: 1700}.get(width, 1080))
                nb.page.wait_for_function("() => { const v = document.querySelector('.tqn-viewer'); return v.dataset.shown === v.dataset.frame && v.textContent.includes('was Large') }")
                print(write_atomic(IMAGES/f'{name}.png', picture(root.screenshot())))
            for name, (kind, width, theme) in OTHERS.items():
                one = nb.page.locator(kind).first
                look(nb, one, width, theme, 1700)
                print(write_atomic(IMAGES/f'{name}.png', picture(one.screenshot())))
            nb.close()
        finally:
            lab.stop()
            browser.close()


if __name__ == '__main__': main()
