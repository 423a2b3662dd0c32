"The film of a comparison in a real JupyterLab: played next to all lanes, frame by frame, and found again from every lane"
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

CELLS = ['''
import numpy as np, tqn
from tqn.widgets.compare import Side
from tqn.video.video import write_video
grey = np.broadcast_to((np.arange(40)*6)[:, None, None, None], (40, 96, 128, 3)).astype(np.uint8)
write_video('ramp.mp4', grey, fps=20., crf=8)
g = np.random.default_rng(0)
def side(name, n): return Side(name, g.dirichlet(np.ones(n)*.3, (1, 2, 3)), np.append(np.arange(n)*40//n, 40)/20, ['takeoff', 'twist', 'class'], {'takeoff': [('Back', .9), ('Forward', .1)]}, {'takeoff': 'Back'})
played = tqn.CompareViewer([side('ten clips', 10), side('four clips', 4)], video='ramp.mp4')
played
''', '''
write_video('short.mp4', grey[:20], fps=20.)
tqn.CompareViewer([side('a', 10), side('b', 4)], video='short.mp4')
''']

class Open:
    def __init__(self, notebooks, lab):
        nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in CELLS], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), lab.notebooks/'compare_film.ipynb')
        self.nb = notebooks('compare_film.ipynb')
        self.page = self.nb.page
        for _ in range(2):     # once more where the first click was lost
            self.nb.menu('Run', 'Run All Cells')
            try: self.page.locator('.tqn-compare [role=alert]').last.wait_for(timeout=120_000); break
            except Exception: assert not self.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count(), self.page.locator('.jp-OutputArea').all_inner_texts()
        self.root = self.page.locator('.tqn-compare').first
        self.root.scroll_into_view_if_needed()
        self.stage = self.root.locator('.tqc-stage')
        self.until(lambda: self.stage.get_attribute('data-video') == 'ready', 'the film did not come')

    def until(self, *args, **kwargs): self.nb.until(*args, **kwargs)

    def frame(self): return int(self.stage.get_attribute('data-frame'))
    def grey(self): return self.root.locator('video').evaluate("v => { const c = document.createElement('canvas'); c.width = c.height = 8; const g = c.getContext('2d'); g.drawImage(v, 0, 0, 8, 8); return g.getImageData(4, 4, 1, 1).data[0] }")
    def on(self, i):
        "The film, its clock and every lane's cursor are on a frame"
        self.until(lambda: self.frame() == i and abs(self.grey() - 6*i) <= 3, f'not on frame {i}')
        assert f'frame {i} of 39' in self.root.locator('.tqc-place').inner_text()
        for k in range(3): assert abs(float(self.root.locator('.tqc-lanes .tqc-cursor').nth(k).evaluate('e => e.style.left').rstrip('%')) - 100*(i+.5)/40) < .1

@pytest.fixture(scope='module')
def page(notebooks, lab): return Open(notebooks, lab)

def test_frame_by_frame(page, shots):
    "Arrows, shift, Home and End on the film; a reading of the column that the frame lies in; the pictures of the strip alone are not drawn twice"
    page.root.locator('.tqc-screen').focus()
    page.on(0)
    for keys, frame in ((['ArrowRight']*3, 3), (['Shift+ArrowRight'], 13), (['ArrowLeft'], 12), (['End'], 39), (['Home'], 0), (['ArrowRight']*9, 9)):
        for k in keys: page.page.keyboard.press(k)
        page.on(frame)
    read = page.root.locator('.tqc-read').inner_text()
    assert read.startswith('takeoff, 0.40–0.50 s: A '), read      # edges of ten and of four clips: frame 9 lies in 0.45
    assert not page.root.locator('.tqc-big').count() and page.root.locator('.tqc-strip canvas').evaluate("c => { const g = c.getContext('2d'); return [.02, .98].map(x => g.getImageData(Math.floor(x*c.width), 9, 1, 1).data[0]) }")[1] > 180
    page.nb.shot(shots/'compare_film.png', '.tqn-compare')

def test_it_plays(page):
    "Space plays and pauses, on the film and on a lane; cursors follow the frames, and it ends on the last"
    page.root.locator('.tqc-screen').focus()
    page.page.keyboard.press('Home'); page.on(0)
    page.page.keyboard.press(' ')
    page.until(lambda: page.frame() >= 5)
    assert page.root.get_by_role('button', name='Pause the film').count() == 1
    page.page.keyboard.press(' ')
    page.until(lambda: page.root.get_by_role('button', name='Play through the film').count() == 1)
    page.page.wait_for_timeout(500)
    at = page.frame()
    page.on(at)
    page.root.locator('.tqc-block').first.focus()
    page.page.keyboard.press(' ')
    page.until(lambda: page.frame() == 39 and page.root.get_by_role('button', name='Play through the film').count() == 1, 'it did not end')
    page.on(39)

def test_lanes_lead_to_the_film(page):
    "A click goes to its frame, arrows on a lane to its columns, and a pointer that only passes moves nothing"
    lane = page.root.locator('.tqc-block').nth(1).locator('.tqc-b')
    box = lane.bounding_box()
    page.page.mouse.click(box['x'] + 22.5/40*box['width'], box['y'] + 8)
    page.on(22)
    assert page.root.locator('.tqc-read').inner_text().startswith('twist, ')
    page.page.mouse.move(box['x'] + .15*box['width'], box['y'] + 8)
    page.until(lambda: page.root.locator('.tqc-read').inner_text().startswith('twist, 0.20–0.40 s'), page.root.locator('.tqc-read').inner_text())
    assert page.frame() == 22
    page.page.mouse.move(box['x'] + .15*box['width'], 1)
    page.on(22)
    page.root.locator('.tqc-block').first.focus()
    page.page.keyboard.press('Home')
    page.until(lambda: page.frame() == 2)                          # the middle of the first column
    assert page.root.locator('.tqc-read').inner_text().startswith('takeoff, 0.00–0.20 s')
    page.page.keyboard.press('Escape')
    page.on(2)

def test_another_film_is_refused(page):
    assert 'the film lasts 1.00 s and the lanes 2.00 s' in page.page.locator('.tqn-compare [role=alert]').last.inner_text()

def test_narrow_and_dark(page, shots):
    "The film stands above the lanes, and nothing sticks out"
    page.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    for width in (700, 420):
        page.root.evaluate("(e, w) => { e.style.width = `${w}px` }", width)
        page.page.wait_for_timeout(300)
        assert page.root.evaluate('e => e.scrollWidth <= e.clientWidth + 1')
        film, lane = page.stage.bounding_box(), page.root.locator('.tqc-a').first.bounding_box()
        assert film['y'] + film['height'] <= lane['y'] + 1
        page.nb.shot(shots/f'compare_film_{width}.png', '.tqn-compare')
    page.root.evaluate("e => { e.style.width = '' }")
    page.page.evaluate("document.body.dataset.jpThemeLight = 'true'")

def test_a_film_that_is_gone(notebooks, page):
    "What comes in its place is said on the film, and lanes can still be played"
    kernel = notebooks.kernel(page.nb)
    kernel.run("played.played.path = played.played.path.with_name('gone.mp4'); sent = []; played.send = lambda m, buffers=None: sent.append(m); played._receive(None, {'type': 'video', 'part': 0}, [])")
    assert 'gone.mp4' in kernel.get("sent[0]['error']")
    kernel.close()
    assert not page.nb.errors
