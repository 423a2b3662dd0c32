"The labeller with moments of a model, in a real JupyterLab: taken, refused, moved, and never written by themselves"
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook
from test_labeller import MAKE, Open

MOMENTS = '''
import pandas as pd
guess = pd.DataFrame([dict(film=f'{n}.mp4', question='way', answer='<b>left</b>', first=8, last=20, trust=.7) for n in ('one', 'three', 'two')])
m = tqn.Labeller('films/proposed.csv', qs, videos='films', moments=guess)
m
'''

class Proposed(Open):
    "A notebook of its own, with one labeller"
    def __init__(self, notebooks, lab):
        cells = [MAKE, MOMENTS, "tqn.Labeller('films/none.csv')"]
        nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in cells], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), lab.notebooks/'proposals.ipynb')
        self.nb, self.films = notebooks('proposals.ipynb'), lab.notebooks/'films'
        self.page = self.nb.page
        self.run()

@pytest.fixture(scope='module')
def page(notebooks, lab): return Proposed(notebooks, lab)

def test_moments_are_proposed(page, shots):
    "Dashed where a model says it was; A takes it, R refuses it, an edge that is dragged moves it; another film is as it was"
    root = page.root
    lane, bar = root.locator('.tql-lane').first, root.locator('.tql-extent').first
    span = lambda: lane.locator('.tql-span').inner_text()
    kept = lambda: page.until(lambda: root.locator('.tql-state').inner_text().startswith('all kept'))
    page.until(lambda: span() == '8–20 ?', span)
    assert 'is-proposed' in bar.get_attribute('class') and '<b>left</b>, trust 0.70' in lane.locator('.tql-track').get_attribute('title')
    page.nb.shot(shots/'labeller_moments.png', '.tqn-label')
    root.focus()
    page.press('r')
    page.until(lambda: span() == '', span)
    page.press('r')
    page.until(lambda: span() == '8–20 ?', span)
    page.press('a')
    page.until(lambda: span() == '8–20' and 'is-proposed' not in bar.get_attribute('class'), span)
    kept()
    page.press('u')
    page.until(lambda: span() == '8–20 ?', span)
    box = page.box(lane.locator('.tql-track'))
    x, y = (lambda s: box['x'] + s*box['width']), box['y'] + box['height']/2
    page.page.mouse.move(x(20/40), y); page.page.mouse.down(); page.page.mouse.move(x(25/40), y); page.page.mouse.move(x(29.5/40), y); page.page.mouse.up()
    page.until(lambda: span() == '8–30', span)
    kept()
    root.focus()
    page.press('n')
    page.until(lambda: root.locator('.tql-title').inner_text() == 'three.mp4' and span() == '8–20 ?', span)
    page.until(lambda: '8-30' in page.films.joinpath('proposed.csv').read_text())
    assert page.films.joinpath('proposed.csv').read_text().count('8-') == 1
