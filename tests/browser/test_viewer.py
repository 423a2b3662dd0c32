"""The viewer in a real JupyterLab: what is drawn against the array, the frame on show against the film, the answers against a direct computation.

The film counts: frame i shows i as eight black or white squares, so that the picture itself says which frame it is.
"""
import base64, json, re
import nbformat, numpy as np, pytest, torch
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook
from tqn.attention.whatif import ask_again, curves, shown

N, F, D = 25, 200, 12
SETUP = f'''
import json, time, torch, numpy as np, tqn
from pathlib import Path
from tqn.video.video import write_video
N, F, D = {N}, {F}, {D}
def counting(path, n=F, fps=25., shade=0):
    frames = np.full((n, 96, 160, 3), 90 + shade, np.uint8)
    for i in range(n):
        for b in range(8): frames[i, 8:24, 16*b + 8:16*b + 24] = 255*(i >> b & 1)
        frames[i, 40:88, i*140//n:i*140//n + 20] = (250, 190, 40)
    write_video(path, frames, fps=fps)
def network():
    torch.manual_seed(3)
    queries = tqn.QuerySet({{'takeoff': ['back', 'forward', 'inward'], 'twist': ['none', 'half', 'one'], 'entry': ['feet', 'hands']}},
                           classes=[('easy', ['back', 'none', 'feet']), ('hard', ['inward', 'one', 'hands'])])
    model = tqn.TQN(queries, d_model=D, n_layers=3, n_heads=2).eval()
    for o in model.heads.layers: o.weight.data *= 6
    for o in model.decoder.layers: o.cross.query.weight.data *= 5
    return model, 2*torch.randn(N, D)
model, features = network()
'''
VIEW = '''
counting('film.mp4')
truth, extents = {'takeoff': 'back', 'twist': 'one', 'entry': 'feet'}, {'takeoff': (16, 56), 'entry': (150, 190)}
viewer = tqn.view(model, 'film.mp4', truth, extents, features=features)
viewer
'''
SECOND = '''
counting('second.mp4', 64, shade=60)
second = tqn.view(model, 'second.mp4', features=features[:8])
second
'''
KNOWN = re.compile('Failed to load resource.*(favicon|/api/contents/.*checkpoints|/static/.*\\.map)')  # JupyterLab's own, not ours

def write_notebook(path, *cells):
    "A notebook of code cells"
    nb = new_notebook(cells=[new_code_cell(o.strip()) for o in cells], metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}})
    nbformat.write(nb, path)

def is_shown(text, p):
    "Whether a lane's text gives this probability, to two digits"
    told = re.search(r'([<>]?)([\d.]+)$', text.strip())
    return {'>': p >= .995, '<': p < .005, '': abs(float(told[2]) - p) <= .0051}[told[1]]

SHOWN = """e => { const v = e.querySelector('video'), c = document.createElement('canvas'); c.width = v.videoWidth; c.height = v.videoHeight
  const g = c.getContext('2d', {willReadFrequently: true}); g.drawImage(v, 0, 0)
  let n = 0; for (let b = 0; b < 8; b++) n |= (g.getImageData(16*b + 16, 16, 1, 1).data[0] > 127) << b
  return n }"""
PIXELS = """c => ({w: c.width, h: c.height, k: devicePixelRatio, data: Array.from(new Uint8Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer))})"""

class Seen:
    "One viewer on a page, and the kernel behind it"
    def __init__(self, notebook, kernel, name='viewer', nth=0):
        self.nb, self.page, self.kernel, self.name = notebook, notebook.page, kernel, name
        self.root = notebook.page.locator('.tqn-viewer').nth(nth)

    def wait(self):
        "Until lanes are drawn and the film is there"
        self.root.wait_for(timeout=60_000)
        self.until(lambda: self.data('ready') == '1' and self.data('video') == 'ready', 'the film is not there')
        return self

    def until(self, true, why='it did not happen'):
        place = lambda: f'frame {self.data("frame")}, shown {self.data("shown")}, video {self.data("video")}'
        self.nb.until(true, lambda: f'{why() if callable(why) else why} ({place()})')

    def data(self, key): return self.root.get_attribute(f'data-{key}')
    def get(self, trait): return self.kernel.get(f'{self.name}.{trait}')
    def set(self, **traits): self.kernel.run('; '.join(f'{self.name}.{k} = {v!r}' for k, v in traits.items()))
    def picture(self): return self.root.evaluate(SHOWN)
    def lane(self, question): return self.root.locator(f'.tqn-lane[data-name="{question}"]')
    def canvas(self, question): return self.lane(question).locator('canvas')
    def key(self, *keys):
        self.root.focus()
        for k in keys: self.page.keyboard.press(k)
    def at(self, frame):
        "The film shows this frame, the page says so, and Python knows"
        self.until(lambda: self.data('shown') == str(frame), why=f'frame {frame} is not shown')
        self.until(lambda: self.get('frame') == frame, why=lambda: f'Python does not know of frame {frame} but of {self.get("frame")}')
        assert self.picture() == frame
    def click(self, question, share):
        b = self.place(question)
        self.page.mouse.click(b['x'] + share*b['width'], b['y'] + b['height']/2)
    def place(self, question):
        "Where a lane is on the page, after it was brought into sight"
        self.canvas(question).scroll_into_view_if_needed()
        return self.canvas(question).bounding_box()
    def drag(self, question, a, b):
        box = self.place(question)
        y = box['y'] + box['height']/2
        self.page.mouse.move(box['x'] + a*box['width'], y)
        self.page.mouse.down()
        for s in np.linspace(a, b, 6): self.page.mouse.move(box['x'] + s*box['width'], y)
        self.page.mouse.up()

@pytest.fixture(scope='module')
def opened(notebooks, lab):
    "The notebook with two viewers, run once"
    write_notebook(lab.notebooks/'viewer.ipynb', SETUP, VIEW, SECOND)
    nb = notebooks('viewer.ipynb')
    cells = nb.run_all()
    assert cells and all(n for n, _ in cells) and not any(e for _, e in cells), cells
    kernel = notebooks.kernel(nb)
    nb.page.locator('.tqn-viewer').first.scroll_into_view_if_needed()
    yield nb, kernel
    kernel.close()

@pytest.fixture
def seen(opened):
    "The first viewer, as it is at the beginning"
    v = Seen(*opened).wait()
    v.set(playing=False, hidden=[], keep=False, layer=-1, head=-1, order='given', scale='lane', how='attn', speed=1., rows='tall', pinned=[], folded=[], frame=0, lane=0, theme='auto')
    v.root.scroll_into_view_if_needed()
    v.key('Escape', 'Escape')
    v.at(0)
    return v

@pytest.fixture(scope='module')
def here():
    "The same model and features in this process"
    space = {}
    exec(SETUP, space)
    return space['model'], space['features']

def test_seek_by_key_and_click_shows_exactly_that_frame(seen):
    seen.key('ArrowRight', 'ArrowRight', 'ArrowRight'); seen.at(3)
    seen.key('ArrowLeft'); seen.at(2)
    seen.key('Shift+ArrowRight', 'Shift+ArrowRight'); seen.at(16)
    seen.key('End'); seen.at(F - 1)
    seen.key('Home'); seen.at(0)
    for share in (.11, .503, .87):
        seen.click('twist', share)
        seen.at(int(share*F))
    for frame in (137, 1, 198, 64): seen.set(frame=frame); seen.at(frame)      # and from Python

def test_next_peak_and_lanes_by_key(seen):
    maps = seen.kernel.get("{q: a.tolist() for q, a in viewer.maps().items()}")
    seen.key('ArrowDown')
    seen.until(lambda: seen.get('lane') == 1)
    top = int(np.argmax(maps['twist']))
    went = []
    for _ in range(N):
        before = seen.data('frame')
        seen.key('n')
        if seen.data('frame') == before: break
        went.append(int(seen.data('frame'))//8)
    seen.until(lambda: seen.get('frame') == int(before), why='Python does not know where the keys went')
    a = maps['twist']
    assert top in went and went == sorted(went)
    assert all(a[c] >= max(a[max(0, c-1)], a[min(N-1, c+1)]) for c in went), 'a key stopped where there is no peak'

def test_plays_and_stops(seen):
    seen.key(' ')
    seen.until(lambda: seen.get('playing') and seen.get('frame') > 12, 'it does not play')
    seen.key(' ')
    seen.until(lambda: not seen.get('playing'))
    frame = seen.get('frame')
    seen.at(frame)
    seen.page.wait_for_timeout(300)
    assert seen.get('frame') == frame
    seen.set(speed=4.)
    assert seen.root.locator('video').first.evaluate('v => v.playbackRate') == 4

@pytest.mark.parametrize('layer,head', [(-1,-1), (1,0), (2,-2)])
def test_drawn_pixels_are_the_array(seen, here, layer, head):
    from tqn.attention.answer import capture
    model, features = here
    seen.set(layer=layer, head=head)
    seen.page.wait_for_timeout(150)
    attn = capture(model, features[None]).attn[0]
    a = (attn.amax(1) if head == -2 else attn.mean(1) if head == -1 else attn[:,head])
    a = (a.mean(0) if layer == -1 else a[layer])[1].numpy()                     # twist
    p = seen.canvas('twist').evaluate(PIXELS)
    w, h, k = p['w'], p['h'], p['k']
    rgba = np.array(p['data'], np.uint8).reshape(h, w, 4).astype(int)
    room = h - 4*k
    for clip in range(N):
        x = int((clip + .5)*w/N)
        column = rgba[:, x]
        tall = max(k, a[clip]/a.max()*room)
        solid = column[:, 3] == 255
        top = h - int(np.argmax(solid)) if solid.any() else 0
        assert abs(top - tall) <= 2 or min(top, tall) <= 3*k and max(top, tall) <= 5*k, f'clip {clip}: {top} pixels high, expected {tall:.1f}'
    assert (rgba[..., 3] == 255).sum() > 100

def test_hidden_range_gives_the_answers_of_a_direct_computation(seen, here):
    model, features = here
    seen.drag('takeoff', 4.2/N, 9.8/N)                                          # clips 4 to 9
    seen.root.get_by_role('button', name=re.compile('Hide from the model')).click()
    seen.until(lambda: seen.get('hidden') == [[4, 10]], why=lambda: f'hidden is {seen.get("hidden")}')
    seen.root.locator('.tqn-what').wait_for()
    for ranges, keep in (([(4, 10)], False), ([(4, 10)], True)):
        if keep: seen.set(keep=True)
        now = ask_again(model, features, shown(N, ranges, keep))
        for q in ('takeoff', 'twist', 'entry', 'class'):
            answer, p = now[q][0]
            seen.until(lambda: seen.lane(q).locator('.tqn-first').inner_text().replace('\n', ' ').startswith(answer), f'{q}: the new answer is not shown')
            text = seen.lane(q).locator('.tqn-first').inner_text()
            assert is_shown(text, p), (q, text, p)

def test_a_change_asks_the_kernel_once(opened, seen):
    "Range and rule change together, in one question"
    _, kernel = opened
    kernel.run("import tqn.widgets.viewer as W\nasked, respond = [], W.respond\ndef counted(v, m):\n    asked.append(m.get('type')); return respond(v, m)\nW.respond = counted")
    try:
        seen.lane('takeoff').focus()
        for n, key in enumerate('hku', 1):
            seen.page.keyboard.press(key)
            seen.until(lambda: kernel.get('len(asked)') >= n, why=f'{key} asked nothing')
            seen.page.wait_for_timeout(400)
            assert kernel.get('asked') == ['whatif']*n, key
    finally: kernel.run('W.respond = respond')

def test_lanes_show_where_a_query_looks_without_what_is_hidden(seen, here):
    "The bars are the maps of a direct computation, none of them on what is hidden; those before stand behind as ghosts"
    from tqn.attention.whatif import look_again
    model, features = here
    seen.set(hidden=[[4, 12]])
    seen.until(lambda: 'answer' in seen.root.locator('.tqn-what').inner_text(), why='the kernel did not answer')
    seen.page.wait_for_timeout(300)
    a = look_again(model, features, shown(N, [(4, 12)]))[1].mean((0, 1))[1].numpy()
    old = look_again(model, features, shown(N))[1].mean((0, 1))[1].numpy()
    p = seen.canvas('twist').evaluate(PIXELS)
    w, h, k = p['w'], p['h'], p['k']
    solid = np.array(p['data'], np.uint8).reshape(h, w, 4)[..., 3]
    room, top = h - 4*k, max(a.max(), old.max())
    for clip in range(N):
        column = solid[:, int((clip + .5)*w/N)]
        tall, now = max(k, a[clip]/top*room) if a[clip] else 0, h - int(np.argmax(column == 255)) if (column == 255).any() else 0
        assert abs(now - tall) <= 2 or min(now, tall) <= 3*k and max(now, tall) <= 5*k, f'clip {clip}: {now} pixels high, expected {tall:.1f}'
    assert a[4:12].max() == 0 and ((solid > 0) & (solid < 255)).sum() > 50, 'no ghosts'

def test_curves_are_shown(seen, here):
    model, features = here
    seen.key('d')
    seen.root.locator('.tqn-curves').wait_for(timeout=60_000)
    label = seen.root.locator('.tqn-curves').get_attribute('aria-label')
    area = curves(model, features, 'takeoff').areas()
    told = dict(re.findall(r'(\w+) ([\d.]+)', label))
    for k, v in area.items(): assert abs(float(told[k]) - v) < .006, (k, label, v)

def test_two_viewers_do_not_mix(opened, seen):
    nb, kernel = opened
    other = Seen(nb, kernel, 'second', 1)
    other.root.scroll_into_view_if_needed()
    other.wait()
    kernel.run('second.frame = 40; viewer.frame = 9')
    other.at(40); seen.at(9)
    other.click('twist', 11.5/64)
    other.at(11)
    assert seen.get('frame') == 9 and seen.picture() == 9

def test_dark_and_narrow(opened, seen, shots):
    nb, _ = opened
    seen.set(frame=100); seen.at(100)
    seen.root.screenshot(path=str(shots/'viewer_light.png'))
    light = seen.root.evaluate('e => getComputedStyle(e).backgroundColor')
    nb.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    seen.page.wait_for_timeout(200)
    assert 'is-dark' in seen.root.evaluate('e => e.className')
    nb.page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    seen.set(theme='dark')
    seen.page.wait_for_timeout(200)
    dark = seen.root.evaluate('e => getComputedStyle(e).backgroundColor')
    seen.root.screenshot(path=str(shots/'viewer_dark.png'))
    assert light != dark or 'is-dark' in seen.root.evaluate('e => e.className')
    seen.set(theme='auto')
    place = seen.root.locator('xpath=..')
    place.evaluate("e => { e.style.width = '400px' }")
    seen.page.wait_for_timeout(300)
    assert seen.root.evaluate('e => [e.clientWidth <= 400, e.scrollWidth <= e.clientWidth + 1]') == [True, True], 'it is wider than its place'
    seen.click('twist', .252)
    seen.at(50)
    seen.root.screenshot(path=str(shots/'viewer_narrow.png'))
    place.evaluate("e => { e.style.width = '' }")

def test_full_screen(seen, shots):
    "F and the button: film and lanes fill the screen, keys work there, Esc and F lead back to the same place, and the focus is kept"
    page, root = seen.page, seen.root
    full = lambda: root.evaluate('e => document.fullscreenElement === e')
    focused = lambda: root.evaluate('e => e.contains(document.activeElement)')
    size = lambda: root.evaluate('e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height] }')
    seen.key('ArrowRight', 'ArrowRight'); seen.at(2)
    seen.set(rows='auto')
    page.wait_for_timeout(300)
    before, film = size(), root.locator('video').first.bounding_box()
    ways = [(lambda: seen.key('f'), lambda: page.keyboard.press('Escape')), (root.get_by_label('Full screen (F)').click, lambda: seen.key('f'))]
    for k, (begin, end) in enumerate(ways):
        begin()
        seen.until(full, why='no full screen')
        page.wait_for_timeout(400)
        assert size() == [0, 0, *page.evaluate('[innerWidth, innerHeight]')] and focused()
        assert root.evaluate('e => e.scrollHeight <= e.clientHeight + 1 && e.scrollWidth <= e.clientWidth + 1'), 'something lies outside the screen'
        stage, lanes = root.locator('.tqn-stage').bounding_box(), [o.bounding_box() for o in root.locator('.tqn-lane').all()]
        assert stage['height'] >= 1.2*film['height'] and stage['y'] >= 0 and len(lanes) == 4
        assert root.locator('.tqn-legend').bounding_box()['y'] >= .85*page.evaluate('innerHeight'), 'the screen is not used'
        assert all(b['y'] >= stage['y'] + stage['height'] and b['y'] + b['height'] <= page.evaluate('innerHeight') and b['width'] >= .9*page.evaluate('innerWidth') for b in lanes), lanes
        assert seen.canvas('entry').evaluate('c => Math.abs(c.width - c.clientWidth*devicePixelRatio) <= 1'), 'lanes are not drawn anew'
        if not k: page.screenshot(path=str(shots/'viewer_full.png'))
        if not k: page.keyboard.press('ArrowRight'); seen.at(3)
        end()
        seen.until(lambda: not full(), why='it stays full')
        page.wait_for_timeout(400)
        assert focused() and [round(o) for o in size()[2:]] == [round(o) for o in before[2:]]
        seen.at(3)
    page.keyboard.press('ArrowLeft')                                  # the focus is still the viewer's
    seen.at(2)

def test_a_busy_kernel_is_named_and_the_rest_works(opened, seen):
    _, kernel = opened
    kernel.send('time.sleep(9)')
    seen.drag('takeoff', .1, .3)
    seen.root.get_by_role('button', name=re.compile('Hide from the model')).click()
    seen.root.get_by_text(re.compile('has not answered')).wait_for(timeout=8000)
    seen.key('Home', 'ArrowRight')
    seen.until(lambda: seen.data('shown') == '1')
    seen.until(lambda: seen.get('frame') == 1)                              # when it has time again
    assert seen.root.get_by_text(re.compile('has not answered')).count() == 0 or not seen.root.get_by_text(re.compile('has not answered')).is_visible()

def test_bad_input_is_a_message_in_its_place(opened):
    nb, kernel = opened
    kernel.run("Path('empty.mp4').touch(); from dataclasses import replace; said = tqn.answer(model, features)")
    cases = {"tqn.view(model, 'nothing.mp4')": 'no such file', "tqn.view(model, 'empty.mp4')": 'the file is empty', "tqn.view(model, 'film.mp4', features=features[:-3])": 'features',
             "tqn.view(replace(said, attn=None))": 'no attention was captured'}
    for code, words in cases.items(): assert words in kernel.get(f'{code}.error'), code
    kernel.run('bad = tqn.view(model, "nothing.mp4")')
    kernel.run('viewer.error = bad.error')
    alert = nb.page.locator('[role=alert]', has_text='no such file')
    alert.wait_for(timeout=60_000)
    kernel.run('viewer.error = ""')
    Seen(nb, kernel).wait()

def test_close_and_reopen(opened, here):
    nb, kernel = opened
    Seen(nb, kernel).set(frame=77)
    nb.menu('File', 'Save Notebook')
    nb.page.wait_for_timeout(1000)
    stored = [o for c in json.loads((nb.lab.notebooks/nb.path).read_text())['cells'] for o in c['outputs']]
    pictures = [o['data'] for o in stored if 'image/png' in o.get('data', {})]
    assert len(pictures) == 2 and not any('application/vnd.jupyter.widget-view+json' in d for d in pictures)     # a reader without a kernel sees these
    assert nb.page.locator('.jp-RenderedImage:visible').count() == 0, 'a picture beside the live viewer'
    assert base64.b64decode(pictures[0]['image/png'])[:4] == b'\x89PNG'
    nb.open()
    v = Seen(nb, kernel)
    v.root.scroll_into_view_if_needed()
    v.wait()
    v.at(77)
    v.click('twist', .3); v.at(60)
    kernel.run("Path('film.mp4').rename('gone.mp4')")
    nb.open()
    v.root.scroll_into_view_if_needed()
    v.until(lambda: v.data('video') == 'error')
    assert 'cannot be read any more' in v.root.inner_text()
    kernel.run("Path('gone.mp4').rename('film.mp4')")

def test_reopened_without_a_kernel(opened, browser, lab, shots):
    "A copy of the notebook, as somebody else opens it, or its author on the next day: the pictures, and no error in their place"
    nb, _ = opened
    nb.menu('File', 'Save Notebook')
    nb.page.wait_for_timeout(1000)
    saved = json.loads((lab.notebooks/nb.path).read_text())
    (lab.notebooks/'tomorrow.ipynb').write_text(json.dumps(saved))
    for trusted in (False, True):
        if trusted: NotebookNotary(data_dir=str(lab.notebooks.parent/'data')).sign(nbformat.reads(json.dumps(saved), 4))
        context = browser.new_context(viewport=dict(width=1400, height=1000), base_url=lab.url)
        page = context.new_page()
        page.goto('/lab/workspaces/tomorrow/tree/tomorrow.ipynb?reset', wait_until='domcontentloaded')
        page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=60_000)
        for s in page.request.get('/api/sessions').json():
            if s['path'] == 'tomorrow.ipynb': page.request.delete(f"/api/kernels/{s['kernel']['id']}", headers={'X-XSRFToken': next((c['value'] for c in context.cookies() if c['name'] == '_xsrf'), '')})
        page.wait_for_timeout(5000)
        page.locator('.jp-Notebook .jp-Cell').last.scroll_into_view_if_needed()
        page.screenshot(path=str(shots/f'reopened_{trusted}.png'))
        assert page.locator('.jp-RenderedImage img:visible').count() >= 1
        seen = page.locator('.jp-Notebook').inner_text()
        assert 'Error displaying' not in seen and 'Loading widget' not in seen, seen[-300:]
        context.close()

MANY = '''
counting('film.mp4')
def wide(n):
    torch.manual_seed(1)
    asks = tqn.TQN(tqn.QuerySet({f'question {i}': ['yes', 'no', 'an answer that is rather long'] for i in range(n)}), d_model=D, n_layers=3, n_heads=2).eval()
    for o in asks.decoder.layers: o.cross.query.weight.data *= 5
    return tqn.view(asks, 'film.mp4', features=features)
seven = wide(7)
seven
'''

def test_film_and_lanes_together_on_a_small_screen(notebook, lab, shots):
    "JupyterLab at 1366 x 768: film, controls and seven lanes in sight; of thirteen at least nine, and the rest scrolls below the film"
    write_notebook(lab.notebooks/'small.ipynb', SETUP, MANY, 'thirteen = wide(13)\nthirteen')
    nb = notebook('small.ipynb')
    nb.page.set_viewport_size(dict(width=1366, height=768))
    assert not any(e for _, e in nb.run_all())
    around = nb.page.locator('.jp-WindowedPanel-outer').first.bounding_box()
    for nth, least in ((0, 7), (1, 9)):
        root = nb.page.locator('.tqn-viewer').nth(nth)
        root.wait_for(timeout=60_000)
        root.evaluate("e => e.scrollIntoView({block: 'start'})")
        nb.page.wait_for_timeout(800)
        def seen(l):
            b = l.bounding_box()
            return b and b['y'] >= around['y'] - 1 and b['y'] + b['height'] <= around['y'] + around['height'] + 1
        for part in ('.tqn-stage', '.tqn-transport', '.tqn-choices', '.tqn-filmrow canvas', '.tqn-axis canvas'): assert seen(root.locator(part).first), (nth, part)
        rows = root.locator('.tqn-rows').bounding_box()
        floor = root.locator('.tqn-axisrow').bounding_box()['y']
        lanes = [root.locator('.tqn-lane').nth(i).locator('canvas') for i in range(root.locator('.tqn-lane').count())]
        inside = [l for l in lanes if seen(l) and rows['y'] <= l.bounding_box()['y'] and l.bounding_box()['y'] + l.bounding_box()['height'] <= floor + 1]
        assert len(inside) >= least, f'{len(inside)} of {len(lanes)} lanes in sight'
        assert root.locator('.tqn-stage').bounding_box()['height'] >= 160
        nb.shot(shots/f'lab_{len(lanes)}_lanes.png')
    root.locator('.tqn-lane').last.scroll_into_view_if_needed()
    assert seen(root.locator('.tqn-stage')) and seen(root.locator('.tqn-lane').last)

def test_no_complaint_and_no_request_left_the_page(opened):
    nb, kernel = opened
    kernel.run('viewer.close(); second.close()')
    nb.page.wait_for_timeout(300)
    assert nb.page.locator('.tqn-viewer').count() == 0, 'a viewer outlives its widget'
    assert nb.page.evaluate("[...document.querySelectorAll('video')].filter(v => v.src).length") == 0
    assert nb.strangers() == []
    assert [e for e in nb.errors if not KNOWN.search(e)] == []
