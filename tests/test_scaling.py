"Films made small while they are decoded: the same pictures as the exact way to about a grey level, never without being named, and the exact way to the bit what it was"
import json, os
from fractions import Fraction
import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close
from tqn import QuerySet, TQN
from tqn.attention.answer import answer
from tqn.data.batches import ClipDataset, FrameCache, WholeVideos, WindowDataset, make_loader
from tqn.data.items import Item, open_item
from tqn.features.bank import FeatureBank, build_bank
from tqn.features.store import extract, feature_notes, features_backbone, made_by
from tqn.features.stream import stream
from tqn.training.chain import make_model, model_settings
from tqn.training.run import run_record, same_run
from tqn.training.settings import resolve
from tqn.video.decode import Decoder, VideoError, known_scan, read_frames, scan, stored_sum
from tqn.video.transforms import IMAGENET_MEAN, IMAGENET_STD, Crop, EvalTransform, Preprocess, TrainTransform, clip_grid, split_transform
from tqn.video.video import Composed, Cropped, Excerpt, FrameFolder, Video, view_clips, write_video

QS = QuerySet({'colour': ['red', 'blue']})
GREY = 2.2 # at most so many levels of 255 apart, on average over a film with strong colours; about one of it is how FFmpeg rounds
def gen(seed): return torch.Generator().manual_seed(seed)

class Mean(nn.Module):
    "The mean colour of the quarters of a clip"
    d_out = 12
    def __init__(self): super().__init__(); self.layer = nn.Linear(12, 12)
    def forward(self, x): return self.layer(nn.functional.adaptive_avg_pool3d(x, (1, 2, 2)).flatten(1))
    def __repr__(self): return 'Mean()'

def model(**more):
    torch.manual_seed(0)
    return TQN(QS, backbone=Mean(), d_model=8, n_layers=1, n_heads=1, preprocess=dict(clip_len=4, size=16, resize=16, **more)).eval()

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

def scene(n, h, w, seed=0):
    "Strong colours with soft and hard edges, moving"
    g = np.random.default_rng(seed)
    ground = np.asarray(Image.fromarray(g.integers(0, 256, (4,6,3)).astype(np.uint8)).resize((w+4*n, h), Image.BICUBIC)).copy()
    for i in range(n):
        image = ground[:,3*i:3*i+w].copy()
        image[h//4:h//2,(5*i)%(w//2):(5*i)%(w//2)+w//4] = (230,40,30)
        yield image

EIGHT = {1: (1,0,0,1), 2: (-1,0,0,1), 3: (-1,0,0,-1), 4: (1,0,0,-1), 5: (0,1,1,0), 6: (0,1,-1,0), 7: (0,-1,-1,0), 8: (0,-1,1,0)}

def film(path, h=90, w=160, n=16, codec='libx264', form='yuv420p', space=None, full=False, shape=None, matrix=None, options={}):
    "A film of `scene`; colour matrix and range as they are tagged, which is also how the pixels are meant"
    with av.open(str(path), 'w') as out:
        s = out.add_stream(codec, rate=25, options={'g': '6', **options})
        s.width,s.height,s.pix_fmt,s.codec_context.thread_count = w,h,form,1
        if space: s.codec_context.colorspace = space
        if full: s.codec_context.color_range = 2
        if shape: s.codec_context.sample_aspect_ratio = shape
        if matrix:
            a,b,c,d = (round(o*65536) for o in matrix)
            s.set_display_matrix([a,b,0, c,d,0, 0,0,1<<30])
        for image in scene(n, h, w): out.mux(s.encode(av.VideoFrame.from_ndarray(image, format='rgb24').reformat(format=form, dst_colorspace=space, dst_color_range=2 if full else None)))
        out.mux(s.encode())
    return path

@pytest.fixture(scope='module')
def plain(tmp_path_factory): return film(tmp_path_factory.mktemp('film')/'a.mp4')

def both(source, view, seed=0, n=None):
    "A transform's clips, exact and fast, with what is left to do"
    grid = clip_grid(len(source) if n is None else n, 4)
    return [next(view_clips(source, grid, [type(view)(**{**vars(view), 'scaling': s})], [gen(seed)])) for s in ('exact', 'fast')]

def apart(source, view, seed=0):
    "Mean difference, and that of each colour's mean; the draws must be the same"
    (a,left),(b,same) = both(source, view, seed)
    assert left==same and a.shape==b.shape and a.dtype==b.dtype==torch.uint8
    d = b.float()-a.float()
    return d.abs().mean().item(), d.mean((0,2,3,4)).abs().max().item()

# ---------------------------------------------------------------- exact is what it was
def test_the_default_is_exact_and_has_the_old_names():
    "Names of features, banks, files: as before there was a choice"
    assert repr(EvalTransform(8, resize=8)) == f'EvalTransform(size=8, mean={IMAGENET_MEAN}, std={IMAGENET_STD}, resize=8)'
    assert repr(TrainTransform(8)) == f'TrainTransform(size=8, stage=1, mean={IMAGENET_MEAN}, std={IMAGENET_STD}, scale=(0.7, 1.0), ratio=(0.75, 1.3333333333333333), crop_p=0.8, flip_p=0.5, jitter=(0.4, 0.7, 0.7, 0.25))'
    assert Preprocess(hop=2).to_dict() == dict(clip_len=8, stride=1, hop=2, size=224, resize=None, mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD))
    old = dict(clip_len=8, stride=1, size=64, resize=64, mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD))
    assert Preprocess.from_dict(old).scaling == 'exact' and Preprocess.of(None, {**old, 'scaling': 'fast'}).clean_view().scaling == 'fast'
    assert repr(EvalTransform(8, resize=8, scaling='fast')) == repr(EvalTransform(8, resize=8))[:-1] + ", scaling='fast')"
    for wrong in ('quick', None, 1):
        with pytest.raises((ValueError, TypeError)): EvalTransform(8, scaling=wrong)
    with pytest.raises(ValueError, match="scaling has no value 'fst'; nearest known spelling: 'fast'"): Preprocess(scaling='fst')

@pytest.mark.parametrize('view', [EvalTransform(24), EvalTransform(24, box=(.1,.2,.9,1)), TrainTransform(24), TrainTransform((20,30), 2, box=(11,3,140,81))], ids=['clean', 'clean box', 'train', 'train box'])
def test_exact_is_what_it_was_to_the_bit(plain, view):
    "Against the arithmetic written out: cut, resize, crop"
    from tqn.video.transforms import crop_resize, cut_box, draw_jitter, flip, random_crop_box
    clips = Video(plain).clips(0, None, 4)
    for seed in range(4):
        (found,colours),_ = both(Video(plain), view, seed)
        x,g = cut_box(clips, view.box),gen(seed)
        h,w = x.shape[-2:]
        if isinstance(view, EvalTransform):
            to = [max(view.resize, round(s*view.resize/min(h, w))) for s in (h, w)]
            top,left = ((s-24)//2 for s in to)
            want = crop_resize(x, (0,0,h,w), to)[...,top:top+24,left:left+24]
        else:
            want = flip(crop_resize(x, random_crop_box(h, w, g, view.scale, view.ratio, view.crop_p), view.size), g, view.flip_p)
            assert torch.equal(torch.tensor(colours.amounts), draw_jitter(len(clips), g, view.jitter)[0])
        assert torch.equal(found, want) and torch.equal(found, split_transform(view, clips, gen(seed))[0])

# ---------------------------------------------------------------- fast is the same picture
KINDS = {'odd.avi': dict(h=91, w=161, codec='mpeg4'), 'odd.webm': dict(h=93, w=157, codec='libvpx-vp9', options={'cpu-used': '8'}), 'portrait.mp4': dict(h=160, w=90), 'square.mkv': dict(h=120, w=120), '422.mp4': dict(form='yuv422p'), '444.mp4': dict(form='yuv444p'),
    '709.mp4': dict(space=1), 'full.mp4': dict(full=True, form='yuvj420p'), '709 full.mp4': dict(space=1, full=True, form='yuvj420p'), 'anamorphic.mp4': dict(h=120, w=90, shape=Fraction(16,9)), 'interlaced.mkv': dict(h=96, codec='mpeg2video', options={'flags': '+ildct+ilme'}),
    'open.mp4': dict(options={'x264-params': 'keyint=6:bframes=3:open-gop=1'}), **{f'turned {k}.mp4': dict(matrix=m) for k,m in EIGHT.items()}}

@pytest.mark.parametrize('name', KINDS)
def test_fast_is_near(tmp_path, name):
    "Every kind of film, clean and random views, boxes of odd and even pixels; a wrong matrix, range or turn would be tens of levels off. An odd number of lines is read exactly"
    video = Video(film(tmp_path/name.replace(' ', ''), **KINDS[name]))
    for size in (16, 24, 41):
        for view in (EvalTransform(size), EvalTransform(size, box=(.05,.11,.93,.96)), TrainTransform(size), TrainTransform(size, box=(3,5,84,80))):
            for seed in range(1 if isinstance(view, EvalTransform) else 3):
                mean,colour = apart(video, view, seed)
                assert mean<GREY and colour<GREY+.3, (name, view, seed, mean, colour)

def test_colours_are_those_of_the_films_own_matrix_and_range(tmp_path):
    "The same bytes, tagged in four ways, are four films; fast follows each as exact does"
    seen = []
    for k,(space,full) in enumerate(((None, False), (1, False), (None, True), (1, True))):
        with av.open(str(tmp_path/f'{k}.mp4'), 'w') as out:
            s = out.add_stream('libx264', rate=25)
            s.width,s.height,s.pix_fmt = 160,90,'yuv420p'
            if space: s.codec_context.colorspace = space
            if full: s.codec_context.color_range = 2
            for image in scene(4, 90, 160):
                f = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(format='yuv420p')
                f.colorspace,f.color_range = space or 2, 2 if full else 1
                out.mux(s.encode(f))
            out.mux(s.encode())
        (a,_),(b,_) = both(Video(tmp_path/f'{k}.mp4'), EvalTransform(24))
        assert (a.float()-b.float()).abs().mean()<GREY
        seen.append(b.float())
    assert min((seen[i]-seen[j]).abs().mean() for i in range(4) for j in range(i))>3

def test_how_a_picture_lies(tmp_path):
    "A fast crop of a turned and mirrored film is that crop of what is shown, pixel by pixel of a coarse picture"
    source = film(tmp_path/'a.mp4', h=96, w=160, n=4)
    for k,m in EIGHT.items():
        video = Video(film(tmp_path/f'{k}.mp4', h=96, w=160, n=4, matrix=m))
        h,w = video.size
        for box in ((0,0,h,w), (8,24,64,50), (31,5,48,80)):
            c = Crop(box, (box[2]//2, box[3]//2))
            fast,exact = video.crops([2], lambda *size: [c])[0], c(video.frames([2]).permute(3,0,1,2)[None])[0].permute(1,0,2,3)
            far = [(o.float()-exact.float()).abs().mean() for o in (fast, fast.flip(-1), fast.flip(-2), fast.flip(-1, -2))]
            assert (h,w)==((96,160) if k<5 else (160,96)) and far[0]<GREY+1 and min(far[1:])>10

def test_any_order_repeats_stretches_boxes_and_films_put_together(plain, tmp_path):
    video = Video(plain)
    plan = lambda h,w: [EvalTransform(16, scaling='fast').crop(h, w), Crop((11,3,60,71), (20,30))]
    all_of_it,part = video.crops(range(16), plan)
    assert all_of_it.shape==(16,3,16,16) and part.shape==(16,3,20,30)
    a,b = video.crops([7,2,7,15], plan)
    assert torch.equal(a, all_of_it[[7,2,7,15]]) and torch.equal(b, part[[7,2,7,15]])
    assert torch.equal(Excerpt(video, .08, .4).crops([0,3], plan)[1], part[[2,5]])
    boxed = Cropped(video, (10,7,131,80))
    assert torch.equal(boxed.crops([3], lambda h,w: [Crop((2,5,h-3,w-9), (20,30))])[0], video.crops([3], lambda h,w: [Crop((9,15,70,112), (20,30))])[0])
    made = Composed([(plain, 4, 6, 2), (plain, 0, 1, 1)])
    assert torch.equal(made.crops([4,0,1,3], plan)[1], part[[0,4,4,5]])
    other = film(tmp_path/'b.mp4', h=80, w=100, n=4)
    with pytest.raises(VideoError, match='pictures of different sizes'): Composed([(plain, 0, 2, 1), (other, 0, 2, 1)]).crops([0,2], plan)
    assert [tuple(o.shape)[:2] for o in video.crops([], plan)]==[(0,3)]*2
    with pytest.raises(VideoError, match='from 0 to 15'): video.crops([16], plan)
    drawn = []
    video.crops([9,1], lambda h,w: drawn.append((h,w)) or plan(h, w))
    assert drawn==[(90,160)]                                          # asked once, so that randomness is drawn once

def test_what_cannot_be_done_fast_is_done_exactly(plain, tmp_path):
    "Pictures, ten bits, RGB, FFV1, hardly smaller, resized while reading, decord: the same bytes"
    folder = tmp_path/'pictures'; folder.mkdir()
    for i,image in enumerate(scene(8, 60, 80)): Image.fromarray(image).save(folder/f'{i}.jpg')
    sources = [FrameFolder(folder), *(Video(film(tmp_path/name, **how)) for name,how in {'ten.mp4': dict(form='yuv420p10le'), 'rgb.mp4': dict(codec='libx264rgb', form='rgb24'), 'v1.mkv': dict(codec='ffv1')}.items())]
    try: sources.append(Video(plain, engine='decord'))
    except VideoError: pass                                           # not installed, or not proved here
    for source in sources:
        for view in (EvalTransform(16), TrainTransform(16)):
            (a,_),(b,_) = both(source, view, 1)
            assert torch.equal(a, b), source
    (a,_),(b,_) = both(Video(plain), EvalTransform(84, resize=84))
    assert torch.equal(a, b)
    a,b = (next(view_clips(Video(plain), clip_grid(16, 4), [EvalTransform(16, scaling=s)], [None], size=(45,80)))[0] for s in ('exact', 'fast'))
    assert torch.equal(a, b)
    clips = Video(plain).clips(0, 2)
    assert torch.equal(EvalTransform(16, scaling='fast')(clips), EvalTransform(16)(clips))

# ---------------------------------------------------------------- exactly these frames
def test_a_film_that_rotted_is_refused(plain, tmp_path):
    "Other bits, the same size and time: a frame is that of the scan, or an error"
    path,data,refused = tmp_path/'a.mp4',plain.read_bytes(),0
    path.write_bytes(data)
    when,plan = os.stat(path),lambda h,w: [EvalTransform(16).crop(h, w)]
    assert scan(path).ok
    want, = Video(path).crops(range(16), plan)
    for seed in range(12):
        b = bytearray(data); b[int(np.random.default_rng(seed).integers(len(b)//4, len(b)*3//4))] ^= 4
        path.write_bytes(b); os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
        assert known_scan(path).ok
        for i in range(0, 16, 3):
            try: assert torch.equal(Video(path).crops([i], plan)[0], want[[i]])
            except VideoError as e: refused += 'other pixels than when it was scanned' in str(e) or 'damaged' in str(e)
    assert refused

def test_the_sum_of_a_frame_sees_every_plane_and_column(tmp_path):
    decoder = Decoder(film(tmp_path/'a.avi', h=91, w=157, codec='mpeg4', n=2))
    from tqn.video.decode import make_index
    picture = next(read_frames(decoder, make_index(decoder), [0], as_stored=True))
    base = stored_sum(decoder, picture)
    def copy(change=None):
        "The frame again, with one sample changed: plane, row, column"
        other = av.VideoFrame(picture.width, picture.height, picture.format.name)
        for k,(a,b) in enumerate(zip(picture.planes, other.planes)):
            values = np.zeros((b.height, b.line_size), np.uint8)
            values[:,:a.width] = np.frombuffer(a, np.uint8).reshape(a.height, a.line_size)[:,:a.width]
            if change and change[0]==k: values[change[1:]] ^= 1
            b.update(values)
        return other
    assert stored_sum(decoder, copy())==base
    for k,p in enumerate(picture.planes):
        for y,x in ((0,0), (p.height-1,p.width-1), (p.height//2,p.width//2)): assert stored_sum(decoder, copy((k,y,x)))!=base

def test_a_scan_of_an_earlier_version_is_made_again(plain, tmp_path, monkeypatch):
    monkeypatch.setenv('TQN_CACHE', str(tmp_path))
    found = scan(plain)
    assert len(found.checksums())==len(found.checksums(stored=True))==16
    file, = (tmp_path/'scans').iterdir()
    kept = json.loads(file.read_text()); kept['scan']['stored'] = 'AAAA'; file.write_text(json.dumps(kept))
    assert known_scan(plain) is None and scan(plain)==found
    kept['scan']['stored'] = ''; file.write_text(json.dumps(kept))
    assert Video(plain).crops([3], lambda h,w: [Crop((0,0,h,w), (20,30))])[0].shape==(1,3,20,30)      # not compared with what nobody knows

# ---------------------------------------------------------------- it travels
def test_every_reader_reads_fast(plain, tmp_path):
    "Loaders, streams in pieces and from the middle, store, bank, answers: the rows of the fast view; none of them those of the exact one"
    item,m,old = Item('a', plain, {'colour': 'red'}),model(scaling='fast'),model()
    grid = clip_grid(16, 4)
    clips = next(view_clips(Video(plain), grid, [m.preprocess.clean_view()], [None]))
    with torch.no_grad(): rows = m.backbone(clips[1](clips[0]))
    how = dict(clip_len=4, transform=m.preprocess.clean_view())
    for data in (ClipDataset([item], QS, **how), WindowDataset([item], QS, 'full', jitter=False, **how)): assert torch.equal(data[0]['clips'], clips[1](clips[0]))
    one, = WholeVideos([item], QS, **how)
    again, = stream(m.backbone, [one['video']], **one['reading'])
    parts = torch.cat([o.rows for o in stream(m.backbone, [item], m.preprocess, pieces=True, batch_clips=1)])
    late = torch.cat([o.rows for o in stream(m.backbone, [item], m.preprocess, pieces=True, begin={'a': 2})])
    two, = stream(m.backbone, [item], m.preprocess, [m.preprocess.clean_view(), old.preprocess.clean_view()])
    store,bank = extract(m.backbone, [item], tmp_path/'store', m.preprocess, progress=False),build_bank(m, [item], tmp_path/'bank', progress=False)
    for o in (again.rows[0], parts, two.rows[0], store.read('a'), bank.read(['a'])[0][0], torch.cat([rows[:2], late])): assert_close(o, rows)
    bank.close()
    exact, = stream(old.backbone, [item], old.preprocess)
    assert_close(two.rows[1], exact.rows); assert not torch.equal(exact.rows, rows) and (exact.rows-rows).abs().max()<.05

def test_random_clips_in_workers_are_those_of_one_process(plain):
    data = ClipDataset([Item(f'{i}', plain, {'colour': 'red'}) for i in range(4)], QS, 4, transform=TrainTransform(16, scaling='fast'), max_clips=2, random_clips=True)
    exact = ClipDataset(data.items, QS, 4, transform=TrainTransform(16), max_clips=2, random_clips=True)
    for a,b,c in zip(make_loader(data, 2, shuffle=True, workers=0), make_loader(data, 2, shuffle=True, workers=2), make_loader(exact, 2, shuffle=True, workers=0)):
        assert a['id']==b['id']==c['id'] and torch.equal(a['x'], b['x']) and 0<(a['x']-c['x']).abs().mean()<GREY/255/.22*1.8       # normalised and jittered

def test_memory_of_frames_is_refused(plain):
    cache = FrameCache()
    with pytest.raises(ValueError, match='a FrameCache keeps frames as RGB.*leave the cache out'): WindowDataset([Item('a', plain, {'colour': 'red'})], QS, 'full', clip_len=4, transform=EvalTransform(16, scaling='fast'), opener=cache)[0]

def test_a_box_that_does_not_fit_is_told_with_the_films_name(plain):
    item,p = Item('a', plain, {'colour': 'red'}),Preprocess(4, size=16, box=(0,0,500,20), scaling='fast')
    with pytest.raises(ValueError, match="video 'a'.*does not lie in a picture of 160 x 90"): ClipDataset([item], QS, 4, transform=p.clean_view())[0]
    with pytest.raises(ValueError, match="video 'a'.*does not lie in a picture of 160 x 90"): list(stream(Mean().eval(), [item], p))
    assert [o.rows for o in stream(Mean().eval(), [item], p, on_error='skip')]==[None]

def test_stores_and_banks_name_it_and_refuse_the_other(plain, tmp_path):
    item = Item('a', plain, {'colour': 'red'})
    for mine,other in (('exact', 'fast'), ('fast', 'exact')):
        m,n,folder = model(scaling=mine),model(scaling=other),tmp_path/mine
        extract(m.backbone, [item], folder/'s', m.preprocess, progress=False)
        assert feature_notes(folder/'s')['preprocess'].get('scaling', 'exact')==mine and Preprocess.from_dict(feature_notes(folder/'s')['preprocess'])==m.preprocess
        assert made_by(folder/'s', m.backbone, m.preprocess) and not made_by(folder/'s', m.backbone, n.preprocess)
        with pytest.raises(ValueError, match='another backbone or preprocessing'): extract(m.backbone, [item], folder/'s', n.preprocess, progress=False)
        build_bank(m, [item], folder/'b', progress=False).close()
        with pytest.raises(ValueError, match='was built with'): build_bank(n, [item], folder/'b', progress=False)
        assert ("scaling='fast'" in (folder/'b'/'build.json').read_text())==(mine=='fast')
    assert len({feature_notes(tmp_path/o/'s')['digest'] for o in ('exact', 'fast')})==2

def test_checkpoints_keep_it_and_old_ones_are_exact(plain, tmp_path):
    for scaling in ('exact', 'fast'):
        m = model(scaling=scaling)
        m.save_pretrained(tmp_path/scaling)
        said = json.loads((tmp_path/scaling/'config.json').read_text())['preprocess']
        assert ('scaling' in said)==(scaling=='fast')                 # an earlier version opens what was trained exactly
        again = TQN.from_pretrained(tmp_path/scaling, backbone=Mean()).eval()
        assert again.preprocess==m.preprocess and Preprocess.of(again).scaling==scaling
        found, = stream(again.backbone, [plain], Preprocess.of(again))
        want, = stream(m.backbone, [plain], m.preprocess)
        assert torch.equal(found.rows, want.rows)

def test_settings_follow_the_model_and_an_old_run_is_exact(tmp_path):
    small = dict(size=16, resize=16, width=.0625, d_model=16, n_layers=1, n_heads=2, device='cpu')
    r = resolve(1, scaling='fast', **small)
    m = make_model(r.settings, QS)
    assert Preprocess.of(m).scaling=='fast' and resolve(1).settings.scaling=='exact'
    assert model_settings(m, resolve(2)).settings.scaling=='fast'
    with pytest.raises(ValueError, match='scaling=fast, and the flag says exact'): model_settings(m, resolve(2, scaling='exact'))
    assert model_settings(make_model(resolve(1, **small).settings, QS), resolve(2)).settings.scaling=='exact'
    with pytest.raises(ValueError, match="setting scaling has no value 'fst'; nearest known spelling: 'fast'"): resolve(1, scaling='fst')
    now = lambda scaling: dict(settings=dict(epochs=2, scaling=scaling))
    (tmp_path/'run.json').write_text(json.dumps(dict(settings=dict(epochs=2))))         # of a version before there was a choice
    same_run(tmp_path, now('exact'))
    with pytest.raises(ValueError, match="scaling was 'exact', now 'fast'"): same_run(tmp_path, now('fast'))

def test_commands_have_the_flag(tmp_path, capsys):
    "features and train take it; what they make names it; what they say next has it"
    from tqn.cli.main import load_commands, parameters, run
    load_commands()
    assert all('scaling' in parameters(c) for c in ('features', 'train', 'bank'))
    for i in range(4): film(tmp_path/f'{i}.mp4', n=10)
    (tmp_path/'t.csv').write_text('path,colour,split\n'+''.join(f'{i}.mp4,{"red" if i%2 else "blue"},{"train" if i<2 else "val"}\n' for i in range(4)))
    def say(*args): return run([*map(str, args)]), ''.join(capsys.readouterr())
    status,text = say('features', tmp_path/'t.csv', tmp_path/'f', '--scaling', 'fast', '--split', 'train', '--quiet', '--workers', 0)
    assert feature_notes(tmp_path/'f')['preprocess']['scaling']=='fast' and '--scaling fast' in text and status==0
    assert features_backbone(tmp_path/'f').preprocess.scaling=='fast'
    status,text = say('features', tmp_path/'t.csv', tmp_path/'f', '--quiet')                    # the other way: another folder
    assert status and 'another backbone or preprocessing' in text
    status,text = say('features', tmp_path/'t.csv', tmp_path/'g', '--scaling', 'fst', '--quiet')
    assert status and "nearest known spelling: 'fast'" in text
    status,text = say('train', tmp_path/'t.csv', '--out', tmp_path/'run', '--backbone', 'dives', '--size', 16, '--resize', 16, '--scaling', 'fast', '--d-model', 16, '--n-layers', 1, '--n-heads', 2, '--epochs', 1, '--batch-size', 2, '--workers', 0, '--device', 'cpu', '--quiet')
    assert status==0, text
    assert json.loads((tmp_path/'run'/'best'/'config.json').read_text())['preprocess']['scaling']=='fast'
