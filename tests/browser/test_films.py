"""The frame that a browser shows after a seek is the frame that the kit decodes: for films sent as they are, for copies and for films in stretches, by their pixels"""
import base64, os, sys
from pathlib import Path
import av, numpy as np, pytest
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from outside import MISSING, VIDEOS
from tqn.widgets.lanes import ViewData, film_part, front_end, playable
from tqn.video.video import FrameFolder, Video, resize, write_video
from tqn.video.decode import VideoError

PAGE = """async ([js, film, mime, times]) => {
  window.lib = await import(URL.createObjectURL(new Blob([js], {type: 'text/javascript'})))
  const bytes = Uint8Array.from(atob(film), c => c.charCodeAt(0)), v = document.createElement('video')
  v.muted = true; v.preload = 'auto'
  document.body.append(v)
  const there = new Promise((good, bad) => { v.onloadeddata = good; v.onerror = () => bad(new Error(v.error.message)) })
  v.src = URL.createObjectURL(new Blob([bytes], {type: mime}))
  await there
  Object.assign(window, {v, times: Float64Array.from(times)})
  return v.duration
}"""
SEEK = """async ([i, w, h]) => {
  const end = times.at(-1) + (times.length > 1 ? times.at(-1) - times.at(-2) : .04), to = lib.seekTime(times, i, end)
  const shown = new Promise(good => v.requestVideoFrameCallback((_, m) => good(m.mediaTime)))
  const still = new Promise(good => { v.onseeked = () => setTimeout(() => good(null), 400) })   // no new picture comes where it is the same
  v.currentTime = to
  const media = await Promise.race([shown, still])
  const c = document.createElement('canvas'); c.width = w; c.height = h
  const g = c.getContext('2d'); g.imageSmoothingQuality = 'high'; g.drawImage(v, 0, 0, w, h)
  return [media == null ? null : lib.frameAt(times, media), Array.from(g.getImageData(0, 0, w, h).data)]
}"""
STRETCHES = """async ([js, pieces, times]) => {
  const lib = await import(URL.createObjectURL(new Blob([js + '\\nexport {makeFilm}'], {type: 'text/javascript'}))), asked = [], off = new AbortController()
  const parts = pieces.map(([m, b]) => [m, [new DataView(Uint8Array.from(atob(b), c => c.charCodeAt(0)).buffer)]])
  const end = times.length > 1 ? 2 * times.at(-1) - times.at(-2) : times[0] + .04, seen = {frames: [], state: '', playing: false}
  let late = 0
  const model = {send: m => { asked.push(m.part); setTimeout(() => film.receive(...parts[m.part]), late) }}
  const film = lib.makeFilm(model, {times: Float64Array.from(times), end, meta: {}},
    {frame: i => seen.frames.push(i), shown() {}, playing: p => { seen.playing = p }, status: (s, text) => { seen.state = s; seen.text = text }}, off.signal)
  document.body.append(film.video, film.spy)
  Object.assign(window, {lib, film, seen, asked, v: film.video, slow: ms => { late = ms }})
  film.load()
}"""
PICTURE = """([e, w, h]) => { const c = document.createElement('canvas'), g = c.getContext('2d'); c.width = w; c.height = h
  g.imageSmoothingQuality = 'high'; g.drawImage(e === 'spy' ? film.spy : film.video, 0, 0, w, h); return Array.from(g.getImageData(0, 0, w, h).data) }"""
W, H = 40, 30

def noise(n, seed=0, size=(96, 128)):
    "Frames that no one takes for each other"
    g = np.random.default_rng(seed)
    return [np.clip(g.integers(0, 255, (6, 8, 3)).repeat(size[0]//6, 0).repeat(size[1]//8, 1), 16, 235).astype('u1') for _ in range(n)]

def encode(path, frames, codec, stamps=None, **options):
    "A film by any codec, with its own timestamps in frames of 1/25 s"
    with av.open(str(path), 'w') as f:
        s = f.add_stream(codec, rate=25, options=options)
        s.height, s.width, s.pix_fmt = *frames[0].shape[:2], 'yuv420p'
        for i, image in enumerate(frames):
            p = av.VideoFrame.from_ndarray(image, format='rgb24')
            p.pts = stamps[i] if stamps else i
            f.mux(s.encode(p))
        f.mux(s.encode())
    return path

def made(name, folder):
    "Films that are awkward in one way each"
    path, frames = folder/f'{name}.mp4', noise(60, len(name))
    if name == 'plain': write_video(path, frames)
    elif name == 'b_frames': encode(path, frames, 'libx264', bf='3', g='30')
    elif name == 'uneven': encode(path, frames, 'libx264', [i + i//3 + (i > 30)*5 for i in range(60)], g='12')
    elif name == 'late': encode(path, frames, 'libx264', [i + 25 for i in range(60)])
    elif name == 'vp9': path = encode(folder/'vp9.webm', frames, 'libvpx-vp9', deadline='realtime', **{'cpu-used': '8'})
    elif name == 'folder':
        from PIL import Image
        (path := folder/'pictures').mkdir()
        for i, f in enumerate(frames): Image.fromarray(f).save(path/f'{i}.png')
        return FrameFolder(path)
    return Video(path)

@pytest.fixture(scope='module')
def context(browser):
    c = browser.new_context()
    yield c
    c.close()

def alike(video, i, data):
    "What a browser drew is frame i, and looks less like its neighbours"
    seen = np.array(data, float).reshape(H, W, 4)[..., :3]
    near = list(range(max(0, i - 3), min(len(video), i + 4)))
    ours = resize(video.frames(near), (H, W)).numpy().astype(float)
    apart = np.abs(ours - seen).mean((1, 2, 3))
    mine = apart[near.index(i)]
    assert mine < 14, f'frame {i} looks unlike itself: {mine:.1f} grey levels apart'
    assert mine <= apart.min() + .6, f'frame {i} looks more like frame {near[int(apart.argmin())]}: {apart.round(1)}'

def compare(context, video, film, at):
    "Seek to frames in the browser; each must look like that frame, and less like its neighbours"
    page = context.new_page()
    try:
        page.evaluate(PAGE, [front_end('viewer', exports=True)[0], base64.b64encode(film.path.read_bytes()).decode(), film.mime, film.times.tolist()])
        for i in at:
            shown, data = page.evaluate(SEEK, [i, W, H])
            assert shown in (i, None), f'asked for frame {i}, the browser says it shows {shown}'
            alike(video, i, data)
    finally: page.close()

def frames_to_try(n, k=6): return sorted({0, 1, n - 2, n - 1, *np.random.default_rng(n).integers(0, n, k).tolist()} & set(range(n)))

AS_IS = {'plain', 'b_frames', 'uneven', 'vp9'}
@pytest.mark.parametrize('name', ['plain', 'b_frames', 'uneven', 'late', 'vp9', 'folder'])
def test_made_films(context, tmp_path, name):
    video = made(name, tmp_path)
    film = playable(video, tmp_path/'copies', progress=False)
    assert (film.reason == '') == (name in AS_IS), film.reason
    compare(context, video, film, frames_to_try(len(video)))

REAL = {'askany__playing_guitar.mp4': '', 'decord__flipping_a_pancake.mkv': 'browsers play mp4 and webm', 'decord__video_90.mov': 'browsers play mp4 and webm', 'mmaction2__demo.mp4': '',
        'mmaction2__test.avi': 'browsers play mp4 and webm', 'mmaction2__test_video_structuralize.mp4': '', 'torchcodec__av1_video.mkv': 'browsers play mp4 and webm',
        'torchcodec__bt709_full_range.mp4': 'its pixels are yuvj420p', 'torchcodec__h265_10bits.mp4': 'browsers do not play hevc', 'torchcodec__nasa_13013.mp4': 'several films', 'vfeat__v_ZNVhz7ctTq0.mp4': ''}
NAMES = sorted(o.name for o in VIDEOS.glob('*') if o.suffix != '.md') if os.environ.get('TQN_ALL_FILMS') and VIDEOS.is_dir() else list(REAL)
@pytest.mark.parametrize('name', NAMES)
def test_real_films(context, tmp_path, name):
    if not (VIDEOS/name).is_file(): pytest.skip(f'{VIDEOS/name} is not there; {MISSING}')
    try: video = Video(VIDEOS/name); video.frames([0])
    except VideoError as e: pytest.skip(f'damaged: {e.reason}')
    film = playable(video, tmp_path, progress=False)
    if name in REAL: assert (REAL[name] in film.reason) and bool(film.reason) == bool(REAL[name]), film.reason
    compare(context, video, film, frames_to_try(len(video), 4))

# ---------------------------------------------------------------- stretches

def long_film(name, folder):
    "Four stretches and more, of a file that a page would not be sent as it is"
    frames = noise(200, len(name))
    if name == 'vp9': return Video(encode(folder/'vp9.webm', frames, 'libvpx-vp9', deadline='realtime', g='25', **{'cpu-used': '8'}))
    if name == 'av1': return Video(encode(folder/'av1.mp4', frames, 'libsvtav1', preset='12', g='25'))
    stamps = [i + 250 for i in range(200)] if name == 'late' else [i + i//3 + (i > 110)*5 for i in range(200)] if name == 'uneven' else None
    return Video(encode(folder/('x.mkv' if name == 'mkv' else 'x.mp4'), frames, 'libx264', stamps, bf='3' if name in ('b_frames', 'late', 'mkv') else '0', g='25'))

@pytest.fixture
def streamed(context, tmp_path):
    "A page that is given a film in stretches, and how to wait for what it shows"
    page = context.new_page()
    def begin(name):
        video = long_film(name, tmp_path)
        film = playable(video, tmp_path/'copies', progress=False, most=1000)
        assert film.source is video and not film.reason and len(film.firsts) >= 4 and not (tmp_path/'copies').exists(), film
        data = ViewData(dict(video_bytes=video.path.stat().st_size, name='a film'), film=film)
        parts = [[head, base64.b64encode(piece).decode()] for head, piece in (film_part(data, i) for i in range(len(film.firsts)))]
        page.evaluate(STRETCHES, [front_end('viewer', exports=True)[0], parts, film.times.tolist()])
        page.wait_for_function("seen.state === 'ready'", timeout=20_000)
        return video, film
    yield page, begin
    page.close()

def on_frame(page, i):
    page.wait_for_function(f'film.frame === {i} && film.shown === {i} && !v.seeking', timeout=20_000)

@pytest.mark.parametrize('name', ['plain', 'b_frames', 'uneven', 'late', 'mkv', 'vp9', 'av1'])
def test_stretches(streamed, name):
    "Any frame of any stretch, in any order, by its picture; what lies far away is forgotten, and comes again"
    page, begin = streamed
    video, film = begin(name)
    first = film.firsts.tolist()
    for i in [0, 199, first[2], first[2] - 1, first[-1], 3, *np.random.default_rng(len(name)).integers(0, 200, 8).tolist()]:
        page.evaluate('i => film.seek(i)', i)
        on_frame(page, i)
        alike(video, i, page.evaluate(PICTURE, ['video', W, H]))

def test_stretches_are_played_one_behind_the_other(streamed):
    "Every frame in turn across all borders, and the end is the end; each stretch is asked for once"
    page, begin = streamed
    video, film = begin('b_frames')
    page.evaluate('film.rate(2); film.play()')
    page.wait_for_function('!seen.playing', timeout=30_000)
    assert page.evaluate('film.frame') == 199 and page.evaluate('asked') == list(range(len(film.firsts)))
    seen = page.evaluate('seen.frames')
    assert seen == sorted(seen) and len({*seen}) > 60, 'frames of the film pass by in their order'
    page.evaluate('film.rate(4); film.loop = [10, 40]; film.seek(10); film.play()')                       # a loop that begins far from where it stood
    page.wait_for_function('seen.frames.slice(-60).filter(i => i === 10).length > 1', timeout=20_000)
    page.evaluate('film.loop = null; film.pause()')

def test_only_what_is_near_is_kept(streamed):
    page, begin = streamed
    _, film = begin('plain')
    held = lambda: page.evaluate('[...Array(v.buffered.length).keys()].map(k => [v.buffered.start(k), v.buffered.end(k)])')
    for i in (0, 199, 0): page.evaluate('i => film.seek(i)', i); on_frame(page, i)
    page.wait_for_timeout(500)
    assert len(film.firsts) == 8 and sum(b - a for a, b in held()) < 6, held()
    assert held()[0][0] == 0 and page.evaluate('asked').count(0) == 2, 'the first stretch came again'

def test_a_picture_of_another_stretch(streamed):
    "What a pointer hovers over is fetched for itself, and the film stays where it is"
    page, begin = streamed
    video, film = begin('b_frames')
    for i in (180, 60, 181):
        page.evaluate("i => new Promise(done => film.picture(i, done, true)).then(() => 0)", i)
        alike(video, i, page.evaluate(PICTURE, ['spy', W, H]))
    assert page.evaluate('film.frame') == 0 and page.evaluate('film.shown') == 0

def test_no_picture_is_lost(streamed):
    "One that a pointer hovers over goes first, and only another such takes its place; the others come all the same"
    page, begin = streamed
    begin('b_frames')
    page.evaluate("window.drawn = []; const p = (i, urgent) => film.picture(i, () => drawn.push(i), urgent); p(20); p(70, true); p(60, true); p(30); p(40)")
    page.wait_for_function('drawn.length === 4', timeout=20_000)
    assert page.evaluate('drawn') == [20, 60, 30, 40]
    page.evaluate("film.picture(100, () => drawn.push(100), true); film.picture(110, () => drawn.push(110))")
    page.wait_for_function('drawn.length === 6', timeout=20_000)
    assert page.evaluate('drawn.slice(4)') == [100, 110]

def test_the_last_frame_that_was_asked_for_wins(streamed):
    "A pointer that runs over a long film, and a kernel that takes its time"
    page, begin = streamed
    video, film = begin('b_frames')
    page.evaluate('slow(150); for (const i of [40, 90, 140, 190, 75]) film.seek(i)')
    on_frame(page, 75)
    alike(video, 75, page.evaluate(PICTURE, ['video', W, H]))
    page.wait_for_timeout(600)
    assert page.evaluate('film.shown') == 75 and len(page.evaluate('asked')) <= 5

def test_a_kernel_that_is_silent(streamed):
    "Frames that are there are shown without the kernel; for others the page says what is missing, and goes on when it comes"
    page, begin = streamed
    begin('plain')
    page.evaluate('film.seek(30)'); on_frame(page, 30)
    page.wait_for_timeout(400)
    page.evaluate('slow(12000); film.seek(190)')
    page.evaluate('film.seek(31)'); on_frame(page, 31)
    page.evaluate('film.seek(190)')
    page.wait_for_function("seen.state === 'late'", timeout=20_000)
    assert 'kernel is busy' in page.evaluate('seen.text')
    page.evaluate('film.seek(20)'); on_frame(page, 20)                            # what is there can be looked at meanwhile
    assert page.evaluate('seen.state') == 'ready'
    page.evaluate('film.seek(190)')
    on_frame(page, 190)
    assert page.evaluate('seen.state') == 'ready'

def test_a_browser_that_cannot_play_it(context):
    page = context.new_page()
    try:
        page.evaluate(STRETCHES, [front_end('viewer', exports=True)[0], [[dict(part=0, parts=2, firsts=[0, 5], late=0, mime='video/mp4; codecs="hvc9"'), 'AAAA']], [0, .04, .08]])
        page.wait_for_function("seen.state === 'error'", timeout=20_000)
        assert page.evaluate('seen.text') == 'This browser cannot play the film.'
    finally: page.close()
