"The labeller in a real JupyterLab: a whole video by keyboard, the exact frame, what is on the disk, a kernel that stops and one that dies"
import re
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

KNOWN = re.compile('Failed to load resource.*(favicon|/api/contents/.*checkpoints|/static/.*\\.map)')  # JupyterLab's own, not ours
MAKE = '''
import torch, tqn
from pathlib import Path
from tqn.video.video import write_video
folder = Path('films'); folder.mkdir(exist_ok=True)
for name in ('one', 'two', 'three'):
    grey = (torch.arange(40)*6)[:, None, None, None].expand(40, 96, 128, 3).to(torch.uint8).clone()
    if not (folder/f'{name}.mp4').exists(): write_video(folder/f'{name}.mp4', grey, fps=20., crf=8)
qs = tqn.QuerySet([dict(name='way', text='Where does it come from?', answers=['left', 'right']), dict(name='with', text='What is used?', answers=['rope', 'ball', 'hoop'], kind='many'), dict(name='turns', kind='count', answers=['0', '0.5', '1', '1.5'])])
'''
TALL = '''
import time, tqn.widgets.label as room
tall = Path('tall'); tall.mkdir(exist_ok=True)
for name, (h, w) in {'1 portrait': (256, 96), '2 wide': (96, 256), '3 square': (120, 160)}.items():
    write_video(tall/f'{name}.mp4', torch.full((20, h, w, 3), 200, dtype=torch.uint8), fps=20., crf=8)
opened = room.film_of
def film_of(*args, **kwargs):
    while Path('slow').exists(): time.sleep(.02)      # a film opens for as long as the file lies there
    return opened(*args, **kwargs)
room.film_of = film_of
v = tqn.Labeller('tall/table.csv', qs, videos='tall')
v
'''
CELLS = [MAKE, "w = tqn.Labeller('films/table.csv', qs, videos='films')\nw", TALL, "tqn.Labeller('films/none.csv')"]

class Open:
    def __init__(self, notebooks, lab):
        path = lab.notebooks/'labeller.ipynb'
        nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in CELLS], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), path)
        self.nb, self.films = notebooks('labeller.ipynb'), lab.notebooks/'films'
        self.page = self.nb.page
        self.run()

    def run(self):
        last = self.page.locator('.tqn-label [role=alert]:visible').last
        for _ in range(2):     # once more where the first click was lost
            self.nb.menu('Run', 'Run All Cells')
            try: last.wait_for(timeout=120_000); break
            except Exception: assert not self.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count(), self.page.locator('.jp-OutputArea').all_inner_texts()
        self.root = self.page.locator('.tqn-label').first
        self.root.scroll_into_view_if_needed()

    def until(self, *args, **kwargs): self.nb.until(*args, **kwargs)

    def box(self, where):
        "Where something is, as soon as it is drawn: a lane that is drawn anew has no place for a moment"
        self.until(lambda: where.bounding_box(), 'it is not drawn')
        return where.bounding_box() or self.box(where)

    def drag(self, lane, a, b):
        "From one share of a lane's length to another"
        box = self.box(lane.locator('.tql-track'))
        x = [box['x'] + s*box['width'] for s in (a, (a + b)/2, b)]
        y = box['y'] + box['height']/2
        self.page.mouse.move(x[0], y); self.page.mouse.down()
        for o in x[1:]: self.page.mouse.move(o, y)
        self.page.mouse.up()

    def press(self, *keys):
        for k in keys: self.page.keyboard.press(k)

    def kept(self): self.until(lambda: self.root.locator('.tql-state').inner_text().startswith('all kept'), lambda: self.root.locator('.tql-state').inner_text())
    def grey(self): return self.root.locator('video').evaluate("v => { const c = document.createElement('canvas'); c.width = c.height = 8; const g = c.getContext('2d'); g.drawImage(v, 0, 0, 8, 8); return g.getImageData(4, 4, 1, 1).data[0] }")

@pytest.fixture(scope='module')
def page(notebooks, lab): return Open(notebooks, lab)

def test_a_video_by_keyboard(page, shots):
    "Answers, several answers, an extent on exact frames; saved when the next video is shown"
    root = page.root
    assert root.locator('.tql-title').inner_text() == 'one.mp4'
    page.until(lambda: root.locator('video').evaluate('v => v.readyState') >= 2, 'the film did not come')
    root.focus()
    page.press('2', 'ArrowDown', '3', '1', 'ArrowDown', '4')
    page.until(lambda: '3 of 3 answered' in root.locator('.tql-head').inner_text(), lambda: root.locator('.tql-head').inner_text())
    page.press('ArrowUp', 'ArrowUp', *['ArrowRight']*7)
    page.until(lambda: abs(page.grey() - 42) <= 3, lambda: f'not on frame 7: {page.grey()}')
    page.press('i', *['ArrowRight']*5)
    page.until(lambda: abs(page.grey() - 72) <= 3, lambda: f'not on frame 12: {page.grey()}')
    page.press('o')
    page.until(lambda: root.locator('.tql-lane').first.locator('.tql-span').inner_text() == '7–13')
    page.kept()
    page.nb.shot(shots/'labeller.png', '.tqn-label')
    page.press('n')
    page.until(lambda: root.locator('.tql-title').inner_text() != 'one.mp4')
    page.kept()
    assert page.films.joinpath('table.csv').read_text().splitlines()[1].split(',')[-4:] == ['right', 'rope|hoop', '1.5', '7-13']

def test_undo_and_clear(page):
    root = page.root
    root.focus()
    title = root.locator('.tql-title').inner_text()
    page.press('1')
    page.until(lambda: '1 of 3' in root.locator('.tql-head').inner_text())
    page.kept()
    page.press('u')
    page.until(lambda: '0 of 3' in root.locator('.tql-head').inner_text())
    page.kept()
    page.press('2', '0')
    page.until(lambda: '0 of 3' in root.locator('.tql-head').inner_text())
    page.kept()
    assert root.locator('.tql-title').inner_text() == title and page.nb.page.locator('.jp-Notebook .jp-Cell').count() >= 3  # no key reached the notebook

def test_extents_by_mouse(page):
    "Drag along a lane to mark, drag an edge to move it, click to go there; undone like a key"
    root = page.root
    lane = root.locator('.tql-lane').first
    span = lambda: lane.locator('.tql-span').inner_text()
    def drag(a, b): page.drag(lane, a, b)
    page.nb.page.wait_for_timeout(300)
    was = span()
    drag(8.5/40, 20.5/40)
    page.until(lambda: span() == '8–21', span)
    drag(21/40, 30.5/40)                              # its end
    page.until(lambda: span() == '8–31', span)
    drag(8/40, 4.5/40)                                # its beginning
    page.until(lambda: span() == '4–31', span)
    drag(.5, .5)                                      # no mark, but a place
    page.until(lambda: 'frame 20' in root.locator('.tql-clock').inner_text())
    assert span() == '4–31'
    page.kept()
    root.focus()
    for _ in range(3): page.press('u')
    page.until(lambda: span() == was, span)
    page.kept()
    assert root.locator('.tql-round').get_attribute('aria-label') == 'Play'

def test_several_extents(page, shots):
    "Drawn, begun with a key, listed, removed by a key and a button, undone, and all of them in the table"
    root = page.root
    lane = root.locator('.tql-lane').first
    def marks(*wanted): page.until(lambda: root.locator('.tql-question').first.locator('.tql-go').all_inner_texts() == list(wanted), lambda: root.locator('.tql-question').first.inner_text())
    def frame(i): page.until(lambda: root.locator('.tql-clock').inner_text().startswith(f'frame {i} '), lambda: root.locator('.tql-clock').inner_text())
    title = root.locator('.tql-title').inner_text()
    page.drag(lane, 20.5/40, 25.5/40); marks('20–26')
    page.drag(lane, 2.5/40, 6.5/40); marks('2–7', '20–26')
    assert lane.locator('.tql-span').inner_text() == '2 extents' and lane.locator('.tql-extent').count() == 2
    root.focus()
    page.press('Home', *['ArrowRight']*10); frame(10)
    page.press('e'); marks('2–7', '10–11', '20–26')
    page.press('ArrowRight', 'ArrowRight'); frame(12)
    page.press('o'); marks('2–7', '10–13', '20–26')
    assert [('is-here' in e.get_attribute('class')) for e in lane.locator('.tql-extent').all()] == [False, True, False]
    page.nb.shot(shots/'labeller_extents.png', '.tqn-label')
    page.drag(lane, 7/40, 8.5/40); marks('2–9', '10–13', '20–26')        # an edge of one
    root.focus()
    page.press('.'); frame(10); page.press('.'); frame(20); page.press(','); frame(10)
    page.press('x'); marks('2–9', '20–26')
    root.get_by_label('Remove 20–26').click(); marks('2–9')
    assert root.evaluate('e => e === document.activeElement')
    page.press('u'); marks('2–9', '20–26')
    page.kept()
    page.press('n'); page.until(lambda: root.locator('.tql-title').inner_text() != title)
    page.until(lambda: '2-9|20-26' in page.films.joinpath('table.csv').read_text(), 'not in the table')
    page.press('p'); page.until(lambda: root.locator('.tql-title').inner_text() == title); marks('2–9', '20–26')
    page.drag(lane, 5.5/40, 22.5/40); marks('2–26')                     # what overlaps becomes one
    root.focus()
    page.press('Shift+X'); marks()
    page.kept()

def test_narrow_and_dark(page, shots):
    "At 400 pixels nothing sticks out, and the dark theme is legible"
    page.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.page.wait_for_timeout(200)
    assert 'is-dark' in page.root.get_attribute('class')
    page.nb.shot(shots/'labeller_dark.png', '.tqn-label')
    page.page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    page.root.evaluate("e => { e.style.width = '400px' }")
    page.page.wait_for_timeout(200)
    assert page.root.evaluate('e => e.scrollWidth <= e.clientWidth + 1')
    page.nb.shot(shots/'labeller_narrow.png', '.tqn-label')
    page.root.evaluate("e => { e.style.width = '' }")

def test_a_message_in_place_of_the_widget(page):
    assert 'pass videos=' in page.page.locator('.tqn-label [role=alert]:visible').last.inner_text()

def test_films_of_every_shape_are_shown_whole(page, shots):
    "A portrait film and a wide one lie inside their stage, and nothing of them is cut"
    root = page.page.locator('.tqn-label').nth(1)
    root.scroll_into_view_if_needed()
    for width in (1000, 420):
        root.evaluate("(e, w) => { e.style.width = `${w}px` }", width)
        for title, ratio in (('1 portrait.mp4', 96/256), ('2 wide.mp4', 256/96), ('3 square.mp4', 160/120)):
            root.locator(f'.tql-item[title="{title}"]').click()
            page.until(lambda: root.locator('.tql-title').inner_text() == title and root.locator('video').evaluate('v => v.readyState') >= 2, title)
            inside = root.evaluate("e => { const [v, s] = ['video', '.tql-stage'].map(n => e.querySelector(n).getBoundingClientRect()); return [v.x - s.x, v.y - s.y, s.right - v.right, s.bottom - v.bottom, s.height] }")
            assert min(inside[:4]) >= -1 and inside[4] <= 401, (title, inside)
            assert abs(root.locator('video').evaluate('v => v.videoWidth/v.videoHeight') - ratio) < .02
            page.nb.shot(shots/f'labeller_{title[2:-4]}_{width}.png', '.tqn-label >> nth=1')
    root.evaluate("e => { e.style.width = '' }")

def begin(page, title):
    "Show a video of the second labeller at its first question, and take back whatever was answered"
    root = page.page.locator('.tqn-label').nth(1)
    state, head = lambda: root.locator('.tql-state').inner_text(), lambda: root.locator('.tql-head').inner_text()
    for name in ('3 square.mp4', title):                                # the first question is the chosen one where a video is new
        root.locator(f'.tql-item[title="{name}"]').click()
        page.until(lambda: root.locator('.tql-title').inner_text() == name and 'opening' not in state(), state)
    root.focus()
    page.press(*['0', 'ArrowDown']*3)
    page.until(lambda: '0 of 3 answered' in head() and state().startswith('all kept'), head)
    return root, state, head

def test_keys_wait_for_the_next_film(page, notebooks, lab):
    "What is pressed while a film opens slowly is said to wait, and answers the questions of the next video, not of this one"
    kernel, slow = notebooks.kernel(page.nb), lab.notebooks/'slow'
    for title in ('2 wide.mp4', '1 portrait.mp4'): root, state, head = begin(page, title)
    page.press('Home')
    kernel.run('v.ahead = {}')
    try:
        slow.touch()
        page.press('n', '2', 'ArrowDown', '3', 'ArrowRight', 'ArrowRight')
        page.until(lambda: '5 keys wait' in state(), state)
    finally: slow.unlink()
    page.until(lambda: '2 of 3 answered' in head(), head)
    page.until(lambda: root.locator('.tql-clock').inner_text().startswith('frame 2 '), lambda: root.locator('.tql-clock').inner_text())
    assert root.locator('.tql-title').inner_text() == '2 wide.mp4'
    answers = lambda: [{k: a for k, a in o.items() if a is not None} for o in kernel.get('[o.answers for o in v.labels.items]')]
    page.until(lambda: answers() == [{}, {'way': 'right', 'with': ['hoop']}, {}], answers)
    kernel.close()

def test_a_write_that_fails_is_said_and_tried_again(page, notebooks):
    kernel, (root, state, head) = notebooks.kernel(page.nb), begin(page, '2 wide.mp4')
    kernel.run("v.save(); Path('tall/table.csv.journal').mkdir(exist_ok=True)")               # stands for a disk that takes nothing
    try:
        page.press('ArrowDown', 'ArrowDown', '4')
        page.until(lambda: state().startswith('NOT kept'), state)
        assert '1 of 3 answered' in head() and not kernel.get("v.labels.items[1].answers.get('turns')")
    finally: kernel.run("Path('tall/table.csv.journal').rmdir()")
    page.until(lambda: state().startswith('all kept'), state)
    page.until(lambda: root.locator('.tqn-message').is_hidden(), 'the notice stays')
    page.until(lambda: kernel.get("v.labels.items[1].answers.get('turns')") == '1.5', 'the kernel has it not')
    kernel.close()
    page.root.scroll_into_view_if_needed()

def test_a_kernel_that_dies(page):
    "What was confirmed is there after the kernel was killed; what was not is said"
    root = page.root
    root.focus()
    title = root.locator('.tql-title').inner_text()
    page.press('1', 'ArrowDown', '2')
    page.until(lambda: '2 of 3' in root.locator('.tql-head').inner_text())
    page.kept()
    kernels = page.page.request.get('/api/sessions').json()
    id = next(s['kernel']['id'] for s in kernels if s['path'] == 'labeller.ipynb')
    page.page.evaluate("async id => { const xsrf = document.cookie.match('_xsrf=([^;]*)'); await fetch(`/api/kernels/${id}/restart`, {method: 'POST', headers: xsrf ? {'X-XSRFToken': xsrf[1]} : {}}) }", id)
    page.page.wait_for_timeout(1500)
    page.until(lambda: page.nb.kernel() == 'idle', 'the kernel did not come back', 60)
    root.focus()
    page.press('u')
    page.until(lambda: 'does not answer' in root.locator('.tql-state').inner_text(), lambda: root.locator('.tql-state').inner_text(), 12)
    page.run()
    page.until(lambda: '2 of 3' in root.locator('.tql-head').inner_text() and root.locator('.tql-title').inner_text() == title, lambda: root.locator('.tql-head').inner_text())
    assert 'journal' in root.locator('[role=alert]').first.inner_text()

def test_no_complaint_and_no_stranger(page):
    assert not [e for e in page.nb.errors if not KNOWN.search(e) and '/api/kernels/' not in e] and not page.nb.strangers()
