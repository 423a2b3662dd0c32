"""The frame that a browser shows after a seek is the frame that the kit decodes: for films sent as they are and for copies, by their pixels"""
import base64, os, sys
from pathlib import Path
import av, numpy as np, pytest
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from outside import MISSING, VIDEOS
from tqn.widgets.lanes import front_end, playable
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

def compare(context, video, film, at):
    "Seek to frames in the browser; each must look like that frame, and less like its neighbours"
    page = context.new_page()
    try:
        page.evaluate(PAGE, [front_end('viewer')[0], base64.b64encode(film.path.read_bytes()).decode(), film.mime, film.times.tolist()])
        for i in at:
            shown, data = page.evaluate(SEEK, [i, W, H])
            assert shown in (i, None), f'asked for frame {i}, the browser says it shows {shown}'
            seen = np.array(data, float).reshape(H, W, 4)[..., :3]
            near = list(range(max(0, i - 3), min(len(video), i + 4)))
            ours = resize(video.frames(near), (H, W)).numpy().astype(float)
            apart = np.abs(ours - seen).mean((1, 2, 3))
            mine = apart[near.index(i)]
            assert mine < 14, f'frame {i} looks unlike itself: {mine:.1f} grey levels apart'
            assert mine <= apart.min() + .6, f'frame {i} looks more like frame {near[int(apart.argmin())]}: {apart.round(1)}'
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
