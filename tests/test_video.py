"Every frame that comes is the right one, or there is a VideoError: real clips, made clips, damaged clips, workers"
import io, itertools, json, os, pickle, resource, subprocess, sys, tempfile, threading, zlib
from fractions import Fraction
from functools import cache
from pathlib import Path
import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from outside import MISSING, VIDEOS
from tqn.video import decode, video as module
from tqn.video.transforms import Preprocess
from tqn.video.video import FrameFolder, Video, open_video, resize, write_video
from tqn.video.transforms import clip_grid, fit_stride
from tqn.video.decode import VideoError, frame_files, known_scan, read_frames, read_picture, scan

REAL = sorted(o for o in VIDEOS.glob('*') if o.suffix in ('.mp4','.mov','.mkv','.avi')) if VIDEOS.is_dir() else []
DAMAGED = 'decord__corrupted.mp4'
needs_real = pytest.mark.skipif(not REAL, reason=MISSING)

def crc(image): return zlib.crc32(np.ascontiguousarray(image))

@cache
def truth(path):
    "Checksums of all frames, by a plain sequential decode that shares no code with the kit"
    with av.open(str(path)) as f:
        s = max(f.streams.video, key=lambda o: o.width*o.height)
        s.codec_context.thread_count = 1
        return [crc(np.rot90(o.to_ndarray(format='rgb24'), o.rotation//90%4)) for o in f.decode(s)]

def sums(frames): return [crc(o) for o in frames.numpy()]

# ---------------------------------------------------------------- clips made here
def drawing(n, h=48, w=64, seed=0):
    "Frames that all differ"
    ground = np.random.default_rng(seed).integers(0, 255, (h//8,w//8,3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    for i in range(n):
        image = np.roll(ground, i, 1)
        image[(3*i)%(h-10):(3*i)%(h-10)+10, (5*i)%(w-12):(5*i)%(w-12)+12] = (255-i*3%256, i*5%256, 90)
        yield image

def make(path, codec='libx264', n=50, options={}, pts=None, tick=Fraction(1,25), pix='yuv420p', mux={}, streams=1, **shape):
    "Encode a drawing with PyAV alone"
    with av.open(str(path), 'w', options=mux) as out:
        made = []
        for k in range(streams):
            s = out.add_stream(codec, rate=25, options=options)
            s.width,s.height,s.pix_fmt,s.codec_context.thread_count = shape.get('w', 64)*(k+1),shape.get('h', 48)*(k+1),pix,1
            s.codec_context.time_base = tick
            made.append(s)
        for k,s in enumerate(made):
            for i,image in enumerate(drawing(n, s.height, s.width, k)):
                frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                frame.pts,frame.time_base = (i if pts is None else pts[i]),tick
                out.mux(s.encode(frame))
            out.mux(s.encode())
    return path

GOP = 'keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0'
VFR = np.cumsum(np.random.default_rng(0).integers(1, 9, 50)).tolist()
KINDS = {
    'closed.mp4': dict(options={'x264-params':GOP}), 'open.mp4': dict(options={'x264-params':GOP+':open-gop=1'}),
    'open.mkv': dict(options={'x264-params':GOP+':open-gop=1'}), 'open.ts': dict(options={'x264-params':GOP+':open-gop=1'}),
    'long.mkv': dict(options={'x264-params':'keyint=999'}), 'refresh.mp4': dict(options={'x264-params':'keyint=12:intra-refresh=1'}),
    'vfr.mp4': dict(pts=VFR, tick=Fraction(1,100)), 'vfr.mkv': dict(pts=VFR, tick=Fraction(1,1000)),
    'late.mp4': dict(pts=[o+75 for o in range(50)], options={'x264-params':GOP}), 'late.mkv': dict(pts=[o+75 for o in range(50)], options={'x264-params':GOP}),
    'edit.mp4': dict(pts=[o-7 for o in range(50)], options={'x264-params':GOP}, mux={'avoid_negative_ts':'disabled'}),
    'fragments.mp4': dict(options={'x264-params':GOP}, mux={'movflags':'frag_keyframe+empty_moov'}),
    'bframes.avi': dict(codec='mpeg4', options={'bf':'2','g':'12'}), 'simple.avi': dict(codec='mpeg4'), 'film.mpg': dict(codec='mpeg2video', options={'bf':'2'}),
    'vp8.webm': dict(codec='libvpx', options={'lag-in-frames':'10','auto-alt-ref':'1'}), 'vp9.webm': dict(codec='libvpx-vp9', options={'cpu-used':'8','g':'12'}),
    'hevc.mp4': dict(codec='libx265', options={'x265-params':'keyint=12:bframes=3:open-gop=1:log-level=none'}),
    'ten.mp4': dict(pix='yuv420p10le'), 'odd.mp4': dict(pix='yuv444p', h=40, w=56), 'two.mkv': dict(streams=2), 'one.mp4': dict(n=1),
}

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('made')
    def get(name):
        if not (folder/name).exists():
            try: make(folder/name, **KINDS[name])
            except (av.error.EncoderNotFoundError, av.codec.codec.UnknownCodecError): pytest.skip(f'this PyAV has no encoder for {name}')
        return folder/name
    return get

@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

def check(path, seed=0, k=16):
    "Random, repeated, unsorted and strided numbers, against the truth"
    want = truth(path)
    video = Video(path)
    n = len(want)
    assert len(video)==n==len(video.timestamps)
    assert (np.diff(video.timestamps)>0).all()
    rng = np.random.default_rng(seed)
    at = rng.integers(0, n, k)
    assert sums(video.frames(at))==[want[i] for i in at]
    at = [n-1, 0, n//2, n//2, 0]
    assert sums(Video(path, 'pyav').frames(at))==[want[i] for i in at]
    at = range(min(n-1, 3), n, 5)
    if len(at): assert sums(video.frames(at))==[want[i] for i in at]
    assert video.frames([0]).shape[1:3]==video.size
    for bad in (-1, n): pytest.raises(VideoError, video.frames, [bad])

@needs_real
@pytest.mark.parametrize('path', [o for o in REAL if o.name!=DAMAGED], ids=lambda o: o.name)
def test_real(path): check(path)

@pytest.mark.parametrize('name', KINDS)
def test_made(made, name): check(made(name), k=40)

@pytest.mark.parametrize('name', [o for o in KINDS if o.split('.')[0] in ('open','edit','hevc','closed','vfr','late')])
def test_one_at_a_time(made, name):
    "Each frame alone from a fresh reader that must jump, unchecked"
    want = truth(made(name))
    for i in range(0, len(want), 3): assert sums(Video(made(name), check=False).frames([i]))==[want[i]], i

@pytest.mark.parametrize('name, params, some', [('a.mp4', 'bframes=3', True), ('a.mkv', 'bframes=5:b-pyramid=none', True), ('b.mkv', 'bframes=3:slices=4', True), ('c.mkv', 'bframes=3:tff=1', True), ('b.mp4', 'bframes=3:open-gop=1', True),
    ('c.mp4', 'bframes=0', False), ('d.mp4', 'keyint=1', False), ('a.ts', 'bframes=3', False)])
def test_what_nobody_needs_is_not_decoded(tmp_path, name, params, some):
    "Pictures that no other is made from are left out between those that are asked for; what comes is the same, in any order, and by two readers in turns"
    path = make(tmp_path/name, options={'g': '12', 'x264-params': f'b-adapt=0:{params}'}, h=64)
    want = truth(path)
    for checked in (False, True):
        video = Video(path, check=checked)
        for at in (range(0, 50, 2), range(1, 50, 3), [40,44], [3,9,33], range(50), [44,7,7,21], range(0, 50, 4)): assert sums(video.frames(at))==[want[i] for i in at]
        video.frames(range(36, 47, 2))
        assert bool(video._decoder.left_out)==some
    decoder,index = video._decoder,video.index
    keys = len(index.keys)
    for k,(a,b) in enumerate(zip(read_frames(decoder, index, range(0, 50, 2)), read_frames(decoder, index, range(1, 50, 2)))): assert [crc(a), crc(b)]==want[2*k:2*k+2]
    assert len(index.keys)==keys                                      # no jump was lost

def test_where_leaving_out_goes_wrong_everything_is_decoded(tmp_path, monkeypatch):
    "A decoder that stumbles over what was left out, in a film that it reads from its start: tried once more with every packet, and so from then on"
    path = make(tmp_path/'a.mp4', options={'g': '500', 'x264-params': 'b-adapt=0:bframes=3:scenecut=0'}, h=64)
    want,unused,seen = truth(path),decode._unused,[]
    def stumbles(packet, n):
        seen.append(unused(packet, n))
        if sum(seen)==3: raise av.error.InvalidDataError(1, 'stumbled')
        return seen[-1]
    monkeypatch.setattr(decode, '_unused', stumbles)
    video = Video(path, check=False)
    assert sums(video.frames([20, 30, 40]))==[want[i] for i in (20, 30, 40)] and sum(seen)==3
    assert sums(video.frames([0, 45]))==[want[0], want[45]] and sum(seen)==3 and not video._decoder.left_out

def test_edit_list_hides_frames(made): assert len(Video(made('edit.mp4')))==len(truth(made('edit.mp4')))<50

def test_streams(made):
    "The larger by default, any by number"
    assert (Video(made('two.mkv')).size, Video(made('two.mkv'), stream=0).size)==((96,128), (48,64))
    with pytest.raises(VideoError, match='from 0 to 1, got 2'): Video(made('two.mkv'), stream=2)

def with_matrix(source, path, matrix):
    "A copy of a film with a display matrix (a, b, c, d)"
    with av.open(str(source)) as f, av.open(str(path), 'w') as out:
        s = out.add_stream_from_template(f.streams.video[0])
        a,b,c,d = (round(o*65536) for o in matrix)
        s.set_display_matrix([a,b,0, c,d,0, 0,0,1<<30])
        for p in f.demux(video=0):
            if p.dts is not None: p.stream = s; out.mux(p)
    return path

# what EXIF says of each of its eight orientations, and where x and y go: an opinion of its own
EIGHT = {1: (1,0,0,1), 2: (-1,0,0,1), 3: (-1,0,0,-1), 4: (1,0,0,-1), 5: (0,1,1,0), 6: (0,1,-1,0), 7: (0,-1,-1,0), 8: (0,-1,1,0)}

@pytest.mark.parametrize('exif', EIGHT)
@pytest.mark.parametrize('name', ('a.mp4','a.mov','a.mkv'))
def test_display_matrices(made, tmp_path, exif, name):
    "Turned and mirrored in all eight ways, as PIL shows a photograph with the same orientation"
    from PIL import ImageOps
    path = with_matrix(made('closed.mp4'), tmp_path/name, EIGHT[exif])
    with av.open(str(path)) as f: stored = next(f.decode(video=0)).to_ndarray(format='rgb24')
    image = Image.fromarray(stored); image.getexif()[0x112] = exif
    picture = io.BytesIO(); image.save(picture, 'png', exif=image.getexif())
    shown = np.asarray(ImageOps.exif_transpose(Image.open(picture)))
    video = Video(path)
    assert np.array_equal(video.frames([0])[0].numpy(), shown) and video.size==shown.shape[:2]
    assert len(video.frames(range(50)))==50 and scan(path).ok
    Image.fromarray(stored).save(tmp_path/'1.png', exif=image.getexif())
    assert np.array_equal(read_picture(tmp_path/'1.png', 0), shown)

def test_a_slanted_matrix_is_refused(made, tmp_path):
    with pytest.raises(VideoError, match='slants the picture'): Video(with_matrix(made('closed.mp4'), tmp_path/'a.mp4', (.7,.7,-.7,.7))).frames([0])

def add_picture(source, path, flag, first=False):
    "A copy of a film with a picture beside it that is larger than the film"
    jpeg = io.BytesIO(); Image.new('RGB', (256,192), (10,200,10)).save(jpeg, 'jpeg')
    with av.open(str(source)) as f, av.open(str(path), 'w') as out:
        streams = {}
        for kind in (('picture','film') if first else ('film','picture')):
            if kind=='film': streams[kind] = out.add_stream_from_template(f.streams.video[0]); continue
            streams[kind] = s = out.add_stream('mjpeg', rate=1)
            s.width,s.height,s.pix_fmt = 256,192,'yuvj420p'
            if flag: s.disposition = flag
        for p in f.demux(video=0):
            if p.dts is not None: p.stream = streams['film']; out.mux(p)
        p = av.Packet(jpeg.getvalue())
        p.stream,p.pts,p.dts,p.time_base,p.is_keyframe = streams['picture'],0,0,Fraction(1),True
        out.mux(p)
    return path

@pytest.mark.parametrize('name', ('cover.mp4','cover.mkv','cover.nut'))
@pytest.mark.parametrize('flag', ('attached_pic','still_image',None))
@pytest.mark.parametrize('first', (False,True))
def test_attached_pictures_are_not_the_film(made, tmp_path, name, flag, first):
    "A cover larger than the film, flagged or only a track of one picture, before the film or after it"
    path = add_picture(made('closed.mp4'), tmp_path/name, flag and getattr(av.stream.Disposition, flag), first)
    video = Video(path)
    assert (len(video), video.size)==(50, (48,64)) and sums(video.frames(range(50)))==truth(made('closed.mp4'))
    with av.open(str(path)) as f: at = next(i for i,o in enumerate(f.streams.video) if o.width==256)
    with pytest.raises(VideoError, match=f'stream {at}, which is a picture'): Video(path, stream=at)
    assert len(Video(path, stream=1-at))==50

def test_a_cover_alone_is_no_film(tmp_path):
    "A song with a cover"
    jpeg = io.BytesIO(); Image.new('RGB', (64,64)).save(jpeg, 'jpeg')
    with av.open(str(tmp_path/'song.m4a'), 'w', format='mp4') as out:
        sound,s = out.add_stream('aac', rate=8000),out.add_stream('mjpeg', rate=1)
        s.width,s.height,s.pix_fmt,s.disposition = 64,64,'yuvj420p',av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1,8000), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        p = av.Packet(jpeg.getvalue()); p.stream,p.pts,p.dts,p.time_base = s,0,0,Fraction(1)
        out.mux(sound.encode(frame)); out.mux(sound.encode()); out.mux(p)
    with pytest.raises(VideoError, match='but for an attached picture'): Video(tmp_path/'song.m4a')

@pytest.mark.parametrize('name', ('2024-05-01T12:30:00.mp4','file:a.mp4','http:b.mp4','concat:a|b.mp4','-','pipe:0','a%03d.mp4','a b?c#d.mp4'))
@pytest.mark.parametrize('relative', (True,False))
def test_names_are_names(made, tmp_path, monkeypatch, name, relative):
    "Whatever stands before a colon is no protocol, for reading, proving and writing"
    monkeypatch.chdir(tmp_path)
    path = Path(name) if relative else tmp_path/name
    path.write_bytes(made('closed.mp4').read_bytes())
    assert sums(Video(path).frames([3,40]))==[truth(made('closed.mp4'))[i] for i in (3,40)]
    assert scan(path).ok
    write_video(path, drawing(9))
    assert len(open_video(path))==9 and scan(path).ok

@needs_real
def test_rotation_agrees_with_decord():
    "The direction of a turn is easy to get wrong in both truth and kit: decord is a third opinion"
    decord = pytest.importorskip('decord')
    for k in (90,180,270):
        path = VIDEOS/f'decord__video_{k}.mov'
        assert np.array_equal(Video(path, 'pyav').frames([0,1,2]).numpy(), decord.VideoReader(str(path), num_threads=1).get_batch([0,1,2]).asnumpy())

@needs_real
def test_declared_is_not_decoded():
    "50 frames declared, 28 decode: refused, or kept up to the fault"
    path = VIDEOS/DAMAGED
    with pytest.raises(VideoError, match='keep_damaged'): Video(path).frames([0])
    assert len(Video(path, keep_damaged=True))==28
    video = Video(path, check=False)
    assert video.frames([0,20]).shape[0]==2
    with pytest.raises(VideoError, match='frame 40'): video.frames([40])

# ---------------------------------------------------------------- forward reading, order
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 49), min_size=1, max_size=12))
def test_any_order(at):
    video = test_any_order.video
    assert sums(video.frames(at))==[test_any_order.truth[i] for i in at]

@pytest.fixture(autouse=True, scope='module')
def _film(made): test_any_order.video,test_any_order.truth = Video(made('open.mp4')),truth(made('open.mp4'))

def test_going_on_neither_opens_nor_seeks(made, monkeypatch):
    video = Video(made('closed.mp4'), check=False)
    video.clips(0, 1)
    for name in ('seek','rewind'): monkeypatch.setattr(decode.Decoder, name, lambda *a, **k: pytest.fail('opened or sought'))
    for i in range(1, video.n_clips()): video.clips(i, 1)

def test_only_what_is_asked_is_decoded(made, monkeypatch):
    steps,step = [],decode._step
    monkeypatch.setattr(decode, '_step', lambda *a: (steps.append(1), step(*a))[1])
    Video(made('closed.mp4'), check=False).frames([25])          # keyframe 24
    assert len(steps)<=2

@pytest.mark.parametrize('bad', ([.5], [[1,2]], ['a'], [True], 3))
def test_indices_are_whole_numbers(made, bad):
    with pytest.raises(ValueError, match='whole frame numbers'): Video(made('closed.mp4')).frames(bad)

def test_no_frames_is_no_frames(made):
    assert Video(made('closed.mp4')).frames([]).shape==(0,48,64,3)
    assert Video(made('closed.mp4')).frames([], size=(8,9)).shape==(0,8,9,3)

def test_kinds_of_indices(made):
    video = Video(made('closed.mp4'))
    for at in ([1,2], (1,2), range(1,3), np.array([1,2]), torch.tensor([1,2]), np.array([1,2], np.uint8)):
        assert sums(video.frames(at))==truth(made('closed.mp4'))[1:3]

# ---------------------------------------------------------------- clips, resize
@given(st.integers(1, 400), st.integers(1, 20), st.integers(1, 6))
def test_grid(n, clip_len, stride):
    grid = clip_grid(n, clip_len, stride)
    assert grid.shape[1]==clip_len and grid.max()==min(n-1, (grid.numel()-1)*stride) and (grid[:,0]<n).all()
    flat = grid.flatten().tolist()
    assert flat==[min(i*stride, n-1) for i in range(len(flat))]
    assert len(grid)==-(-n//(clip_len*stride))

@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 5), st.integers(1, 40))
def test_grid_with_a_hop(n, clip_len, stride, hop):
    "A plain loop: clips begin every `hop` frames until one reaches the end (or the next would begin behind it)"
    want,at = [],0
    while True:
        want.append([min(at + i*stride, n-1) for i in range(clip_len)])
        at += hop
        if at >= n or at - hop + clip_len*stride >= n: break
    assert clip_grid(n, clip_len, stride, hop).tolist() == want
    assert torch.equal(clip_grid(n, clip_len, stride, clip_len*stride), clip_grid(n, clip_len, stride))
    p = Preprocess(clip_len, stride, hop)
    assert torch.equal(p.grid(n), clip_grid(n, clip_len, fit_stride(n, clip_len, stride), hop)) and p.n_clips(n) == len(p.grid(n))

def test_clips_that_overlap(made, tmp_path):
    "Of films, folders and excerpts, against frames one by one"
    film = Video(made('closed.mp4'))
    for i,f in enumerate(film.frames(range(30))): Image.fromarray(f.numpy()).save(tmp_path/f'{i}.png')
    for source in (film, FrameFolder(tmp_path), open_video(made('closed.mp4'), start=.4, end=1.4)):
        for clip_len,stride,hop in ((8,1,3), (1,1,1), (2,3,5), (1,2,1), (4,1,9)):
            grid = clip_grid(len(source), clip_len, stride, hop)
            clips = source.clips(clip_len=clip_len, stride=stride, hop=hop)
            assert len(clips) == len(grid) == source.n_clips(clip_len, stride, hop)
            for row,clip in zip(grid.tolist(), clips):
                for t,i in enumerate(row): assert torch.equal(clip[:,t].permute(1,2,0), source.frames([i])[0])
            assert torch.equal(source.clips(1, 2, clip_len, stride, hop=hop), clips[1:3])
    with pytest.raises(ValueError, match='hop of at least 1'): film.clips(hop=0)

def test_clips(made):
    video = Video(made('closed.mp4'))
    clips = video.clips(start=1, n=2, stride=3)
    assert clips.shape==(2,3,8,48,64) and clips.dtype==torch.uint8
    want = video.frames([min(i, 49) for i in range(24, 72, 3)])
    assert torch.equal(clips.permute(0,2,3,4,1).reshape(16,48,64,3), want)
    for start,n in ((0,99), (-1,1), (7,1), (0,0)):
        with pytest.raises(VideoError): video.clips(start, n)

def test_shorter_than_a_clip(made):
    with pytest.raises(VideoError, match='fewer than one clip of 8'): Video(made('one.mp4')).clips()
    assert Video(made('one.mp4')).clips(clip_len=1).shape==(1,3,1,48,64)

@pytest.mark.parametrize('size', ((24,32), (31,17), (90,200), (48,32)))
def test_resize_is_antialiased_bilinear(size):
    x = torch.from_numpy(np.stack(list(drawing(3))))
    want = torch.nn.functional.interpolate(x.permute(0,3,1,2).double(), size, mode='bilinear', antialias=True).round()
    assert (resize(x, size).permute(0,3,1,2).double()-want).abs().max()<=1
    assert resize(x[None], size).shape==(1,3,*size,3)

def test_frames_resized_in_batches(made):
    video = Video(made('closed.mp4'))
    assert torch.equal(video.frames(range(50), size=(20,30)), resize(video.frames(range(50)), (20,30)))
    for bad in ((0,4), (5,), (-3,4)):
        with pytest.raises(ValueError, match='height, width'): resize(video.frames([0]), bad)
        with pytest.raises(ValueError): video.frames([0], size=bad)

# ---------------------------------------------------------------- scans and engines
def test_decord_only_where_proved(made):
    pytest.importorskip('decord')
    for name in ('open.mp4','hevc.mp4','edit.mp4','bframes.avi','open.ts','ten.mp4','vp8.webm'):
        assert scan(made(name)).engine=='pyav', name
        with pytest.raises(VideoError, match='decord is not proved'): Video(made(name), 'decord')
    found = scan(made('closed.mp4'))
    assert found.engine=='decord', found.reason
    for engine in ('decord','auto'):
        video = Video(made('closed.mp4'), engine)
        assert sums(video.frames([40,3,3,17]))==[truth(made('closed.mp4'))[i] for i in (40,3,3,17)]
        assert video._fast==(engine=='decord')                   # asked for, it reads; else the faster reader does

@needs_real
def test_decord_on_real_clips():
    "What is proved is equal by pixels; the two that decord reads otherwise are not proved"
    pytest.importorskip('decord')
    for name in ('mmaction2__part_0.mp4','decord__video_90.mov','torchcodec__h264_10bits.mp4','mmaction2__test.avi','torchcodec__h265_video.mp4'):
        found = scan(VIDEOS/name)
        assert found.ok
        if found.engine=='decord': assert sums(Video(VIDEOS/name, 'decord').frames([2,0,1]))==[truth(VIDEOS/name)[i] for i in (2,0,1)]
        if '10bits' in name or name.endswith('avi'): assert found.engine=='pyav'

def test_without_decord(made, monkeypatch, tmp_path):
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    monkeypatch.setitem(sys.modules, 'decord', None)
    assert scan(made('closed.mp4')).reason=='decord is not installed'
    assert sums(Video(made('closed.mp4')).frames([5]))==truth(made('closed.mp4'))[5:6]

def test_decord_that_fails_later_is_replaced(made, monkeypatch):
    pytest.importorskip('decord')
    video = Video(made('closed.mp4'), 'decord')
    assert video._fast
    def broken(*a): raise RuntimeError
    monkeypatch.setattr(module, 'decord_frames', broken)
    assert sums(video.frames([5]))==truth(made('closed.mp4'))[5:6] and not video._fast

@pytest.mark.parametrize('text', ('', '{', '[]', 'null', '{"scan": {}}', '{"scan": {"path": 3}, "stamp": 0}', '\x00'*50))
def test_corrupt_cache(made, monkeypatch, tmp_path, text):
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    first = scan(made('open.mp4'))
    kept, = (tmp_path/'scans').iterdir()
    kept.write_text(text)
    assert known_scan(made('open.mp4')) is None
    assert scan(made('open.mp4'))==first==known_scan(made('open.mp4'))

def test_stale_cache(made, monkeypatch, tmp_path):
    monkeypatch.setenv('TQN_CACHE', str(tmp_path/'cache'))
    path = tmp_path/'film.mp4'
    path.write_bytes(made('closed.mp4').read_bytes())
    scan(path)
    assert known_scan(path).ok
    path.write_bytes(path.read_bytes()[:-400])
    assert known_scan(path) is None and not scan(path).ok

@pytest.mark.parametrize('where', ('/proc/nowhere', '/dev/null/x'))
def test_cache_that_cannot_be_written(made, monkeypatch, where):
    monkeypatch.setenv('TQN_CACHE', where)
    assert scan(made('open.mp4')).ok and len(Video(made('open.mp4')).frames([3]))==1

@pytest.fixture(scope='module')
def long_film(tmp_path_factory):
    path = tmp_path_factory.mktemp('long')/'long.mp4'
    write_video(path, (np.roll(drawing_of(i), i, 1) for i in range(1200)), gop=100)
    return path

def drawing_of(i): return np.full((32,48,3), i%250, np.uint8)//2 + np.arange(48, dtype=np.uint8)[None,:,None]

def test_long_films_stay_open_and_keep_their_index(long_film, monkeypatch, tmp_path):
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    want = truth(long_film)
    first = open_video(long_film)
    assert open_video(str(long_film)) is first and len(list((tmp_path/'indexes').iterdir()))==1
    assert sums(first.frames([1190,3,700]))==[want[i] for i in (1190,3,700)]
    seen = []
    monkeypatch.setattr(decode, 'read_index', lambda *a: seen.append(1))
    again = Video(long_film)                                     # another process would find the index
    assert not seen and sums(again.frames([1190,3,700]))==[want[i] for i in (1190,3,700)] and again.index.pts.tolist()==first.index.pts.tolist()
    monkeypatch.undo()
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    scan(long_film)
    assert open_video(long_film) is first and first._sums is not None     # from now on compared with what the scan saw
    held = []
    t = threading.Thread(target=lambda: held.append(open_video(long_film))); t.start(); t.join()
    assert held[0] is not first                                  # each thread has its own
    os.utime(long_film)
    assert open_video(long_film) is not first and sums(open_video(long_film).frames([5]))==want[5:6]

@pytest.mark.parametrize('harm', ('late', 'text', 'number', 'short', 'other'))
def test_a_false_index_in_the_cache(long_film, monkeypatch, tmp_path, harm):
    "What is kept vouches for nothing: the frame is right, or the cache is left aside, or there is an error"
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    Video(long_film)
    file, = (tmp_path/'indexes').iterdir()
    kept = json.loads(file.read_text())
    decoder = decode.Decoder(long_film)
    index = decode.known_index(decoder)
    if harm=='late': index.pts = index.pts+7; decode._keep_index(decoder, index)
    if harm=='text': kept['index']['pts'] = 'AAAA'; file.write_text(json.dumps(kept))
    if harm=='number': kept['index']['n'] = 1201; file.write_text(json.dumps(kept))
    if harm=='short': file.write_text(file.read_text()[:100])
    if harm=='other': kept['stamp'][1] += 1; file.write_text(json.dumps(kept))
    try: assert sums(Video(long_film).frames([600]))==truth(long_film)[600:601]
    except VideoError: assert harm=='late'

def test_nothing_beside_the_users_files(tmp_path):
    write_video(tmp_path/'a.mp4', drawing(20))
    scan(tmp_path/'a.mp4')
    Video(tmp_path/'a.mp4').clips()
    assert [o.name for o in tmp_path.iterdir()]==['a.mp4']

# ---------------------------------------------------------------- processes, threads, handles
class Films(Dataset):
    "Frames of films that the parent has opened and read from"
    def __init__(self, paths, engine='auto'):
        self.videos = [Video(o, engine) for o in paths]
        for o in self.videos: o.frames([7])
    def __len__(self): return 4*len(self.videos)
    def __getitem__(self, i): return self.videos[i//4].frames([3+i%4*9, 1])

@pytest.mark.parametrize('how', ('fork','spawn'))
def test_loader_workers(made, how):
    if how=='fork' and not hasattr(os, 'fork'): pytest.skip('no fork on this platform')
    paths = [made('closed.mp4'), made('open.mp4')]
    scan(paths[0])                                               # so that the frames of one of the two are compared
    films = Films(paths)
    for i,batch in enumerate(DataLoader(films, batch_size=4, num_workers=1, multiprocessing_context=how, timeout=90)):
        assert [sums(o) for o in batch]==[[truth(paths[i])[3+k*9], truth(paths[i])[1]] for k in range(4)]
    assert sums(films.videos[0].frames([20]))==truth(paths[0])[20:21]     # the parent's reader still works

class Clips(Dataset):
    "Frames of a long film that stays open, by whoever asks"
    def __init__(self, path): self.path = path
    def __len__(self): return 12
    def __getitem__(self, i): return open_video(self.path).frames([(i*397)%1190, 5])

@pytest.mark.parametrize('how', ('fork','spawn'))
def test_films_kept_open_by_the_parent_are_opened_anew_in_workers(long_film, how):
    if how=='fork' and not hasattr(os, 'fork'): pytest.skip('no fork on this platform')
    want,data = truth(long_film),Clips(long_film)
    data[3]                                                      # open, and in the middle of the film
    for k,batch in enumerate(DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=how, timeout=90)):
        assert [sums(o) for o in batch]==[[want[(i*397)%1190], want[5]] for i in range(4*k, 4*k+4)]
    assert sums(data[1])==[want[397], want[5]]

class Wrong(Dataset):
    def __init__(self, path): self.video = Video(path)
    def __len__(self): return 1
    def __getitem__(self, i): return self.video.frames([99])

def test_error_leaves_a_worker(made):
    with pytest.raises(VideoError, match='frame 99'): list(DataLoader(Wrong(made('closed.mp4')), num_workers=1, multiprocessing_context='fork' if hasattr(os, 'fork') else None, timeout=60))

def test_pickle(made):
    video = Video(made('open.mp4'))
    video.frames([9])
    data = pickle.dumps(video)
    assert len(data)<5000
    assert sums(pickle.loads(data).frames([30,2]))==[truth(made('open.mp4'))[i] for i in (30,2)]
    again = pickle.loads(pickle.dumps(VideoError('a', 3, 'b')))
    assert (again.path, again.index, again.reason, str(again))==('a', 3, 'b', 'a, frame 3: b')

def test_pickled_then_changed(tmp_path):
    write_video(tmp_path/'a.mp4', drawing(20))
    data = pickle.dumps(Video(tmp_path/'a.mp4'))
    write_video(tmp_path/'a.mp4', drawing(30))
    with pytest.raises(VideoError, match='has changed'): pickle.loads(data).frames([3])

def test_threads(made):
    video,want,wrong = Video(made('open.mp4')),truth(made('open.mp4')),[]
    def work(seed):
        for i in np.random.default_rng(seed).integers(0, 50, 25): wrong.extend([i]*(sums(video.frames([i]))!=[want[i]]))
    threads = [threading.Thread(target=work, args=(o,)) for o in range(4)]
    for o in threads: o.start()
    for o in threads: o.join(60)
    assert not wrong and not any(o.is_alive() for o in threads)

@pytest.mark.skipif(not Path('/proc/self/fd').is_dir(), reason='counts open files in /proc')
def test_many_videos_few_files(made):
    before = len(os.listdir('/proc/self/fd'))
    videos = [Video(made('closed.mp4')) for _ in range(300)]
    for o in videos[:100]: o.frames([3])
    assert len(os.listdir('/proc/self/fd'))-before<60

# ---------------------------------------------------------------- damage
def damaged(folder, sources):
    "Write damaged copies; yields (name, kind, source)"
    for source in sources:
        data = source.read_bytes()
        def put(kind, b):
            path = folder/f'{source.stem}-{kind}{source.suffix}'
            path.write_bytes(b)
            return path.name,kind.split('-')[0],str(source)
        for part in (.1,.5,.9,.99): yield put(f'cut-{part}', data[:int(len(data)*part)])
        for seed in range(2):
            rng = np.random.default_rng(seed)
            b = bytearray(data)
            for at in rng.integers(0, len(b), max(16, len(b)//4000)): b[at] ^= 1<<int(rng.integers(8))
            yield put(f'flips-{seed}', b)
            b = bytearray(data)
            b[int(rng.integers(len(b)))] ^= 1<<int(rng.integers(8))
            yield put(f'flip-{seed}', b)
        rng = np.random.default_rng(2)
        half = len(data)//2
        yield put('garbage', data[:half]+rng.bytes(len(data)//8)+data[half+len(data)//8:])
        yield put('zeros', data[:half]+bytes(len(data)//2))

def child(folder):
    "In a process of its own: read every copy, print one line each"
    for name in json.loads(Path(folder, 'names.json').read_text()):
        out = {}
        try:
            video = Video(Path(folder, name))
            out['n'] = len(video)
            for i in {0, len(video)//2, len(video)-1, *np.random.default_rng(0).integers(0, len(video), 3).tolist()}:
                try: out[i] = sums(video.frames([i]))[0]
                except VideoError as e: out[i] = str(e)
        except VideoError as e: out['error'] = str(e)
        except BaseException as e: out['other'] = repr(e)
        print(json.dumps([name, out]), flush=True)

def read_in_child(folder, names, seconds=600):
    (folder/'names.json').write_text(json.dumps(names))
    run = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, timeout=seconds, env={**os.environ, 'TQN_CACHE': str(folder/'cache')})
    got = dict(json.loads(o) for o in run.stdout.splitlines() if o.startswith('['))
    assert set(got)==set(names), run.stderr[-800:]               # a crash would end the list early
    return got

def judge(folder, sources):
    "No hang, no crash, no other exception; frames that come are right. Returns (copies, kinds of damage that got through)"
    copies = list(damaged(folder, sources))
    got,through = read_in_child(folder, [o[0] for o in copies]),[]
    for name,kind,source in copies:
        out,want = got[name],truth(Path(source))
        assert 'other' not in out, (name, out)
        wrong = [i for i,o in out.items() if i.isdigit() and isinstance(o, int) and (int(i)>=len(want) or o!=want[int(i)])]
        if wrong or (kind in ('cut','zeros') and out.get('n', len(want))!=len(want)): through.append((name, kind))
    return copies,through

def test_damaged_made(made, tmp_path):
    copies,through = judge(tmp_path, [made(o) for o in ('closed.mp4','open.mkv','vfr.mp4','bframes.avi','long.mkv')])
    assert len(copies)==5*10
    assert not [o for o in through if o[1]!='flip'], through     # one flipped bit can pass for other pixels: see the notebook

def test_damaged_beyond_notice(made, tmp_path):
    "VP9 and HEVC decoders take much damage for pictures; what must hold is that cuts are found and nothing hangs or crashes"
    copies,through = judge(tmp_path, [made(o) for o in ('vp9.webm','hevc.mp4')])
    print(f'{len(through)} of {len(copies)} damaged copies gave a wrong frame')
    assert not [o for o in through if o[1] in ('cut','zeros')], through

@needs_real
def test_damaged_real(tmp_path):
    small = [o for o in REAL if o.stat().st_size<320_000 and o.name!=DAMAGED and 'h265' not in o.name]
    copies,through = judge(tmp_path, small)
    print(f'{len(through)} of {len(copies)} damaged copies gave a wrong frame: {through}')
    assert len(copies)==10*len(small)>=80
    assert not [o for o in through if o[1]!='flip'], through

def test_sealed_films_let_nothing_through(tmp_path):
    write_video(tmp_path/'film.mp4', drawing(40))
    data,want = (tmp_path/'film.mp4').read_bytes(),truth(tmp_path/'film.mp4')
    for seed in range(60):
        b = bytearray(data)
        b[np.random.default_rng(seed).integers(len(b)-28)] ^= 1<<seed%8
        (tmp_path/'bad.mp4').write_bytes(b)
        with pytest.raises(VideoError): Video(tmp_path/'bad.mp4')

def test_not_videos(tmp_path):
    "One message that says what came, in time, for whatever is not a video"
    files = {'empty.mp4': b'', 'garbage.mp4': np.random.default_rng(0).bytes(50_000), 'text.mp4': b'hello\n'*5000, 'text.txt': b'hello\n'*5000,
             'list.m3u8': b'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n', 'list.mp4': b"ffconcat version 1.0\nfile 'film.mp4'\n",
             'zeros.mkv': bytes(50_000)}
    for name,b in files.items(): (tmp_path/name).write_bytes(b)
    Image.fromarray(next(drawing(1))).save(tmp_path/'still.mp4', 'jpeg')
    Image.fromarray(next(drawing(1))).save(tmp_path/'still.mkv', 'png')
    with av.open(str(tmp_path/'sound.mp4'), 'w') as out:
        s = out.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1,8000), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        out.mux(s.encode(frame)); out.mux(s.encode())
    (tmp_path/'folder.mp4').mkdir()
    names = [*files, 'still.mp4', 'still.mkv', 'sound.mp4', 'folder.mp4', 'missing.mp4']
    if hasattr(os, 'mkfifo'): os.mkfifo(tmp_path/'pipe.mp4'); names.append('pipe.mp4')
    got = read_in_child(tmp_path, names, 60)
    for name,out in got.items(): assert str(tmp_path/name) in out.get('error', ''), (name, out)
    assert 'without a video stream' in got['sound.mp4']['error'] and 'empty' in got['empty.mp4']['error'] and 'no such file' in got['missing.mp4']['error']

@pytest.mark.parametrize('engine', ('auto','pyav'))
def test_a_scan_does_not_vouch_for_a_file_that_rotted(made, tmp_path, engine):
    "Other bits, the same size and time: a frame is that of the scan or refused"
    path = tmp_path/'film.mp4'
    path.write_bytes(made('closed.mp4').read_bytes())
    want,when,through = truth(made('closed.mp4')),os.stat(path),0
    assert scan(path).ok and scan(path).checksums().tolist()==want
    for seed in range(8):
        b = bytearray(made('closed.mp4').read_bytes())
        b[int(np.random.default_rng(seed).integers(len(b)//3, len(b)*3//4))] ^= 4
        path.write_bytes(b); os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
        assert known_scan(path).ok                               # as far as size and time tell
        for i in range(0, 50, 3):
            try: assert sums(Video(path, engine).frames([i]))==[want[i]]
            except VideoError: through += 1
    assert through

def test_kept_of_a_damaged_film_is_right(made, tmp_path):
    "It ends where decoding met the damage first, and not where the damage is shown: frames in between lean on what is bad"
    ended = 0
    for name in ('closed.mp4','open.mp4'):
        want,data = truth(made(name)),made(name).read_bytes()
        for seed in range(30):
            rng,b = np.random.default_rng(seed),bytearray(data)
            b[int(rng.integers(2000, len(b)-2000))] ^= 1<<int(rng.integers(8))
            (tmp_path/name).write_bytes(b)
            kept = Video(tmp_path/name, keep_damaged=True)
            if len(kept)==50: continue                           # one flipped bit can pass for other pixels: see the notebook
            ended += 1
            assert sums(kept.frames(range(len(kept))))==want[:len(kept)], (name, seed)
    assert ended

def test_an_index_that_lies(made, tmp_path, monkeypatch):
    "A table of an mp4 that lists 2 of 50 frames; packets that hide frames"
    data = made('closed.mp4').read_bytes()
    at = data.index(b'stsz')+12
    assert int.from_bytes(data[at:at+4], 'big')==50
    (tmp_path/'a.mp4').write_bytes(data[:at]+(2).to_bytes(4, 'big')+data[at+4:])
    with pytest.raises(VideoError): Video(tmp_path/'a.mp4').frames([0])
    whole = decode.read_index
    def less(*o):
        index = whole(*o)
        index.pts,index.n,index.span = index.pts[:20],20,0.
        index.keys = index.keys[index.keys<20]
        return index
    monkeypatch.setattr(decode, 'read_index', less)
    (tmp_path/'b.mp4').write_bytes(data)                          # a copy: its scan is kept
    assert 'more frames decode than its index lists' in scan(tmp_path/'b.mp4').reason

def test_damaged_ffv1_does_not_depend_on_order(tmp_path):
    "Its decoder paints over damage with what it decoded last: frame i is that of a decode from the beginning, or an error"
    path = make(tmp_path/'a.mkv', 'ffv1', 30, {'level':'3','slicecrc':'1','g':'1'})
    data = path.read_bytes()
    for seed in range(12):
        rng,b = np.random.default_rng(seed),bytearray(data)
        for at in rng.integers(len(b)//3, len(b)-1500, 3): b[int(at)] ^= 16
        path.write_bytes(b)
        try: want = sums(Video(path, check=False).frames(range(30)))
        except VideoError: continue
        for i in rng.permutation(30)[:10].tolist():
            for check in (False,None):
                try: assert sums(Video(path, check=check).frames([i]))==[want[i]], (seed, i)
                except VideoError: pass

@pytest.mark.parametrize('name,form,codec,pix', (('pi.h264','h264','libx264','yuv420p'), ('a.hevc','hevc','libx265','yuv420p'), ('a.265','hevc','libx265','yuv420p'), ('a.264','h264','libx264','yuv420p'), ('a.gif','gif','gif','rgb8'), ('a.y4m','yuv4mpegpipe','wrapped_avframe','yuv420p')))
def test_bare_streams_and_moving_pictures(tmp_path, name, form, codec, pix):
    "A stream without a container, a GIF, a Y4M: films like any other"
    with av.open(str(tmp_path/name), 'w', format=form) as out:
        s = out.add_stream(codec, rate=25)
        s.width,s.height,s.pix_fmt = 64,48,pix
        for image in drawing(24): out.mux(s.encode(av.VideoFrame.from_ndarray(image, format='rgb24').reformat(format=pix)))
        out.mux(s.encode())
    check(tmp_path/name)
    assert len(Video(tmp_path/name))==24 and scan(tmp_path/name).ok
    if form=='h264':                                             # only where the name says so
        (tmp_path/'b.mp4').write_bytes((tmp_path/name).read_bytes())
        with pytest.raises(VideoError, match='not a video'): Video(tmp_path/'b.mp4')

def test_frames_for_more_memory_than_there_may_be(made, monkeypatch):
    "Refused before anything is reserved, and the message says what lifts it; a size makes it small"
    video = Video(made('closed.mp4'))
    monkeypatch.setenv('TQN_MAX_BYTES', str(20*3*48*64))
    with pytest.raises(ValueError, match=f'50 pictures of 48 x 64 .* set TQN_MAX_BYTES={50*3*48*64}'): video.frames(range(50))
    assert len(video.frames(range(20)))==20 and len(video.frames(range(50), (24,32)))==50
    with pytest.raises(ValueError, match='TQN_MAX_BYTES'): module.Cropped(video, (0,0,60,48)).frames(range(50))
    monkeypatch.setenv('TQN_MAX_BYTES', str(50*3*48*64))
    assert len(video.frames(range(50)))==50

def test_a_box_is_cut_out_piece_by_piece(made, monkeypatch):
    video,asked = Video(made('closed.mp4')),[]
    monkeypatch.setattr(module, 'pieces', lambda h, w, most=32: 8)
    read = video.frames
    monkeypatch.setattr(video, 'frames', lambda i, size=None: (asked.append(len(i)), read(i, size))[1])
    box = module.Cropped(video, (8, 4, 40, 36))
    at = [40, 3, 3, 17, *range(20, 40)]
    got = box.frames(at)
    assert max(asked)<=8 and torch.equal(got, read(at)[:,4:36,8:40])
    assert torch.equal(box.frames(at, (16,16)), resize(read(at)[:,4:36,8:40], (16,16)))
    assert box.frames([]).shape==(0,32,32,3)

def test_pictures_without_numbers_in_their_names(tmp_path):
    for i,name in enumerate(('b','a','c')): Image.fromarray(np.full((8,8,3), 40*i, np.uint8)).save(tmp_path/f'{name}.png')
    with pytest.raises(VideoError, match='without a number in their names') as e: FrameFolder(tmp_path)
    advice = str(e.value).split('in which order? ')[1].split(' reads')[0]
    assert open_video(advice).frames([0,1,2])[:,0,0,0].tolist()==[40,0,80]
    Image.fromarray(np.zeros((8,8,3), np.uint8)).save(tmp_path/'d1.png')
    with pytest.raises(VideoError): open_video(tmp_path/'?.png')

def test_an_avi_with_empty_packets_is_whole(made, tmp_path):
    "A camera says 'as before' with an empty packet; its header counts those, too"
    path = tmp_path/'a.avi'
    with av.open(str(made('simple.avi'))) as f, av.open(str(path), 'w') as out:
        s,k = out.add_stream_from_template(f.streams.video[0]),0
        for p in f.demux(video=0):
            if p.dts is None: continue
            p.stream,p.pts,p.dts = s,k,k
            k += 1+5*(k%7==3)
            out.mux(p)
    with av.open(str(path)) as f: assert f.streams.video[0].frames>100
    assert sums(Video(path).frames(range(50)))==truth(made('simple.avi'))
    data = path.read_bytes()
    path.write_bytes(data[:len(data)//2])
    with pytest.raises(VideoError, match='cut short|damaged'): Video(path)

def test_a_matroska_file_with_a_hole(made, tmp_path):
    "Lengths that are wrong make FFmpeg skip frames without a word"
    for name in ('closed.mkv','vfr.mkv','late.mkv'):
        source = made(name) if name in KINDS else make(tmp_path/name, options={'x264-params':GOP})
        assert decode.broken_matroska(source) is None
        data = source.read_bytes()
        at = data.index(bytes.fromhex('1f43b675'))
        for k in (0, 3, 4, 6):
            b = bytearray(data); b[at+k] ^= 4
            (tmp_path/'bad.mkv').write_bytes(b)
            with pytest.raises(VideoError): Video(tmp_path/'bad.mkv').frames([0])

def test_pictures_larger_than_the_cap(made, folder, monkeypatch):
    "Refused with what to set, films and pictures alike; read in pieces by bytes"
    monkeypatch.setenv('TQN_MAX_PIXELS', '3000')
    for path in (made('closed.mp4'), folder):
        with pytest.raises(VideoError, match='48 x 64, more than 3000 pixels; set TQN_MAX_PIXELS=3072'): open_video(path).frames([0])
    monkeypatch.setenv('TQN_MAX_PIXELS', '3072')
    for path in (made('closed.mp4'), folder): assert len(open_video(path).frames([0]))==1
    monkeypatch.setenv('TQN_MAX_PIXELS', 'many')
    with pytest.raises(ValueError, match="whole number in TQN_MAX_PIXELS, got 'many'"): open_video(made('closed.mp4'))

def test_memory_is_pieces_by_bytes(monkeypatch):
    "32 pictures of a small film at a time, one of a very large film"
    assert [decode.pieces(*o) for o in ((48,64), (256,340), (1080,1920), (8000,8000))]==[32, 32, 10, 1]
    seen,plain = [],module.resize
    monkeypatch.setattr(module, 'resize', lambda x, size: seen.append(len(x)) or plain(x, size))
    images = [np.zeros((2000,3000,3), np.uint8)]*7
    assert module._stack(iter(images), 7, (20,30)).shape==(7,20,30,3) and seen==[3,3,1]

# ---------------------------------------------------------------- folders
@pytest.fixture
def folder(tmp_path):
    for i,image in enumerate(drawing(12)): Image.fromarray(image).save(tmp_path/f'img_{i+1}.jpg', quality=95)
    (tmp_path/'notes.txt').write_text('not a frame')
    return tmp_path

def test_folder(folder):
    video = open_video(folder, fps=10)
    assert (len(video), video.size, video.fps, round(video.duration, 6))==(12, (48,64), 10, 1.2)
    with Image.open(folder/'img_10.jpg') as o: assert np.array_equal(video.frames([9])[0].numpy(), np.asarray(o))
    assert video.frames([3,1,3]).shape==(3,48,64,3) and video.clips(1, 1).shape==(1,3,8,48,64)
    assert video.thumbnails(3, 24)[1].shape==(3,24,32,3)
    assert sums(pickle.loads(pickle.dumps(video)).frames([2]))==sums(video.frames([2]))
    for bad in (-1,12): pytest.raises(VideoError, video.frames, [bad])

@pytest.mark.parametrize('damage', (lambda b: b[:len(b)//2], lambda b: b'', lambda b: b'no image', lambda b: bytes(len(b))))
def test_folder_with_a_bad_frame(folder, damage):
    bad = folder/'img_4.jpg'
    bad.write_bytes(damage(bad.read_bytes()))
    video = FrameFolder(folder)
    assert len(video.frames([0,1,2,4]))==4
    with pytest.raises(VideoError, match='frame 3: img_4.jpg does not load') as e: video.frames([2,3])
    assert e.value.index==3

def test_folder_of_two_sizes(folder):
    Image.fromarray(next(drawing(1))[:40]).save(folder/'img_5.jpg')
    with pytest.raises(VideoError, match='like the first'): FrameFolder(folder).frames([4])

def test_folder_without_frames(tmp_path):
    with pytest.raises(VideoError, match='no .jpg'): open_video(tmp_path)
    with pytest.raises(VideoError, match='expected a folder'): FrameFolder(tmp_path/'none')

def fill(folder, names):
    folder.mkdir()
    for o,image in zip(names, itertools.cycle(drawing(40))): Image.fromarray(image).save(folder/o)
    return folder

def test_folder_of_several_kinds(tmp_path):
    "Pictures beside optical flow, two cameras, a mask beside every frame: refused until the path says which"
    rgb = [f'img_{i:05d}.jpg' for i in range(1, 13)]
    flow = fill(tmp_path/'flow', rgb+[f'flow_{a}_{i:05d}.jpg' for a in 'xy' for i in range(1, 13)])
    for read in (open_video, frame_files):
        with pytest.raises(VideoError, match='several kinds.*which are the frames'): read(flow)
    assert scan(flow).ok is False and 'several kinds' in scan(flow).reason
    video = open_video(flow/'img_*.jpg')
    assert video.names==rgb and scan(flow/'img_*.jpg').ok and scan(flow/'img_*.jpg').n_frames==12
    assert sums(video.frames([3]))==sums(pickle.loads(pickle.dumps(video)).frames([3]))
    assert decode.is_there(flow/'img_*.jpg') and not decode.is_there(tmp_path/'none'/'img_*.jpg')   # a table may name it
    cams = fill(tmp_path/'cams', [f'cam{c}_{i:05d}.jpg' for c in (1,2) for i in range(12)])
    with pytest.raises(VideoError, match=r'cam1_\*.jpg \(12\), cam2_\*.jpg \(12\)'): open_video(cams)
    assert open_video(str(cams/'cam2_*.jpg')).names==[f'cam2_{i:05d}.jpg' for i in range(12)]
    with pytest.raises(VideoError, match='no picture is named so'): open_video(cams/'cam7_*.jpg')
    masks = fill(tmp_path/'masks', [f'{i:03d}{o}.png' for i in range(9) for o in ('','_mask')])
    with pytest.raises(VideoError, match='several kinds'): open_video(masks)
    assert len(open_video(masks/'*.png'))==9

def test_folder_with_gaps(tmp_path):
    "Numbers that are missing are reported, and closed only when asked"
    there = [i for i in range(40) if i not in (10,11,12,20)]
    folder = fill(tmp_path/'gaps', [f'img_{i+1:05d}.jpg' for i in there])
    with pytest.raises(VideoError, match='img_00010.jpg is followed by img_00014.jpg, about 4 pictures are missing in 2 places'): open_video(folder)
    with pytest.raises(VideoError, match='gaps'): open_video(folder/'img_*.jpg')
    assert scan(folder).ok is False
    for video in (open_video(folder/'img_**.jpg'), FrameFolder(folder, gaps=True)): assert len(video)==36 and video.names[10]=='img_00014.jpg'
    assert len(open_video(fill(tmp_path/'tenth', [f'{i}.png' for i in range(0, 100, 10)])))==10          # every tenth is no gap
    assert len(open_video(fill(tmp_path/'times', [f't{i}_{40*i}ms.png' for i in range(8, 12)])))==4    # two numbers that go together
    with pytest.raises(VideoError, match='two pictures have the number 1'): open_video(fill(tmp_path/'twice', ('1.png','01.png','2.png')))

@given(st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True))
@settings(max_examples=50, deadline=None)
def test_gaps_are_found(numbers):
    "Against a plain loop"
    with tempfile.TemporaryDirectory() as folder:
        for o in numbers: Path(folder, f'f{o}.png').touch()
        steps = {b-a for a,b in zip(sorted(numbers), sorted(numbers)[1:])}
        if len(steps)<2: assert [o.name for o in frame_files(folder)]==[f'f{o}.png' for o in sorted(numbers)]
        else:
            with pytest.raises(VideoError, match='gaps'): frame_files(folder)

def test_grey_of_16_bits(tmp_path):
    "The whole range becomes 0 to 255, every value by the same rule"
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(deep).save(tmp_path/'1.png')
    got = open_video(tmp_path).frames([0])[0].numpy()
    assert np.array_equal(got[...,0], np.round(deep.astype(float)*255/65535)) and (got==got[...,:1]).all()
    assert read_picture(tmp_path/'1.png', 0).dtype==np.uint8

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='makes a pipe')
def test_a_pipe_is_no_picture(tmp_path):
    "It would never answer"
    fill(tmp_path/'f', ('1.png','2.png'))
    os.mkfifo(tmp_path/'f'/'3.png')
    with pytest.raises(VideoError, match='3.png is a folder or a device'): open_video(tmp_path/'f').frames([2])

# ---------------------------------------------------------------- writing
@pytest.mark.parametrize('h,w', ((48,64), (47,63), (33,64), (2,2)))
def test_written_is_read(tmp_path, h, w):
    frames = np.stack([np.asarray(Image.fromarray(o).resize((w,h))) for o in drawing(20)])
    write_video(tmp_path/'a.mp4', frames, fps=12.5, crf=5, gop=6)
    video = Video(tmp_path/'a.mp4')
    assert (len(video), video.fps, video.size)==(20, 12.5, (h+h%2, w+w%2))
    assert video.index.keys[0]==0 and np.diff(np.append(video.index.keys, 20)).max()<=6
    if min(h, w)>8: assert np.abs(video.frames(range(20)).numpy()[:,:h,:w].astype(int)-frames).mean()<12
    with av.open(str(tmp_path/'a.mp4')) as f: assert (f.streams.video[0].codec_context.name, f.streams.video[0].pix_fmt, len(f.streams))==('h264', 'yuv420p', 1)
    data = (tmp_path/'a.mp4').read_bytes()
    assert data.index(b'moov')<data.index(b'mdat')               # plays while it loads

def failing():
    yield from drawing(5)
    raise KeyError('no more')

@pytest.mark.parametrize('frames,error', ((failing, KeyError), (lambda: [], ValueError), (lambda: [np.zeros((4,4), np.uint8)], ValueError), (lambda: [np.zeros((4,4,3))], ValueError)))
def test_failed_write_leaves_what_was_there(tmp_path, frames, error):
    (tmp_path/'a.mp4').write_bytes(b'precious')
    with pytest.raises(error): write_video(tmp_path/'a.mp4', frames())
    assert [(o.name, o.read_bytes()) for o in tmp_path.iterdir()]==[('a.mp4', b'precious')]

def test_nowhere_to_write(tmp_path):
    (tmp_path/'folder.mp4').mkdir()
    (tmp_path/'file').write_text('')
    for path in (tmp_path/'none'/'a.mp4', tmp_path/'folder.mp4', tmp_path/'file'/'a.mp4', Path('/proc/a.mp4')):
        with pytest.raises(VideoError, match='cannot write here'): write_video(path, drawing(5))
    assert sorted(o.name for o in tmp_path.iterdir())==['file','folder.mp4']

def full_disk(folder):
    "Runs in a process whose files may not grow beyond 3 kB, as on a disk that fills up"
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try: write_video(Path(folder, 'a.mp4'), np.random.default_rng(0).integers(0, 255, (30,96,96,3)).astype(np.uint8))
    except VideoError as e: print('VideoError', e)

def test_full_disk(tmp_path):
    (tmp_path/'a.mp4').write_bytes(b'precious')
    run = subprocess.run([sys.executable, __file__, 'full', str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert run.stdout.startswith('VideoError') and 'nothing that was there has changed' in run.stdout, run.stdout+run.stderr[-500:]
    assert [(o.name, o.read_bytes()) for o in tmp_path.iterdir()]==[('a.mp4', b'precious')]

if __name__=='__main__': full_disk(sys.argv[2]) if sys.argv[1]=='full' else child(sys.argv[1])

@given(st.integers(1, 400), st.integers(1, 16), st.integers(1, 8))
def test_fit_stride_is_the_largest_that_fills_a_clip(n, clip_len, stride):
    fills = [s for s in range(1, stride + 1) if len(range(0, n, s)) >= clip_len]
    assert fit_stride(n, clip_len, stride) == max(fills, default=1)
