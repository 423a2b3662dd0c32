"""The viewer in a real browser, from a file: no server, no kernel, no network. Every frame of its film carries its number in black and white, so a test sees what is really shown."""
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
import av
import numpy as np
import pytest
import torch
from tqn.attention.answer import Answer
from tqn.widgets.viewer import page, save_page
from tqn.widgets.lanes import shown_maps, view_data
from tqn.attention.figure import PALETTE, pool_max
from tqn.video.video import Video, write_video

BITS, N, CLIP = 10, 242, 8
EVIL = '<img src=x onerror="globalThis.broken=1"></script><script>globalThis.broken=1</script>'
KERNEL = (Path(__file__).parent/'kernel.js').read_text()


def numbered(n):
    "Frames that show their own number as ten black and white squares, lowest bit first"
    for i in range(n):
        f = np.empty((80, 160, 3), np.uint8)
        f[:] = 90, 120, 150
        f[40:, i*3 % 150:i*3 % 150 + 10] = 240, 200, 60
        for b in range(BITS): f[:32, 16*b:16*b + 16] = 255*(i >> b & 1)
        yield f

def film_data(folder, name='dive.mp4'):
    "A numbered film, with made-up answers and sharp attention"
    path = folder/name
    write_video(path, numbered(N), fps=25)
    video, g = Video(path), torch.Generator().manual_seed(3)
    clips = -(-N//CLIP)
    frames = np.stack([np.arange(clips)*CLIP, np.minimum(np.arange(clips)*CLIP + CLIP, N)], -1)
    edge = np.append(video.timestamps, video.timestamps[-1] + 1/25)
    names = ['takeoff', 'somersault', 'twist', EVIL, 'class']
    answers = {q: [('Back', .6 - .05*i), ('Forward', .3), (f'{EVIL} 2', .1 + .05*i)] for i, q in enumerate(names)}
    attn = (5*torch.randn(3, 2, 5, clips, generator=g)).softmax(-1)
    own = torch.full((3, 2, 5, 5), .2)
    answer = Answer('dive.mp4', answers, names, attn, frames, edge[frames], own, reading='query')
    return view_data(answer, video, truth={'takeoff': 'Back', 'twist': 'Forward'}, extents={'takeoff': (20, 60), 'twist': (100, 180)}, progress=False)

DATA = None  # what the open pages show

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    global DATA
    DATA = film_data(tmp_path_factory.mktemp('film'))
    return DATA


class Page:
    "A page opened from a file, and what it asked for and complained about"
    def __init__(self, browser, path, wait='ready', **context):
        self.context = browser.new_context(**{'viewport': dict(width=1200, height=1000), **context})
        self.page, self.requests, self.errors = self.context.new_page(), [], []
        self.page.on('request', lambda r: self.requests.append(r.url))
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: self.errors.append(m.text) if m.type in ('error', 'warning') and 'willReadFrequently' not in m.text else None)  # the tests read pixels
        self.page.goto(f'file://{path}')
        if wait: self.page.wait_for_selector(f'.tqn-viewer[data-ready="1"][data-video={wait}]', timeout=60_000)
        self.root = self.page.locator('.tqn-viewer').first

    def data(self, name): return self.root.get_attribute(f'data-{name}')

    def shown(self, frame, seconds=60):
        "Wait until the decoder shows a frame, then read its number off the picture"
        self.page.wait_for_selector(f'.tqn-viewer[data-frame="{frame}"][data-shown="{frame}"]', timeout=1000*seconds)
        assert self.number('.tqn-video') == frame

    def number(self, selector):
        "What number a video or a canvas shows"
        return self.page.locator(selector).first.evaluate(f"""e => {{
            const c = document.createElement('canvas'); c.width = 160; c.height = 80
            const g = c.getContext('2d', {{willReadFrequently: true}}); g.drawImage(e, 0, 0, 160, 80)
            let n = 0
            for (let b = 0; b < {BITS}; b++) if (g.getImageData(16 * b + 8, 12, 1, 1).data[1] > 128) n += 1 << b
            return n }}""")

    def lane(self, name): return self.page.locator('.tqn-lane').nth([q['name'] for q in DATA.meta['questions']].index(name))

    def at(self, locator, share):
        "The point of an element at a share of its width"
        locator.scroll_into_view_if_needed()
        b = locator.bounding_box()
        return b['x'] + share*b['width'], b['y'] + b['height']/2

    def heights(self, name, dark=False):
        "How high each column of a lane's canvas is filled with colours of the ramp, and the canvas' height; lanes without evidence"
        return self.lane(name).locator('canvas').evaluate("""c => {
            const {width: W, height: H} = c, d = c.getContext('2d').getImageData(0, 0, W, H).data, out = []
            for (let x = 0; x < W; x++) { let n = 0; for (let y = H - 1; y >= 0 && d[4 * (y * W + x) + 3] === 255; y--) n++; out.push(n) }
            return [out, H] }""")

    def until(self, script, seconds=60):
        "Wait for a condition; the page's own policy forbids playwright's way, which evaluates text"
        end = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < end, script
            self.page.wait_for_timeout(30)

    def drag(self, name, a, b):
        "Drag along a lane, from one share of its width to another"
        lane = self.lane(name).locator('canvas')
        (x, y), (x1, _) = self.at(lane, a), self.at(lane, b)
        self.page.mouse.move(x, y); self.page.mouse.down(); self.page.mouse.move((x + x1)/2, y); self.page.mouse.move(x1, y); self.page.mouse.up()

    def close(self): self.context.close()

@pytest.fixture
def opened(browser):
    "Opens pages, and closes them"
    all_ = []
    def open_one(*args, **kw):
        all_.append(Page(browser, *args, **kw))
        return all_[-1]
    yield open_one
    for p in all_: p.close()

@pytest.fixture(scope='module')
def saved(data, tmp_path_factory): return save_page(data, tmp_path_factory.mktemp('page')/'view.html')

def harness(data, path, n=1, kernel=True):
    "The page with a made-up kernel behind each of n viewers"
    text = page(data)
    if kernel: text = text.replace('"has_kernel": false', '"has_kernel": true')
    text = text.replace('<main class="tqn-page"></main>', '<main class="tqn-page"></main>'*n)
    path.write_text(text.replace('\nopen(document, render)\n', '\n' + KERNEL + '\n'))
    return path


# ---- the saved page

def test_opens_with_nothing_but_itself(opened, saved, shots):
    p = opened(saved)
    p.shown(0)
    assert p.requests[0] == f'file://{saved}' and all(r.startswith(('blob:', 'data:')) for r in p.requests[1:]), p.requests
    assert p.errors == []
    assert p.page.evaluate('globalThis.broken') is None, 'a name became markup'
    assert EVIL in p.page.locator('.tqn-lanes').text_content()
    p.page.screenshot(path=str(shots/'page_light.png'), full_page=True)

def test_frames_are_exact_by_key_and_click(opened, saved):
    p = opened(saved)
    p.lane('takeoff').focus()
    for key, frame in [('ArrowRight', 1), ('ArrowRight', 2), ('ArrowLeft', 1), ('Shift+ArrowRight', 8), ('Shift+ArrowRight', 16), ('ArrowRight', 17), ('Shift+ArrowLeft', 16),
                       ('Shift+ArrowLeft', 8), ('End', N - 1), ('ArrowRight', N - 1), ('Home', 0)]:
        p.page.keyboard.press(key)
        p.shown(frame)
    for share in (.1, .5, .83, .999):
        x, y = p.at(p.page.locator('.tqn-filmrow canvas'), share)
        b = p.page.locator('.tqn-filmrow canvas').bounding_box()
        p.page.mouse.click(x, y)
        p.shown(min(N - 1, int((x - b['x'])/b['width']*N)))
        assert p.page.locator('.tqn-clock').text_content().split('frame ')[1].startswith(f"{p.data('frame')} of {N - 1}")
    maps = shown_maps(DATA.answer)
    p.lane('twist').click(position=dict(x=20, y=20))
    p.page.keyboard.press('Home')
    seen = []
    for _ in range(3):
        p.page.keyboard.press('n')
        p.page.wait_for_timeout(150)
        seen.append(int(p.data('frame'))//CLIP)
    high = [c for c in range(len(maps['twist'])) if maps['twist'][c] >= maps['twist'].max()/4 and maps['twist'][c] == maps['twist'][max(0, c - 1):c + 2].max() and c > 0]
    assert seen == high[:3]
    p.page.keyboard.press('p')
    p.shown(seen[-2]*CLIP + 4)

def test_plays_at_every_speed_and_stops(opened, saved):
    p = opened(saved)
    p.page.get_by_label('Speed').select_option('4×')
    p.lane('takeoff').focus()
    p.page.keyboard.press(' ')
    p.until("document.querySelector('.tqn-viewer').dataset.shown > 30")
    assert p.page.locator('.tqn-video').evaluate('v => [v.paused, v.playbackRate]') == [False, 4]
    p.page.keyboard.press(' ')
    p.page.wait_for_timeout(200)
    p.shown(int(p.data('frame')))
    p.page.get_by_label('Speed').select_option('0.1×')
    assert p.page.locator('.tqn-video').evaluate('v => v.playbackRate') == pytest.approx(.1)
    p.page.get_by_label('Speed').select_option('4×')
    p.page.keyboard.press('End')
    p.lane('takeoff').focus()
    p.page.keyboard.press(' ')                      # at the end: from the beginning, and stops by itself
    p.until(f"document.querySelector('.tqn-viewer').dataset.frame == {N - 1} && !document.querySelector('.is-playing')")
    assert p.page.get_by_role('button', name='Play').count() == 1 and p.errors == []

CHOICES = [(('mean', 'mean', 'attention', 'each lane'), (-1, -1, 'attn')), (('1', '0', 'attention', 'each lane'), (1, 0, 'attn')),
           (('mean', 'max', 'attention', 'shared'), (-1, -2, 'attn')), (('mean', 'mean', 'rollout', 'shared'), (-1, -1, 'rollout'))]

def test_lanes_show_the_numbers(opened, saved):
    p = opened(saved)
    for options, chosen in CHOICES:
        p.page.get_by_label('Show', exact=True).select_option('attention')
        for label, option in zip(('Layer', 'Head', 'Show', 'Scale'), options): p.page.get_by_label(label, exact=True).select_option(option)
        p.page.wait_for_timeout(200)
        maps = shown_maps(DATA.answer, *chosen)
        top = max(a.max() for a in maps.values()) if options[3] == 'shared' else None
        for name in ('somersault', 'class'):
            (got, H), a = p.heights(name), maps[name]
            want = pool_max(a, np.append(np.arange(len(a))*CLIP, N)/25, len(got))/(top or a.max())
            wrong = np.abs(np.array(got) - np.maximum(want*(H - 4), 1)) > 1.5
            assert wrong.mean() < .02, (options, name, wrong.sum(), len(got))
            assert abs(max(got) - want.max()*(H - 4)) <= 1.5, (options, name)

def test_a_flat_lane_is_pale_and_the_legend_says_why(opened, data, tmp_path):
    "Height is relative to a lane's peak, colour is not: uniform attention cannot pass for a decision"
    attn = np.full((3, 2, 5, 31), 1/31, np.float32)
    attn[:, :, 1] = np.eye(31, dtype=np.float32)[20]
    flat = replace(data, attn=attn.tobytes(), film=None, source=None, meta={**data.meta, 'attn_dtype': 'float32'})
    p = opened(save_page(flat, tmp_path/'flat.html'), wait='none')
    def darkest(name):
        "The mean of the darkest column's lowest pixel"
        return p.lane(name).locator('canvas').evaluate("""c => { const {width: W, height: H} = c, d = c.getContext('2d').getImageData(0, H - 2, W, 1).data
            return Math.min(...Array.from({length: W}, (_, x) => d[4*x + 3] < 255 ? 255 : (d[4*x] + d[4*x + 1] + d[4*x + 2])/3)) }""")
    (tall, H), tones = p.heights('class'), [sum(bytes.fromhex(c[1:]))/3 for c in PALETTE['light']['tones']]
    assert min(tall) >= H - 5, 'a flat lane is as high as any'
    assert abs(darkest('class') - tones[0]) < 2 and abs(darkest('somersault') - tones[-1]) < 2
    legend = p.page.get_by_label('Legend').inner_text()
    assert all(o in legend for o in ('times uniform 1×', '16×', 'uniform', 'evidence')) and 'hidden from the model' not in legend, 'nothing can be hidden here'
    about = p.page.get_by_text('attention followed through all layers')
    assert about.is_hidden()
    p.page.get_by_label('Show', exact=True).hover()
    assert about.is_visible() and 'through all layers' in p.page.get_by_label('Show', exact=True).get_attribute('aria-description')

def test_hover_gives_the_number_and_the_frame(opened, saved):
    p = opened(saved)
    a = shown_maps(DATA.answer)['somersault']
    c = int(a.argmax())
    x, y = p.at(p.lane('somersault').locator('canvas'), (c*CLIP + 4.5)/N)  # inside a frame, not between two
    p.page.mouse.move(x, y)
    text = p.page.locator('.tqn-tip').inner_text()
    assert f'clip {c}, frames {c*CLIP}–{c*CLIP + 7}' in text and f'{c*CLIP/25:.2f} s – {(c + 1)*CLIP/25:.2f} s' in text
    assert float(text.split()[0]) == pytest.approx(float(a[c]), abs=6e-4)
    frame = int((x - p.page.locator('.tqn-filmrow canvas').bounding_box()['x'])/p.page.locator('.tqn-filmrow canvas').bounding_box()['width']*N)
    p.page.wait_for_selector(f'.tqn-viewer[data-preview="{frame}"]', timeout=40_000)
    assert p.data('frame') == '0', 'hovering does not seek'
    p.page.mouse.move(5, 5)
    assert p.page.locator('.tqn-tip').is_hidden()

def test_orders_lanes_table_and_help(opened, saved, shots):
    p = opened(saved)
    names = lambda: p.page.locator('.tqn-lane').evaluate_all('e => e.map(x => x.dataset.name)')
    maps = shown_maps(DATA.answer)
    p.page.get_by_label('Order').select_option('time of peak')
    assert names() == sorted(maps, key=lambda q: (maps[q].argmax(), list(maps).index(q)))
    p.page.get_by_label('Order').select_option('as given')
    p.lane('takeoff').focus()
    p.page.keyboard.press('ArrowDown')
    assert p.page.evaluate('document.activeElement.dataset.name') == 'somersault'
    assert p.page.locator('[aria-selected=true]').get_attribute('data-name') == 'somersault' and p.page.locator('.tqn-detail strong').text_content() == 'somersault'
    p.page.keyboard.press('t')
    cells = p.page.locator('.tqn-panel tbody tr:nth-child(2) td').all_text_contents()
    assert cells[:4] == ['0', '0–7', '0.00 s', '0.32 s'] and float(cells[4]) == pytest.approx(float(maps['takeoff'][0]), rel=.01, abs=1e-6)
    with p.page.expect_download() as got: p.page.get_by_label('Save as CSV').click()
    rows = Path(got.value.path()).read_text().splitlines()
    assert len(rows) == len(maps['twist']) + 1 and float(rows[3].split(',')[5]) == pytest.approx(float(maps['takeoff'][2]), rel=1e-5)
    p.page.screenshot(path=str(shots/'page_table.png'), full_page=True)
    p.page.keyboard.press('Escape')
    assert p.page.locator('.tqn-panel').is_hidden()
    p.page.keyboard.press('?')
    assert 'play or pause' in p.page.locator('.tqn-panel').inner_text()

def test_no_kernel_offers_no_what_if(opened, saved):
    p = opened(saved)
    assert p.page.get_by_text('Curves').count() == 0
    p.drag('twist', .3, .6)
    pop = p.page.locator('.tqn-pop')
    assert '% of the attention of twist' in pop.inner_text() and pop.get_by_text('Hide').count() == 0
    pop.get_by_text('Zoom').click()
    p.page.get_by_label('Show the whole film').wait_for()
    box = p.page.locator('.tqn-filmrow canvas').bounding_box()
    p.page.mouse.click(box['x'] + 1, box['y'] + 20)
    assert abs(int(p.data('frame')) - .3*N) <= CLIP, 'the axis begins where the range did'

def test_dark_and_narrow(opened, saved, shots):
    p = opened(saved)
    for look in ('dark', 'narrow_dark', 'narrow'):
        p.page.set_viewport_size(dict(width=400 if 'narrow' in look else 1200, height=900))
        p.page.emulate_media(color_scheme='dark' if 'dark' in look else 'light')
        p.page.wait_for_timeout(250)
        assert p.root.evaluate("e => e.classList.contains('is-dark')") == ('dark' in look)
        assert p.page.evaluate('document.documentElement.scrollWidth <= innerWidth'), f'{look}: wider than the window'
        over = p.root.evaluate("""r => [...r.querySelectorAll('*')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > r.getBoundingClientRect().right + 1).map(e => e.className)""")
        assert over == [], f'{look}: hangs over the edge'
        p.page.mouse.click(*p.at(p.lane('class').locator('canvas'), .5))
        p.shown(int(p.data('frame')))
        p.page.mouse.move(1, 1)
        p.page.screenshot(path=str(shots/f'page_{look}.png'), full_page=True)

def test_can_be_used_without_seeing_it(opened, saved):
    p = opened(saved)
    unnamed = p.page.locator('.tqn-viewer').evaluate("""r => [...r.querySelectorAll('button, select, [role=slider], [role=option], [role=listbox], [role=group], [role=region]')]
        .filter(e => !e.closest('[hidden]') && !(e.getAttribute('aria-label') ?? '').trim()).map(e => e.outerHTML.slice(0, 80))""")
    assert unnamed == []
    p.lane('twist').focus(); p.page.keyboard.press('t')
    unlike = p.root.evaluate("""r => [...r.querySelectorAll('button')].filter(b => b.textContent.trim() && !b.closest('[hidden]') && b.className !== 'tqn-moment'
        && !b.getAttribute('aria-label').toLowerCase().includes(b.textContent.trim().toLowerCase())).map(b => [b.textContent, b.getAttribute('aria-label')])""")
    assert unlike == [], 'what is read aloud holds what is written, so that it can be said'
    p.page.keyboard.press('Escape')
    p.page.emulate_media(forced_colors='active')
    colours = p.root.evaluate("r => ['.tqn-playhead', '.tqn-best .tqn-gauge div', '.tqn-tones'].map(s => getComputedStyle(r.querySelector(s))).map(c => c.backgroundImage + c.backgroundColor)")
    assert colours[0].endswith('rgb(214, 60, 0)') and colours[1].endswith('rgb(21, 90, 138)') and 'linear-gradient' in colours[2], colours
    p.page.emulate_media(forced_colors='none')
    label = p.lane('twist').get_attribute('aria-label')
    assert 'twist: Back, probability 0.50, wrong, truth: Forward, attention peaks at' in label
    assert p.lane('takeoff').locator('.tqn-mark').text_content() == '✓' and p.lane('twist').locator('.tqn-mark').text_content() == '✗'
    slider = p.page.get_by_role('slider')
    slider.focus()
    p.page.keyboard.press('ArrowRight')
    assert slider.get_attribute('aria-valuenow') == '1' and slider.get_attribute('aria-valuetext') == 'frame 1, 0.04 s, clip 0'
    assert p.page.locator('.tqn-live').text_content() == 'frame 1, 0.04 s, clip 0'
    p.page.keyboard.press('Tab')
    outline = p.page.evaluate("getComputedStyle(document.activeElement).outlineStyle + ' ' + parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
    assert outline == 'solid 2', 'the focus is seen'

@pytest.mark.parametrize('broken, text', [
    (dict(attn=b''), 'No attention was captured'), (dict(error='the film is gone'), 'the film is gone'),
    (dict(times=b'\0'*8), f'times for 1 frames, but {N} were expected'), (dict(meta=dict(n_frames=0)), 'no frames')])
def test_says_what_is_wrong(opened, data, tmp_path, broken, text):
    meta = {**data.meta, **broken.pop('meta', {})}
    path = tmp_path/'broken.html'
    path.write_text(page(replace(data, meta=meta, **broken)))
    p = opened(path, wait=None)
    assert text in p.page.get_by_role('alert').inner_text() and p.errors == []

def test_features_alone_play_as_a_clock(opened, data, tmp_path):
    path = save_page(replace(data, film=None, source=None, strip=b'', strip_times=b''), tmp_path/'lanes.html')
    p = opened(path, wait='none')
    p.page.get_by_label('Speed').select_option('4×')
    p.page.get_by_role('button', name='Play').click()
    p.until("document.querySelector('.tqn-viewer').dataset.frame > 20")
    assert p.page.locator('.tqn-stage').is_hidden() and p.errors == []


# ---- with a kernel, made up

def test_what_if_is_live_and_can_be_undone(opened, data, tmp_path, shots):
    p = opened(harness(data, tmp_path/'kernel.html'))
    first = lambda: p.lane('takeoff').locator('.tqn-first').inner_text().split()
    sent = lambda kind='whatif': p.page.evaluate(f"world.sent.filter(m => m.type === '{kind}')")
    lane = p.lane('twist').locator('canvas')
    p.page.mouse.move(*p.at(lane, .25)); p.page.mouse.down(); p.page.mouse.move(*p.at(lane, .4)); p.page.wait_for_timeout(250)
    assert first()[0] == 'Forward', 'answers change while the range is drawn'
    p.page.mouse.move(*p.at(lane, .5)); p.page.mouse.up()
    p.page.locator('.tqn-pop').get_by_text('Hide').click()
    p.until("document.querySelector('.tqn-what').textContent.includes('answers change')")
    a, b = p.page.evaluate("world.models[0].get('hidden')")[0]
    assert (a, b) == (int(.25*N)//CLIP, int(.5*N)//CLIP + 1) and sent()[-1]['hidden'] == [[a, b]] and sent()[-1]['keep'] is False
    assert first() == ['Forward', f'{.6 - (b - a)/100:.2f}'] and 'was Back 0.60' in p.lane('takeoff').inner_text()
    assert p.lane('somersault').locator('.tqn-second').text_content() == f'−{(b - a)/100:.2f}'
    assert 'Without' in p.page.locator('.tqn-what').inner_text() and f'frames {a*CLIP}–{b*CLIP - 1}' in p.page.locator('.tqn-what').inner_text()
    veil = p.page.locator('.tqn-hidden').bounding_box()
    strip = p.page.locator('.tqn-filmrow canvas').bounding_box()
    assert abs(veil['x'] - strip['x'] - a*CLIP/N*strip['width']) < 2 and abs(veil['width'] - (b - a)*CLIP/N*strip['width']) < 2
    p.page.screenshot(path=str(shots/'page_what_if.png'), full_page=True)
    p.lane('twist').focus()
    p.page.keyboard.press('k')                       # keep only the clip at the play head
    p.until("world.models[0].get('keep') === true")
    assert p.page.evaluate("world.models[0].get('hidden')") == [[0, 1]] and p.page.locator('.tqn-hidden').count() == 1
    p.page.keyboard.press('u')
    assert p.page.evaluate("[world.models[0].get('keep'), world.models[0].get('hidden')]") == [False, [[a, b]]]
    assert p.page.locator('.tqn-live').text_content() == '1 of 5 answers changes'
    p.page.get_by_role('button', name='Show all to the model').click()
    p.until("!document.querySelector('.tqn-hidden')")
    assert first() == ['Back', '0.60']
    assert p.page.locator('.tqn-what').is_hidden() and p.page.evaluate('document.activeElement.className').startswith('tqn-viewer'), 'keys still work'
    p.page.keyboard.press('Escape')
    p.page.evaluate("world.models[0].set('hidden', [[0, 31]])")  # Python may set it, too
    p.until("document.querySelector('.tqn-trouble').textContent.includes('leave at least one clip')")
    assert p.errors == []

def test_anamorphic_films_are_shown_as_wide_as_they_are(opened, tmp_path):
    "Pixels twice as wide as high: film, strip and small pictures agree, in the film itself and in a copy of it"
    for name in ('wide.mp4', 'wide.mkv'):
        with av.open(str(tmp_path/name), 'w') as f:
            s = f.add_stream('libx264', rate=25)
            s.width, s.height, s.pix_fmt, s.codec_context.sample_aspect_ratio = 96, 96, 'yuv420p', Fraction(2)
            for _ in range(16): f.mux(s.encode(av.VideoFrame.from_ndarray(np.full((96, 96, 3), 90, np.uint8), format='rgb24')))
            f.mux(s.encode())
        frames = np.array([[0, 8], [8, 16]])
        answer = Answer(name, {'q': [('yes', .9), ('no', .1)]}, ['q'], torch.tensor([[[[.3, .7]]]]), frames, frames/25)
        data = view_data(answer, Video(tmp_path/name), progress=False)
        assert bool(data.film.reason) == name.endswith('mkv') and data.film.size == (96, 192) and tuple(data.answer.thumbs.shape[1:3]) == (80, 160)
        p = opened(save_page(data, tmp_path/f'{name}.html'))
        film = p.page.locator('.tqn-video').evaluate('v => v.videoWidth/v.videoHeight')
        stage, moment = (p.page.locator(o).first.bounding_box() for o in ('.tqn-stage', '.tqn-moment canvas'))
        assert abs(film - 2) < .02 and abs(stage['width']/stage['height'] - 2) < .05 and moment['width']/moment['height'] > 1.7, (film, stage, moment)
        assert p.errors == []

@pytest.mark.parametrize('width', [1280, 700, 460, 380])
def test_hide_can_be_clicked_on_every_lane(opened, data, tmp_path, shots, width):
    "The popover lies inside the viewer and over nothing that it needs, at any width (460: 700 pixels at 150%) and lane"
    p = opened(harness(data, tmp_path/'kernel.html'))
    p.page.set_viewport_size(dict(width=width, height=900))
    p.page.wait_for_timeout(300)
    names = [q['name'] for q in data.meta['questions']]
    for name in names:
        for a, b in ((.02, .1), (.9, .99)):
            lane = p.lane(name).locator('canvas')
            lane.scroll_into_view_if_needed()
            p.page.mouse.move(*p.at(lane, a)); p.page.mouse.down(); p.page.mouse.move(*p.at(lane, (a + b)/2)); p.page.mouse.move(*p.at(lane, b)); p.page.mouse.up()
            pop, root = (p.page.locator(f'.tqn-{o}').bounding_box() for o in ('pop', 'viewer'))
            assert pop['x'] >= root['x'] and pop['y'] >= root['y'] and pop['x'] + pop['width'] <= root['x'] + root['width'] and pop['y'] + pop['height'] <= root['y'] + root['height'], (name, a)
            if (name, a) == (names[-1], .9): p.page.screenshot(path=str(shots/f'page_popover_{width}.png'), full_page=True)
            p.page.locator('.tqn-pop').get_by_role('button', name='Hide from the model').click(timeout=3000)
            p.until("document.querySelector('.tqn-what').textContent.includes('answers change')")
            p.page.get_by_role('button', name='Show all to the model').click()
    assert p.errors == []

def test_a_preview_says_so_and_counts_against_what_is_hidden(opened, data, tmp_path):
    p = opened(harness(data, tmp_path/'kernel.html'))
    lane, what, pop = p.lane('twist').locator('canvas'), p.page.locator('.tqn-what'), p.page.locator('.tqn-pop')
    def choose(a, b):
        p.page.mouse.move(*p.at(lane, a)); p.page.mouse.down(); p.page.mouse.move(*p.at(lane, (a + b)/2)); p.page.mouse.move(*p.at(lane, b)); p.page.mouse.up()
    choose(.1, .2)
    p.until("document.querySelector('.tqn-pop').textContent.includes('Preview: hidden, 1 of 5 answers changes')")
    assert 'Preview: hidden, 1 of 5' in what.inner_text() and 'Without' not in what.inner_text() and p.page.evaluate("world.models[0].get('hidden')") in (None, [])
    pop.get_by_role('button', name='Hide from the model').click()
    p.until("document.querySelector('.tqn-what').textContent.includes('1 of 5 answers changes')")
    assert 'Preview' not in what.inner_text()
    choose(.6, .7)                                   # the first answer has changed already: this range changes none
    p.until("document.querySelector('.tqn-pop').textContent.includes('Preview: hidden as well, 0 of 5 answers change')")
    assert 'Without' in what.inner_text() and '1 of 5 answers changes' in what.inner_text()
    assert not p.page.locator('.tqn-lane.is-changed').count()
    p.page.keyboard.press('Escape')
    assert 'Preview' not in what.inner_text() and p.page.locator('.tqn-lane.is-changed').count() == 1 and 'was Back' in p.lane('takeoff').inner_text()
    assert p.errors == []

def test_lanes_show_where_each_query_looks_now(opened, data, tmp_path, shots):
    "After hiding: the new bars, those before as ghosts, peaks and table of the new ones; all as before when nothing is hidden"
    p = opened(harness(data, tmp_path/'kernel.html'))
    p.page.evaluate('world.maps = true')
    before, clips = p.heights('somersault')[0], 31
    p.drag('somersault', .3, .4)
    p.page.locator('.tqn-pop').get_by_role('button', name='Hide from the model').click()
    p.until("document.querySelector('.tqn-what').textContent.includes('answers change')")
    p.page.wait_for_timeout(200)
    (now, H), W = p.heights('somersault'), len(before)
    assert max(now[:int(.9*W)]) < H/3 and now[W - 5] > .8*H, 'it does not show the map that came'
    pixels = p.lane('somersault').locator('canvas').evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)")
    assert sum(0 < a < 255 for a in pixels) > .3*sum(max(0, b - 4) for b in before), 'no ghosts'
    seen = p.page.evaluate("world.models[0].get('hidden')")[0]
    top = .5*(clips - seen[1] + seen[0])
    assert f'peak {top:.0f}×' in p.lane('somersault').inner_text(), 'times uniform among the clips that are seen'
    assert 'attention before' in p.page.get_by_label('Legend').inner_text()
    p.page.screenshot(path=str(shots/'page_ghosts.png'), full_page=True)
    p.page.get_by_role('button', name='Show all to the model').click()
    p.page.wait_for_timeout(200)
    assert p.heights('somersault')[0] == before and p.errors == []

def many(data, n):
    "The same film with n questions"
    g = torch.Generator().manual_seed(5)
    attn = (5*torch.randn(3, 2, n, 31, generator=g)).softmax(-1)
    questions = [{**data.meta['questions'][i % 4], 'name': f'question {i}'} for i in range(n)]
    return replace(data, attn=attn.numpy().tobytes(), rollout=b'', meta={**data.meta, 'attn_dtype': 'float32', 'has_rollout': False, 'questions': questions})

@pytest.mark.parametrize('n, least', [(7, 7), (13, 9)])
def test_film_controls_and_lanes_fit_a_small_screen(opened, data, tmp_path, shots, n, least):
    "At 1366 x 768 film, controls and seven lanes are in sight; of thirteen at least nine, and the film stays while the rest scrolls"
    p = opened(save_page(many(data, n), tmp_path/'many.html'), viewport=dict(width=1366, height=768))
    p.page.wait_for_timeout(200)
    inside = lambda l: (b := l.bounding_box()) and b['y'] >= 0 and b['y'] + b['height'] <= 768 and b['height'] > 0
    assert all(inside(p.page.locator(o).first) for o in ('.tqn-stage', '.tqn-transport', '.tqn-filmrow canvas', '.tqn-axis canvas', '.tqn-legend'))
    assert p.page.locator('.tqn-stage').bounding_box()['height'] >= 170
    view = p.page.locator('.tqn-rows').bounding_box()
    shown = sum(inside(p.page.locator('.tqn-lane').nth(i)) and p.page.locator('.tqn-lane').nth(i).bounding_box()['y'] + 20 < view['y'] + view['height'] for i in range(n))
    assert shown >= least and all(20 <= p.page.locator('.tqn-lane canvas').nth(i).bounding_box()['height'] <= 36 for i in range(n))
    p.page.screenshot(path=str(shots/f'page_{n}_lanes.png'))
    p.page.get_by_label('Lanes').select_option('tall')
    p.page.wait_for_timeout(100)
    p.page.locator('.tqn-lane').last.scroll_into_view_if_needed()
    assert inside(p.page.locator('.tqn-stage')) and inside(p.page.locator('.tqn-lane').last) and inside(p.page.locator('.tqn-filmrow canvas'))
    split = p.page.get_by_role('separator')
    high = p.page.locator('.tqn-stage').bounding_box()['height']
    split.focus(); p.page.keyboard.press('ArrowUp'); p.page.keyboard.press('ArrowUp')
    assert abs(p.page.locator('.tqn-stage').bounding_box()['height'] - (high - 40)) <= 1 and p.page.evaluate("+document.querySelector('[role=separator]').getAttribute('aria-valuenow')") == round(high - 40)
    b = split.bounding_box()
    p.page.mouse.move(b['x'] + 50, b['y'] + 4); p.page.mouse.down(); p.page.mouse.move(b['x'] + 50, b['y'] + 64); p.page.mouse.up()
    assert abs(p.page.locator('.tqn-stage').bounding_box()['height'] - (high + 20)) <= 2
    split.focus(); p.page.keyboard.press('Enter')
    assert abs(p.page.locator('.tqn-stage').bounding_box()['height'] - high) <= 1 and p.errors == []

def test_questions_are_found_pinned_and_collapsed(opened, data, tmp_path):
    p = opened(save_page(many(data, 13), tmp_path/'many.html'))
    names = lambda: p.page.locator('.tqn-lane').evaluate_all('e => e.map(x => x.dataset.name.slice(9))')
    p.page.get_by_label('Find a question').fill('ion 1')
    assert names() == ['1', '10', '11', '12']
    p.page.keyboard.press('t')                       # a letter for the field, not a key
    assert p.page.locator('.tqn-panel').is_hidden() and names() == [] and p.page.get_by_text('No question holds this text').is_visible()
    p.page.keyboard.press('Escape')
    assert len(names()) == 13
    p.page.locator('.tqn-lane').nth(11).focus()
    p.page.keyboard.press('i')
    assert names()[:2] == ['11', '0'] and p.page.locator('.tqn-live').text_content() == 'question 11 pinned'
    p.page.get_by_label('Lanes').select_option('tall')
    p.page.set_viewport_size(dict(width=1200, height=640))
    p.page.wait_for_timeout(200)
    p.page.locator('.tqn-lane').last.scroll_into_view_if_needed()
    top, film = p.page.locator('.tqn-lane').first.bounding_box(), p.page.locator('.tqn-filmrow').bounding_box()
    assert abs(top['y'] - film['y'] - film['height']) <= 1, 'a pinned lane stays below the film strip'
    p.page.locator('.tqn-lane').nth(3).focus()
    high = p.page.locator('.tqn-lane').nth(3).bounding_box()['height']
    p.page.get_by_role('button', name='Collapse this lane').click()
    assert p.page.locator('.tqn-lane').nth(3).bounding_box()['height'] < high/2
    p.page.get_by_role('button', name='Collapse this lane').click()
    assert p.page.locator('.tqn-lane').nth(3).bounding_box()['height'] == high and p.errors == []

def test_zoom_go_and_loop(opened, saved):
    p = opened(saved)
    assert p.page.get_by_label('Part of the film on show').is_hidden()
    p.page.get_by_role('button', name='Zoom in').click(); p.page.get_by_role('button', name='Zoom in').click()
    bar = p.page.get_by_role('scrollbar')
    def view():
        p.page.wait_for_timeout(80)
        return [float(o) for o in p.page.locator('.tqn-thumb').evaluate('e => [e.style.left, e.style.width].map(parseFloat)')]
    assert view() == pytest.approx([0, 25], abs=.6)
    b = bar.bounding_box()
    p.page.mouse.move(b['x'] + .1*b['width'], b['y'] + 5); p.page.mouse.down(); p.page.mouse.move(b['x'] + .4*b['width'], b['y'] + 5); p.page.mouse.up()
    assert view() == pytest.approx([30, 25], abs=.6)
    p.page.mouse.click(b['x'] + .9*b['width'], b['y'] + 5)
    assert view() == pytest.approx([75, 25], abs=3)
    bar.focus(); p.page.keyboard.press('Home')
    assert view()[0] == 0
    p.page.get_by_role('button', name='Show the whole film').click()
    assert bar.is_hidden()
    for text, frame in (('2.0', 50), ('0:04.8', 120), ('f137', 137), ('c3', 24), ('9:00', N - 1)):
        p.lane('takeoff').focus(); p.page.keyboard.press('g'); p.page.keyboard.type(text); p.page.keyboard.press('Enter')
        p.shown(frame)
    p.page.keyboard.press('g'); p.page.keyboard.type('soon'); p.page.keyboard.press('Enter')
    assert 'such as 4.8' in p.page.locator('.tqn-live').text_content() and p.data('frame') == str(N - 1)
    p.drag('twist', .2, .3)
    p.page.get_by_label('Speed').select_option('4×')
    p.page.locator('.tqn-pop').get_by_role('button', name='Loop this range').click()
    a, b = int(.2*N)//CLIP*CLIP, (int(.3*N)//CLIP + 1)*CLIP
    went = []
    for _ in range(60): went.append(int(p.data('frame'))); p.page.wait_for_timeout(25)
    assert a <= min(went) and max(went) < b + 4 and any(y < x for x, y in zip(went, went[1:])), (a, b, went)
    p.lane('twist').focus(); p.page.keyboard.press('l'); p.page.keyboard.press(' ')
    assert 'Loop' not in p.page.locator('.tqn-what').inner_text() and p.errors == []

def test_a_grid_of_layers_and_heads(opened, saved, shots):
    p = opened(saved)
    p.lane('somersault').focus()
    p.page.keyboard.press('m')
    cells = p.page.locator('.tqn-cell')
    assert cells.count() == (3 + 1)*(2 + 1)
    for layer, head, name in ((2, 1, 'layer 2, head 1'), (-1, 0, 'mean of layers, head 0'), (-1, -1, 'mean of layers, mean of heads')):
        a = shown_maps(DATA.answer, layer, head)['somersault']
        cell = p.page.get_by_role('button', name=name)
        times = a.max()*len(a)
        assert f'peak {times:.{0 if times >= 9.95 else 1}f}×' in cell.get_attribute('aria-label')
        cell.click()
        assert cell.get_attribute('aria-pressed') == 'true' and p.page.locator('.tqn-cell[aria-pressed=true]').count() == 1
        assert [p.page.get_by_label(o, exact=True).locator('option:checked').text_content() for o in ('Layer', 'Head')] == [str(layer) if layer >= 0 else 'mean', str(head) if head >= 0 else 'mean']
        p.page.wait_for_timeout(100)
        (got, H), want = p.heights('somersault'), pool_max(a, np.append(np.arange(len(a))*CLIP, N)/25, len(p.heights('somersault')[0]))/a.max()
        assert (np.abs(np.array(got) - np.maximum(want*(H - 4), 1)) > 1.5).mean() < .02
    p.page.screenshot(path=str(shots/'page_grid.png'), full_page=True)
    assert p.errors == []

def test_says_which_model_it_was(opened, data, tmp_path):
    told = replace(data, meta={**data.meta, 'origin': 'Model: trained on rendered dives alone (runs/first, 2026-11-26).'})
    p = opened(save_page(told, tmp_path/'told.html'))
    assert 'trained on rendered dives alone (runs/first, 2026-11-26)' in p.page.locator('.tqn-header').inner_text()
    p.page.keyboard.press('Tab')
    p.root.focus(); p.page.keyboard.press('?')
    listed = p.page.locator('.tqn-panel').inner_text()
    assert 'loop the range' in listed and 'hide the range' not in listed and 'deletion' not in listed, 'only keys that work here'

def test_curves_and_a_dead_kernel(opened, data, tmp_path, shots):
    p = opened(harness(data, tmp_path/'kernel.html'))
    p.lane('twist').focus()
    p.page.keyboard.press('d')
    p.page.locator('.tqn-curves polyline').first.wait_for()
    assert 'insertion 0.80' in p.page.locator('.tqn-curves').text_content() and p.page.evaluate('world.sent.at(-1).question') == 2
    p.page.screenshot(path=str(shots/'page_curves.png'), full_page=True)
    p.page.evaluate('world.dead = true')
    p.drag('twist', .2, .3)
    p.page.keyboard.press('h')
    p.page.locator('.tqn-trouble').get_by_text('The kernel has not answered for 5 s').wait_for(timeout=12_000)
    p.page.keyboard.press('End')
    p.shown(N - 1)                                   # the rest works
    p.page.evaluate("world.dead = false; world.models[0].send(world.sent.at(-1))")  # it comes back, late
    p.until("document.querySelector('.tqn-trouble').textContent === ''")
    assert p.lane('takeoff').locator('.tqn-first').inner_text().startswith('Forward') and p.errors == []

def test_two_viewers_and_nothing_left_behind(opened, data, tmp_path):
    p = opened(harness(data, tmp_path/'two.html', 2))
    p.page.wait_for_selector('.tqn-page:nth-of-type(2) .tqn-viewer[data-video=ready]')
    p.page.locator('.tqn-viewer').nth(1).locator('.tqn-lane').first.focus()
    p.page.keyboard.press('End')
    p.page.wait_for_selector(f'.tqn-page:nth-of-type(2) .tqn-viewer[data-shown="{N - 1}"]')
    assert p.data('frame') == '0', 'the other one stays'
    p.page.evaluate("world.models[0].set('layer', 2)")
    p.page.wait_for_timeout(100)
    assert p.page.get_by_label('Layer').first.input_value() == '2' and p.page.get_by_label('Layer').nth(1).input_value() == '-1'
    p.page.evaluate("world.models[0].set('head', -2)")
    p.page.wait_for_timeout(100)
    assert p.page.get_by_label('Head').first.input_value() == '-2'
    assert p.page.evaluate('[world.open.size, world.models[0].count() > 5]') == [2, True]
    for _ in range(3):                               # opened and closed again and again
        p.page.evaluate("world.ends.forEach(f => f()); world.ends = world.models.map((model, i) => render({model, el: document.querySelectorAll('.tqn-page')[i]}))")
        p.page.wait_for_timeout(150)
    p.page.evaluate('world.ends.forEach(f => f())')
    assert p.page.evaluate("[world.open.size, ...world.models.map(m => m.count()), document.querySelectorAll('.tqn-page *').length]") == [0, 0, 0, 0]
    p.page.wait_for_timeout(300)
    assert p.errors == []
