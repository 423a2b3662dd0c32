"The companions in a real JupyterLab: ten thousand videos, filters, the last row, what is drawn against the arrays, and the viewer behind a click"
import re, sys
from pathlib import Path
import nbformat, numpy as np, pytest
from nbformat.v4 import new_code_cell, new_notebook

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from made_records import made  # noqa: E402

KNOWN = re.compile('Failed to load resource.*(favicon|/api/contents/.*checkpoints|/static/.*\\.map)')  # JupyterLab's own, not ours
N = 10_000
CELLS = [f'''
import sys; sys.path.insert(0, {str(TESTS)!r})
import numpy as np, torch, tqn
from made_records import made
from tqn.widgets.compare import Side
opened = []
torch.manual_seed(0)
model = tqn.TQN(tqn.QuerySet({{'takeoff': ['Back', 'Forward'], 'twist': ['none', 'half']}}), d_model=16, d_features=8, n_layers=1, n_heads=2).eval()
def show(id):
    opened.append(id)
    if id.endswith('7'): raise ValueError('its file is not there any more')
    return tqn.view(model, torch.randn(12, 8), progress=False)
''', f'''
records = made({N})
browser = tqn.DataBrowser(records, on_open=show, sort='given', descending=False)
browser
''', '''
other = tqn.DataBrowser(made(30, ('takeoff', 'twist'), seed=1), height=200)
other
''', '''
g = np.random.default_rng(0)
def side(name, n=40, layers=2, heads=3): return Side(name, g.dirichlet(np.ones(n)*.3, (layers, heads, 3)), np.arange(n+1.)/5, ['takeoff', 'twist', 'class'],
    {'takeoff': [('Back', .9), ('Forward', .1)], 'twist': [('half', .6)], 'class': [('Back half', .7)]}, {'takeoff': 'Back', 'twist': 'none'})
pair = tqn.CompareViewer([side('small'), side('large')])
pair
''', '''
def clips(name, n, frames=220): return Side(name, g.dirichlet(np.ones(n)*.3, (1, 1, 1)), np.append(np.arange(n)*frames//n, frames)/25, ['takeoff'], {}, {})
uneven = tqn.CompareViewer([clips('28 clips', 28), clips('9 clips', 9)])
uneven
''', '''
epochs = tqn.CompareViewer([side(f'epoch {i}', layers=1, heads=1) for i in range(12)], b=11)
epochs
''', '''
confusions = tqn.Confusions(records, question='takeoff', on_open=show)
confusions
''', '''
from pathlib import Path
from tqn.data.items import Item
from tqn.widgets.browse import Opener
from tqn.video.video import write_video
class Mean(torch.nn.Module):
    d_out = 3
    def forward(self, x): return x.mean((2, 3, 4))
colours = [(220, 40, 40), (40, 60, 220)]
for i, c in enumerate(colours): write_video(f'film{i}.mp4', np.full((24, 36, 64, 3), c, np.uint8))
seeing = tqn.TQN(tqn.QuerySet({'takeoff': ['Back', 'Forward'], 'twist': ['none', 'half']}), Mean(), d_model=8, n_layers=1, n_heads=1).eval()
seeing.preprocess = dict(size=32, resize=32)
some = made(30, ('takeoff', 'twist'), seed=1)
films = {k: Item(k, Path(f'film{i % 2}.mp4')) for i, k in enumerate(some.ids)}
some.items.update(films)
filmed = tqn.DataBrowser(some, question='twist', on_open=Opener(seeing, films), height=300, sort='given', descending=False)
filmed
''', '''
tqn.DataBrowser(None)
''']

class Open:
    "The notebook of all companions, its page and its kernel"
    def __init__(self, notebooks, lab):
        path = lab.notebooks/'companions.ipynb'
        nbformat.write(new_notebook(cells=[new_code_cell(c.strip()) for c in CELLS], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), path)
        self.nb = notebooks('companions.ipynb')
        self.page, last = self.nb.page, self.nb.page.locator('.tqn-browse [role=alert]').last
        for seconds in (150, 150):     # once more where the first click was lost
            self.nb.menu('Run', 'Run All Cells')
            try: last.wait_for(timeout=1000*seconds); break
            except Exception: assert not self.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count(), self.page.locator('.jp-OutputArea').all_inner_texts()
        self.kernel = notebooks.kernel(self.nb)

    def get(self, expression): return self.kernel.get(expression)
    def until(self, *args, **kwargs): self.nb.until(*args, **kwargs)

@pytest.fixture(scope='module')
def lab_page(notebooks, lab):
    o = Open(notebooks, lab)
    yield o
    o.kernel.close()

@pytest.fixture
def browse(lab_page):
    "The browser as it began"
    lab_page.kernel.run("browser.question, browser.answer, browser.truth, browser.verdict, browser.text, browser.sort, browser.descending, browser.theme = '', '', '', 'all', '', 'given', False, 'auto'; browser.close_viewer()")
    root = lab_page.page.locator('.tqn-browse').first
    root.scroll_into_view_if_needed()
    lab_page.until(lambda: root.locator('.tqb-status').inner_text() == '10,000 videos' and root.get_by_label('sorted by').input_value() == 'given', 'it is not as it began')
    root.locator('.tqb-list').evaluate('e => { e.scrollTop = 0 }')
    lab_page.until(lambda: row(root, 0).count() and row(root, 0).locator('.tqb-id').inner_text() == 'dive_00000', 'the first row is not there')
    return root

def row(root, i): return root.locator(f'.tqb-row[aria-posinset="{i+1}"]:not([hidden])')

RED = "c => { const g = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return Array.from({length: c.width}, (_, x) => { let n = 0; for (let y = 0; y < c.height; y++) n += g[4*(y*c.width + x) + 3] > 0; return n }) }"


def test_the_last_of_ten_thousand(lab_page, browse, shots):
    first = lab_page.get('browser.chosen[0]')
    assert row(browse, 0).locator('.tqb-id').inner_text() == first == 'dive_00000'
    browse.locator('.tqb-list').focus()
    lab_page.page.keyboard.press('End')
    last = row(browse, N-1)
    lab_page.until(lambda: last.count() and last.locator('.tqb-id').inner_text() == f'dive_{N-1:05d}', 'row 9,999 did not come')
    assert 'is-active' in last.get_attribute('class') and last.get_attribute('aria-setsize') == str(N)
    box, frame = last.bounding_box(), browse.locator('.tqb-list').bounding_box()
    assert frame['y'] <= box['y'] and box['y'] + box['height'] <= frame['y'] + frame['height'] + 1, 'it is there but not on show'
    assert browse.locator('.tqb-row').count() < 40, 'rows that are not on show are in the page'
    lab_page.page.keyboard.press('Home')
    lab_page.until(lambda: row(browse, 0).count() and row(browse, 0).locator('.tqb-id').inner_text() == first)

def test_scrolling_through_the_middle(lab_page, browse):
    "Wherever the scroll bar is let go, the rows on show are those of the view"
    box = browse.locator('.tqb-list')
    for share in (.5, .123, .9, .31):
        box.evaluate('(e, s) => { e.scrollTop = s*e.scrollHeight }', share)
        rows = 'e => [...e.querySelectorAll(".tqb-row:not([hidden])")].map(r => [r.ariaPosInSet, r.querySelector(".tqb-id").textContent])'
        first = box.evaluate('(e, s) => Math.floor(s*(e.scrollHeight - 0)/parseFloat(getComputedStyle(e.querySelector(".tqb-row")).height))', share)
        lab_page.until(lambda: any(int(i) == first + 2 and t != '…' for i, t in box.evaluate(rows)), 'rows are still waiting')
        shown = [(int(i), t) for i, t in box.evaluate(rows) if t != '…']
        assert len(shown) > 3 and all(t == f'dive_{i-1:05d}' for i, t in shown)

def test_strips_are_the_arrays(lab_page, browse):
    r = made(N)
    for i in (0, 1):
        for q in (0, 6):
            drawn = row(browse, i).locator('.tqb-strip').nth(q).evaluate(RED)
            assert drawn == [max(v > 0, int(v/255*16 + .5)) for v in r.strips[i, q].astype(float)]
            said = row(browse, i).locator('.tqb-cell').nth(q)
            assert said.locator('.tqb-said span').inner_text() == r.labels[r.names[q]][r.said[i, q]]
            assert ('is-wrong' in said.get_attribute('class')) == (r.right[i, q] == 0)

def test_filters_and_order(lab_page, browse):
    choose = lambda label, value: browse.get_by_label(label, exact=True).select_option(value)
    choose('question', 'takeoff')
    choose('verdict', 'wrong')
    choose('sorted by', 'loss')
    r = made(N)
    wrong = np.flatnonzero(r.right[:, 1] == 0)
    lab_page.until(lambda: lab_page.get('len(browser.order)') == len(wrong))
    best = r.ids[wrong[np.argmax(r.loss[wrong, 1])]]
    lab_page.until(lambda: row(browse, 0).locator('.tqb-id').inner_text() == best, 'the highest loss is not first')
    assert browse.locator('.tqb-status').inner_text() == f'{len(wrong):,} of 10,000 videos'
    assert row(browse, 0).locator('.tqb-cell').count() == 1
    choose('answered', 'Inward')
    lab_page.until(lambda: browse.locator('.tqb-status').inner_text().startswith(f'{int((r.said[wrong, 1] == 2).sum()):,} of'))
    browse.get_by_label('highest first; turn round').click()
    lab_page.until(lambda: lab_page.get('browser.descending') is False)
    browse.get_by_role('button', name='Show all').click()
    lab_page.until(lambda: browse.locator('.tqb-status').inner_text() == '10,000 videos')
    browse.get_by_label('Search names and answers').fill('dive_0042')
    lab_page.until(lambda: browse.locator('.tqb-status').inner_text() == '10 of 10,000 videos')
    browse.get_by_label('Search names and answers').fill('<b>nothing')
    lab_page.until(lambda: browse.locator('.tqb-none').is_visible())
    lab_page.kernel.run("browser.text = ''")          # the other way round
    lab_page.until(lambda: browse.get_by_label('Search names and answers').input_value() == '' and browse.locator('.tqb-status').inner_text() == '10,000 videos')

def test_a_click_opens_the_viewer(lab_page, browse, shots):
    row(browse, 2).click()
    viewer = browse.locator('.tqn-pane .tqn-viewer')
    viewer.wait_for(timeout=60_000)
    assert lab_page.get('(browser.selected, opened[-1])') == ['dive_00002', 'dive_00002']
    lab_page.until(lambda: row(browse, 2).get_attribute('aria-selected') == 'true')
    assert viewer.locator('.tqn-lane').count() == 2
    lab_page.nb.shot(shots/'browse_open.png', '.tqn-browse')
    browse.get_by_label('Close the viewer').click()
    lab_page.until(lambda: not browse.locator('.tqn-pane').is_visible())
    assert lab_page.get('browser.viewer is None')

def test_rows_show_their_films_and_open_at_the_question(lab_page, shots):
    "A picture of every film on show, and the viewer begins at the question that was chosen"
    root = lab_page.page.locator('.tqn-browse').nth(2)
    root.scroll_into_view_if_needed()
    seen = root.locator('.tqb-film:visible')
    lab_page.until(lambda: seen.count() >= 4, 'no pictures')
    reds = [seen.nth(i).evaluate("c => { const d = c.getContext('2d').getImageData(c.width >> 1, c.height >> 1, 1, 1).data; return d[0] > d[2] }") for i in range(4)]
    assert reds == [True, False, True, False], 'the pictures of other films'
    root.locator('.tqb-row', has_text='dive_00001').first.click()
    viewer = root.locator('.tqn-pane .tqn-viewer')
    viewer.wait_for(timeout=60_000)
    assert lab_page.get('filmed.viewer.lane') == 1 and viewer.locator('[aria-selected=true]').get_attribute('data-name') == 'twist'
    lab_page.nb.shot(shots/'browse_films.png', '.tqn-browse >> nth=2')
    lab_page.kernel.run('filmed.close_viewer()')

def test_enter_opens_and_faults_are_said(lab_page, browse):
    browse.locator('.tqb-list').focus()
    for key in ['Home', *['ArrowDown']*7]: lab_page.page.keyboard.press(key)  # JupyterLab would take arrows for itself
    lab_page.page.keyboard.press('Enter')
    lab_page.until(lambda: browse.locator('.tqn-message').is_visible())
    assert browse.locator('.tqn-message').inner_text() == 'dive_00007 cannot be opened: its file is not there any more'
    assert lab_page.get('opened[-1]') == 'dive_00007'

def test_two_on_a_page_know_nothing_of_each_other(lab_page, browse):
    second = lab_page.page.locator('.tqn-browse').nth(1)
    second.get_by_label('question', exact=True).select_option('twist')
    lab_page.until(lambda: lab_page.get('other.question') == 'twist')
    assert lab_page.get('browser.question') == '' and browse.locator('.tqb-status').inner_text() == '10,000 videos'
    ids = lab_page.page.locator('.tqb-row').evaluate_all('rows => rows.map(r => r.id)')
    assert len(ids) == len(set(ids))
    assert lab_page.page.locator('.tqn-browse').nth(3).locator('[role=alert]').text_content().startswith('There are no videos to show')

def test_dark_and_narrow(lab_page, browse, shots):
    lab_page.kernel.run("browser.theme = 'dark'")
    lab_page.until(lambda: 'is-dark' in browse.get_attribute('class'))
    assert browse.evaluate('e => getComputedStyle(e).backgroundColor') == 'rgb(18, 21, 24)'
    lab_page.nb.shot(shots/'browse_dark.png', '.tqn-browse')
    for name in ('browse', 'compare', 'confusions'):
        root = lab_page.page.locator(f'.tqn-{name}').first
        root.evaluate("e => { e.style.width = '400px' }")
        root.scroll_into_view_if_needed()
        lab_page.page.wait_for_timeout(250)
        lab_page.nb.shot(shots/f'{name}_narrow.png', f'.tqn-{name}')
        assert root.evaluate('e => e.scrollWidth <= e.clientWidth'), f'{name} is wider than 400 px'
        if name == 'browse': assert 'is-narrow' in root.locator('.tqb-list').get_attribute('class') and row(root, 0).locator('.tqb-name').first.is_visible()
        root.evaluate("e => { e.style.width = '' }")

OVER = """root => {  // what sticks out of its row, or lies over something else
  const out = [], rows = [...root.querySelectorAll('.tqb-row:not([hidden])')]
  for (const r of rows) {
    const R = r.getBoundingClientRect(), all = [...r.querySelectorAll('.tqb-id, .tqb-facts, .tqb-strip, .tqb-said, .tqb-truth, .tqb-name')].filter(e => e.offsetHeight).map(e => [e.className, e.getBoundingClientRect()])
    for (const [name, b] of all) if (b.bottom > R.bottom + .5 || b.top < R.top - .5 || b.right > R.right + .5) out.push(`${name} leaves its row`)
    all.forEach(([n, x], i) => all.slice(i + 1).forEach(([m, y]) => {
      if (Math.min(x.right, y.right) - Math.max(x.left, y.left) > 1 && Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top) > 3) out.push(`${n} over ${m}`) }))
  }
  return [rows.length, ...new Set(out)] }"""

@pytest.mark.parametrize('nth', [0, 1])
def test_rows_do_not_overlap_at_any_width(lab_page, nth):
    "Three questions and two, at the widths where their cells change places (a window of 700 pixels leaves 500 to 620)"
    root = lab_page.page.locator('.tqn-browse').nth(nth)
    root.scroll_into_view_if_needed()
    for width in (1100, 700, 620, 560, 500, 440, 380, 320):
        root.evaluate("(e, w) => { e.style.width = `${w}px` }", width)
        lab_page.page.wait_for_timeout(250)
        n, *over = root.evaluate(OVER)
        assert n and not over, (width, over)
    root.evaluate("e => { e.style.width = '' }")

def middles(drawn, edges):
    "What was drawn in the middle of every clip"
    at = (edges[1:] + edges[:-1])/2
    return np.array(drawn)[((at - edges[0])/(edges[-1] - edges[0])*len(drawn)).astype(int)]

def test_clips_of_a_comparison_keep_their_edges_and_numbers(lab_page, shots):
    "Two sides with other clips: every bar stands over its own clip, as many times uniform as it is"
    root = lab_page.page.locator('.tqn-compare').nth(1)
    root.scroll_into_view_if_needed()
    lab_page.page.wait_for_timeout(300)
    sides = lab_page.get("[[s.attn[0, 0, 0].tolist(), s.times.tolist()] for s in uneven.sides]")
    top = max(max(a)*len(a) for a, _ in sides)
    for canvas, (a, times) in zip(('.tqc-a', '.tqc-b'), sides):
        drawn, edges = root.locator(canvas).first.evaluate(RED), np.array(times)
        want = np.array(a)*len(a)/top*40
        assert (np.abs(middles(drawn, edges) - np.maximum(want, want > 0)) <= 1).all()
        for t, left, right in zip(edges[1:], want, want[1:]):                  # an edge is where it is in time, to the pixel
            if abs(left - right) < 6: continue
            x, step = t/edges[-1]*len(drawn), np.flatnonzero(np.abs(np.diff(drawn)) >= 4) + 1
            assert np.abs(step - x).min() <= 1.5, t
    root.locator('.tqc-block').focus()
    lab_page.page.keyboard.press('Home')
    a, b = (s[0][0] for s in sides)
    said = root.locator('.tqc-read').inner_text()
    told = [float(n) for n in re.findall(r'([\d.]+)× ?', said)]
    assert abs(told[0] - a*28) <= .06 or told[0] == round(a*28)
    assert abs(told[1] - b*9) <= .06 or told[1] == round(b*9)
    lab_page.nb.shot(shots/'compare_uneven.png', '.tqn-compare >> nth=1')

def test_a_comparison_plays(lab_page):
    "A cursor runs through the film in its own time, and the values under it are read"
    root = lab_page.page.locator('.tqn-compare').first
    root.scroll_into_view_if_needed()
    play, read = root.get_by_role('button', name='Play through the film'), root.locator('.tqc-read')
    play.click()
    seen = set()
    for _ in range(40):
        seen.add(read.inner_text()); lab_page.page.wait_for_timeout(50)
    assert len(seen) >= 4 and all('uniform' in o for o in seen if o), seen
    assert root.locator('.tqc-cursor').first.is_visible()
    root.get_by_role('button', name='Pause the film').click()
    at = read.inner_text()
    lab_page.page.wait_for_timeout(300)
    assert read.inner_text() == at and play.is_visible()

def test_lanes_of_a_comparison(lab_page, shots):
    root = lab_page.page.locator('.tqn-compare').first
    root.scroll_into_view_if_needed()
    block = root.locator('.tqc-block').first
    mass = np.array(lab_page.get("[s.attn.tolist() for s in pair.sides]"))
    def check(a, b):
        top = max(a.max(), b.max())
        for canvas, v in (('.tqc-a', a), ('.tqc-b', b)):
            drawn = middles(block.locator(canvas).evaluate(RED), np.arange(41))
            assert (np.abs(drawn - np.maximum(v/top*40, 1)) <= 1).all()
        assert (np.abs(middles(block.locator('.tqc-d').evaluate(RED), np.arange(41)) - np.abs(b-a)/top*18) <= 1).all()
    lab_page.page.wait_for_timeout(200)
    check(*mass.mean((1, 2))[:, 0])
    root.get_by_label('layer').select_option(label='1')
    root.get_by_label('head').select_option(label='2')
    lab_page.until(lambda: lab_page.get('[pair.layer, pair.head]') == [1, 2])
    lab_page.page.wait_for_timeout(200)
    check(*mass[:, 1, 2, 0])
    box = block.locator('.tqc-a').bounding_box()
    lab_page.page.mouse.move(box['x'] + 10.5/40*box['width'], box['y'] + 10)
    said = root.locator('.tqc-read').inner_text()
    assert said.startswith('takeoff, 2.00–2.20 s: A ') and f'{mass[0, 1, 2, 0, 10]:.2f}'[:3] in said
    block.focus()
    lab_page.page.keyboard.press('End')
    assert root.locator('.tqc-read').inner_text().startswith('takeoff, 7.80–8.00 s')
    lab_page.nb.shot(shots/'compare.png', '.tqn-compare')

def test_epochs_have_a_slider(lab_page, shots):
    root = lab_page.page.locator('.tqn-compare').nth(2)
    root.scroll_into_view_if_needed()
    assert root.locator('.tqc-sidename').all_inner_texts() == ['epoch 0', 'epoch 11']
    root.get_by_label('side B').fill('8')
    lab_page.until(lambda: lab_page.get('epochs.b') == 8)
    lab_page.until(lambda: root.locator('.tqc-sidename').all_inner_texts() == ['epoch 0', 'epoch 8'])
    lab_page.kernel.run('epochs.b = 10')
    root.get_by_label('Play B through all sides').click()
    lab_page.until(lambda: lab_page.get('epochs.b') == 11)
    lab_page.until(lambda: root.get_by_label('Play B through all sides').is_visible(), 'it plays on after the end')
    root.screenshot(path=str(shots/'epochs.png'))

def test_a_cell_lists_its_videos(lab_page, shots):
    root = lab_page.page.locator('.tqn-confusions')
    root.scroll_into_view_if_needed()
    r = made(N)
    counts = np.zeros((4, 4), int)
    known = r.truth[:, 1] >= 0
    np.add.at(counts, (r.truth[known, 1], r.said[known, 1]), 1)
    assert [int(t or 0) for t in root.locator('.tqf-cell span').all_text_contents()] == counts.ravel().tolist()
    root.locator('.tqf-cell').nth(1*4 + 3).click()
    lab_page.until(lambda: root.locator('.tqf-title').inner_text() == f'Forward, answered Reverse: {counts[1, 3]}')
    at = np.flatnonzero((r.truth[:, 1] == 1) & (r.said[:, 1] == 3))
    at = at[np.argsort(-r.loss[at, 1], kind='stable')]
    listed = root.locator('.tqf-video span').all_inner_texts()
    assert listed == [r.ids[i] for i in at[:100]]
    lab_page.page.keyboard.press('ArrowLeft')
    lab_page.page.keyboard.press('Enter')
    lab_page.until(lambda: lab_page.get('confusions.cell') == [1, 2])
    lab_page.until(lambda: root.locator('.tqf-title').inner_text().startswith('Forward, answered Inward'))
    target = next(i for i, t in enumerate(root.locator('.tqf-video span').all_inner_texts()) if not t.endswith('7'))
    id = root.locator('.tqf-video span').nth(target).inner_text()
    root.locator('.tqf-video').nth(target).click()
    root.locator('.tqn-pane .tqn-viewer').wait_for(timeout=60_000)
    assert lab_page.get('confusions.selected') == id == lab_page.get('opened[-1]')
    tones = lambda k: root.locator('.tqf-cell').nth(k).evaluate('e => getComputedStyle(e).backgroundColor.match(/[0-9]+/g).map(Number)')
    (r0, _, b0), (r1, _, b1) = tones(5), tones(int(np.argmax(np.where(np.eye(4), 0, counts/counts.sum(1, keepdims=True)).ravel())))
    assert b0 > r0 and r1 > b1, 'hits are blue, errors orange'
    lab_page.nb.shot(shots/'confusions.png', '.tqn-confusions')
    lab_page.kernel.run('confusions.close_viewer()')
    root.get_by_label('question', exact=True).select_option('class')
    lab_page.until(lambda: root.locator('.tqf-cell').count() == 144 and lab_page.get('confusions.cell') == [])

def test_taken_away_without_a_trace(lab_page):
    "The outputs are cleared: their models go on in the kernel, and no view complains or keeps listening"
    lab_page.nb.menu('Edit', 'Clear Outputs of All Cells')
    lab_page.until(lambda: lab_page.page.locator('.tqn-browse, .tqn-compare, .tqn-confusions').count() == 0, 'something is left')
    lab_page.kernel.run("browser.sort = 'loss'; browser.theme = 'light'; pair.layer = 0; epochs.b = 3; confusions.question = 'twist'; browser.open_video('dive_00001')")
    lab_page.page.wait_for_timeout(500)
    assert lab_page.page.locator('.tqn-viewer').count() == 0

def test_no_errors_and_nothing_leaves_the_page(lab_page):
    assert lab_page.nb.strangers() == []
    assert [e for e in lab_page.nb.errors if not KNOWN.search(e)] == []
