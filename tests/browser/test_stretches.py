"""A film that a page is not given as one, in a real JupyterLab: viewer, labeller and comparison fetch its stretches from the kernel, and show the frame that was asked for"""
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

F = 120
CELLS = [f'''
import numpy as np, torch, tqn
from pathlib import Path
import tqn.widgets.lanes as lanes
from tqn.video.video import write_video
lanes.SENT = 1000                                   # as if a page could hold no more
grey = np.broadcast_to((np.arange({F})*2)[:, None, None, None], ({F}, 96, 128, 3)).astype(np.uint8)
Path('hours').mkdir(exist_ok=True)
write_video('hours/ramp.mp4', grey, fps=20., crf=8, gop=10)
torch.manual_seed(3)
model = tqn.TQN(tqn.QuerySet({{'takeoff': ['back', 'forward'], 'twist': ['none', 'half']}}), d_model=12, n_layers=2, n_heads=2).eval()
viewer = tqn.view(model, 'hours/ramp.mp4', features=torch.randn(15, 12))
print(len(viewer.data.film.firsts), 'stretches', viewer.data.video)
viewer
''', '''
tqn.Labeller('hours/table.csv', tqn.QuerySet({'takeoff': ['back', 'forward']}), videos='hours')
''', f'''
from tqn.widgets.compare import Side
g = np.random.default_rng(0)
def side(name, n): return Side(name, g.dirichlet(np.ones(n)*.3, (1, 2, 2)), np.append(np.arange(n)*{F}//n, {F})/20, ['takeoff', 'twist'], {{'takeoff': [('back', .9), ('forward', .1)]}}, {{'takeoff': 'back'}})
tqn.CompareViewer([side('ten clips', 10), side('four clips', 4)], video='hours/ramp.mp4')
''']
GREY = "v => { const c = document.createElement('canvas'); c.width = c.height = 8; const g = c.getContext('2d'); g.drawImage(v, 0, 0, 8, 8); return g.getImageData(4, 4, 1, 1).data[0] }"

@pytest.fixture(scope='module')
def page(notebooks, lab):
    nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in CELLS], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), lab.notebooks/'stretches.ipynb')
    nb = notebooks('stretches.ipynb')
    for _ in range(2):     # once more where the first click was lost
        nb.menu('Run', 'Run All Cells')
        try: nb.page.locator('.tqn-compare .tqc-stage').wait_for(timeout=120_000); break
        except Exception: assert not nb.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count(), nb.page.locator('.jp-OutputArea').all_inner_texts()
    return nb

def shows(nb, root, i, frame):
    "A widget says frame i, and its film shows it"
    nb.until(lambda: frame() == i and abs(root.locator('video').first.evaluate(GREY) - 2*i) <= 1.5, lambda: f'not frame {i} but {frame()}, grey {root.locator("video").first.evaluate(GREY)}')

def test_viewer(page, shots):
    root = page.page.locator('.tqn-viewer').first
    root.scroll_into_view_if_needed()
    page.until(lambda: root.get_attribute('data-video') == 'ready', 'the film did not come')
    assert '6 stretches hours/ramp.mp4' in ' '.join(page.page.locator('.jp-OutputArea').all_inner_texts())
    for key, i in [('End', F-1), ('ArrowLeft', F-2), ('Home', 0), ('ArrowRight', 1)]:
        root.focus(); page.page.keyboard.press(key)
        shows(page, root, i, lambda: int(root.get_attribute('data-shown')))
    slider = root.locator('.tqn-filmrow .tqn-track').bounding_box()
    page.page.mouse.click(slider['x'] + .7*slider['width'], slider['y'] + slider['height']/2)
    at = int(root.get_attribute('data-frame'))
    assert abs(at - .7*F) < 2
    shows(page, root, at, lambda: int(root.get_attribute('data-shown')))
    root.screenshot(path=str(shots/'stretches_viewer.png'))
    root.focus(); page.page.keyboard.press('Home'); page.page.keyboard.press('Space')                    # all of it, across every border
    page.until(lambda: root.get_attribute('data-frame') == str(F-1), 'it was not played to its end')
    shows(page, root, F-1, lambda: int(root.get_attribute('data-shown')))
    assert not root.locator('.tqn-notes').inner_text(), 'nothing is a copy'

def test_labeller(page, shots):
    root = page.page.locator('.tqn-label').first
    root.scroll_into_view_if_needed()
    frame = lambda: int(root.locator('.tql-clock').inner_text().split()[1])
    page.until(lambda: root.locator('video').count() and root.locator('.tql-none').is_hidden(), 'the film did not come')
    root.focus()
    for key, i in [('End', F-1), ('Home', 0), ('Shift+ArrowRight', 10), ('ArrowLeft', 9)]:
        page.page.keyboard.press(key)
        shows(page, root, i, frame)
    root.screenshot(path=str(shots/'stretches_label.png'))

def test_comparison(page, shots):
    root = page.page.locator('.tqn-compare').first
    stage = root.locator('.tqc-stage')
    stage.scroll_into_view_if_needed()
    page.until(lambda: stage.get_attribute('data-video') == 'ready', 'the film did not come')
    root.locator('.tqc-screen').focus()
    for key, i in [('End', F-1), ('Home', 0), ('ArrowRight', 1)]:
        page.page.keyboard.press(key)
        shows(page, root, i, lambda: int(stage.get_attribute('data-frame')))
    root.screenshot(path=str(shots/'stretches_compare.png'))
    assert not [e for e in page.errors if 'favicon' not in e and '/api/contents/' not in e and '.map' not in e]
