"Features: true times, extraction that is killed and goes on, several processes, other people's folders, the command"
import io, json, os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close
from tqn import QuerySet, S3D, TQN
from tqn.cli.main import run
from tqn.data import check as check_room
from tqn.models import backbone as backbone_room
from tqn.models.backbone import has_bf16
from tqn.models.adapters import save_backbone
from tqn.data.items import Item
from tqn.data.batches import collate
from tqn.features.store import FeatureStore, check_features, extract, feature_notes, made_by
from tqn.features.stream import Timing, stream
from tqn.attention.answer import answer_features
from tqn.video.transforms import EvalTransform, Preprocess
from tqn.video.video import open_video, write_video

QS = QuerySet({'way': ['left', 'right']})

@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    "Six videos of noise, lengths 9 to 49"
    folder = tmp_path_factory.mktemp('videos')
    g = torch.Generator().manual_seed(0)
    for i in range(6): write_video(folder/f'v{i}.mp4', torch.randint(0, 255, (9 + 8*i, 32, 32, 3), dtype=torch.uint8, generator=g), fps=20.)
    return [Item(f'v{i}', folder/f'v{i}.mp4', {'way': 'left' if i % 2 else 'right'}) for i in range(6)]

def small(seed=0):
    torch.manual_seed(seed)
    net = S3D(width=.0625).eval()
    net.preprocess = dict(clip_len=8, stride=1, size=32, mean=[.4]*3, std=[.2]*3)
    return net

@given(st.floats(1, 40), st.floats(0, 40), st.integers(1, 30), st.integers(0, 60))
def test_every_frame_has_one_feature(hop, more, n, extra):
    "Stretches tile the video, whatever the hop and the span"
    t = Timing(hop, hop + more, 25., round(hop*(n-1) + hop + more) + extra)
    f = t.frames(n)
    assert f[0, 0] == 0 and f[-1, 1] >= t.n_frames and (f[1:, 0] == f[:-1, 1]).all() and (f[:, 1] > f[:, 0]).all()
    middle = hop*np.arange(n) + (hop + more)/2
    assert (abs(f[1:-1].mean(1) - middle[1:-1]) <= 1).all()

def test_against_a_plain_loop(videos, tmp_path):
    "The features are those of the backbone, clip by clip"
    net = small()
    store = extract(net, videos, tmp_path/'f', progress=False)
    view = EvalTransform(32, [.4]*3, [.2]*3)
    for item in videos:
        clips = view(open_video(item.path).clips(0, None))
        with torch.no_grad(): want = torch.cat([net(c[None]) for c in clips])
        assert_close(store.read(item.id), want, rtol=1e-4, atol=1e-4)
        t = store.timing(item.id)
        assert (t.hop, t.fps, t.n_frames) == (8, 20., len(open_video(item.path))) and len(t.frames(len(want))) == len(want)
    assert check_features(store, videos) == []

SCRIPT = '''
import sys, torch
from tqn.models.adapters import open_backbone
from tqn.features.store import extract
from tqn.data.items import Item
from pathlib import Path
def main():
    net = open_backbone(sys.argv[1]); net.preprocess = dict(clip_len=8, stride=1, size=32, mean=[.4]*3, std=[.2]*3)
    items = [Item(p.stem, p) for p in sorted(Path(sys.argv[2]).glob('*.mp4'))]
    print('start', flush=True)
    extract(net, items, sys.argv[3], processes=int(sys.argv[4]), progress=False)
if __name__ == '__main__': main()
'''

def test_two_processes_and_a_kill(videos, tmp_path):
    "Two processes give the files of one; killed after the first file, the same call finishes the rest and touches none"
    net = small()
    save_backbone(net, tmp_path/'net.safetensors')
    (tmp_path/'run.py').write_text(SCRIPT)
    folder = Path(videos[0].path).parent
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    p = subprocess.Popen([sys.executable, str(tmp_path/'run.py'), str(tmp_path/'net.safetensors'), str(folder), str(tmp_path/'f'), '1'], env=env, start_new_session=True)
    end = time.monotonic() + 60
    while not list((tmp_path/'f').glob('*.safetensors')) and p.poll() is None and time.monotonic() < end: time.sleep(.01)
    os.killpg(p.pid, signal.SIGKILL); p.wait()
    before = {f.name: f.stat().st_mtime_ns for f in (tmp_path/'f').glob('*.safetensors')}
    assert before
    for name in before: FeatureStore(tmp_path/'f').read(name.removesuffix('.safetensors'))  # whole, whenever the kill came
    done = subprocess.run([sys.executable, str(tmp_path/'run.py'), str(tmp_path/'net.safetensors'), str(folder), str(tmp_path/'f'), '2'], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    after = {f.name: f.stat().st_mtime_ns for f in (tmp_path/'f').glob('*.safetensors')}
    assert len(after) == 6 and all(after[k] == v for k, v in before.items())
    one = extract(small(), videos, tmp_path/'one', progress=False)
    for i in one.ids: assert_close(FeatureStore(tmp_path/'f').read(i), one.read(i), rtol=1e-4, atol=1e-4)

def test_train_and_ask(videos, tmp_path):
    "A data set, a batch, an answer with the times of the film; other people's hop and fps"
    store = extract(small(), videos, tmp_path/'f', progress=False, dtype=torch.float16)
    d = store.read('v0').shape[1]
    batch = collate([store.dataset(videos, QS)[i] for i in range(3)])
    assert batch['x'].shape == (3, 4, d) and batch['x'].dtype == torch.float32
    model = TQN(QS, d_model=16, n_layers=1, n_heads=2, d_features=d).eval()
    assert model(batch['x'], batch['valid']).responses['way'].shape == (3, 2)
    a = answer_features(model, store, 'v5', videos[5], n_thumbs=3)
    assert a.frames[-1].tolist() == [48, 49] and a.times[0, 1] == pytest.approx(.4) and len(a.thumbs) == 3 and a.attn.shape[-1] == 7
    np.save(tmp_path/'x.npy', np.zeros((4, d), 'float32'))
    foreign = FeatureStore(tmp_path, hop=4, span=16, fps=10)
    assert answer_features(model, foreign, 'x').times.tolist() == [[0, 1], [1, 1.4], [1.4, 1.8], [1.8, 2.8]]
    with pytest.raises(ValueError, match='another file, or another hop'): answer_features(model, foreign, 'x', videos[0])

def test_bad_folders(videos, tmp_path):
    "Each fault is named, and nothing is overwritten"
    with pytest.raises(ValueError, match='found none'): FeatureStore(tmp_path/'none')
    with pytest.raises(ValueError, match='holds no .npy'): FeatureStore(tmp_path)
    np.save(tmp_path/'a.npy', np.zeros((3, 4), 'float32'))
    np.save(tmp_path/'o.npy', np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path/'features.json').write_text('{"hop": -1, "fps": 25}')
    store = FeatureStore(tmp_path)
    with pytest.raises(ValueError, match='hop of features as a number of at least 1, got -1'): store.timing('a')
    with pytest.raises(ValueError, match='no readable features'): store.read('o')  # a pickle inside, refused
    said = ' '.join(check_features(store, [Item('a'), Item('b')]))
    assert "'b' has no features" in said and "'o' belong to no video" in said
    with pytest.raises(ValueError, match='not from this kit'): extract(small(), videos, tmp_path, progress=False)
    (tmp_path/'features.json').unlink()
    with pytest.raises(ValueError, match='did not make'): extract(small(), videos, tmp_path, progress=False)
    extract(small(), videos[:1], tmp_path/'f', progress=False)
    with pytest.raises(ValueError, match='another backbone'): extract(small(1), videos, tmp_path/'f', progress=False)
    with pytest.raises(ValueError, match='have no path'): extract(small(), [Item('x')], tmp_path/'f', progress=False)

def test_command(videos, tmp_path):
    "tqn features: a manifest, the same again, a backbone that is nowhere"
    import shutil
    for i in videos[:3]: shutil.copy(i.path, tmp_path)
    (tmp_path/'m.csv').write_text('path,way\n' + ''.join(f'{i.id}.mp4,{i.answers["way"]}\n' for i in videos[:3]))
    from tqn.cli.main import run
    assert run(['features', str(tmp_path/'m.csv'), str(tmp_path/'f'), '--half']) == 0
    store = FeatureStore(tmp_path/'f')
    assert len(store) == 3 and json.loads((tmp_path/'f/features.json').read_text())['d'] == 256
    assert run(['features', str(tmp_path/'m.csv'), str(tmp_path/'f'), '--half']) == 0
    assert run(['features', str(tmp_path/'m.csv'), str(tmp_path/'f'), '--backbone', 'no/where/at/all']) == 2

def foreign(folder, arrays):
    "Files of features as somebody else writes them"
    folder.mkdir(parents=True)
    for i,a in arrays.items(): np.save(folder/f'{i}.npy', a.astype('f4'))
    return folder

def test_layouts_of_others_are_asked_and_never_guessed(tmp_path, capsys):
    "Ten crops, a needless axis, a transposed file: read as views they would lose time without a word"
    from tqn.data.batches import FeatureDataset
    rng = np.random.default_rng(0)
    x = {f'v{i}': rng.standard_normal((20+i, 16)) for i in range(4)}
    items = [Item(i, answers={'way': 'left'}) for i in x]
    right = foreign(tmp_path/'right', x)
    first = foreign(tmp_path/'first', {i: a[None] for i,a in x.items()})
    for f in (right, first):                                                     # only one reading is possible: taken
        assert FeatureDataset(f, items, QS)[1]['features'].shape == (21, 16) and FeatureStore(f).read('v1').shape == (21, 16) and check_features(FeatureStore(f), items) == []
    other = dict(ten_crops=('n v d', {i: np.stack([a]*10, 1) for i,a in x.items()}), mid=('n v d', {i: a[:,None] for i,a in x.items()}),
                 turned=('d n', {i: a.T for i,a in x.items()}), alike=('n v d', {i: np.stack([a[:20]]*20, 1) for i,a in x.items()}))
    for name,(layout,arrays) in other.items():
        folder = foreign(tmp_path/name, arrays)
        for read in (lambda **k: FeatureDataset(folder, items, QS, **k)[1]['features'], lambda **k: FeatureStore(folder, **k).read('v1')):
            with pytest.raises(ValueError, match="say which axes they have, one of .*--layout"): read()
            assert np.allclose(read(layout=layout), x['v1'][:len(read(layout=layout))], atol=1e-6) and len(read(layout=layout)) in (20, 21)
        assert [s for s in check_features(FeatureStore(folder), items) if 'say which axes' in s]
        (tmp_path/'t.csv').write_text('id,way\n' + ''.join(f'{i},left\n' for i in x))
        from tqn.cli.main import run
        assert run(['check', str(tmp_path/'t.csv'), '--features', str(folder)]) == 1 and 'say which axes' in capsys.readouterr().out
        assert run(['check', str(tmp_path/'t.csv'), '--features', str(folder), '--layout', layout]) == 0
        assert FeatureDataset(folder, items, QS)[1]['features'].shape[1] == 16    # said once, known from then on
    np.save(first/'v3.npy', x['v3'].astype('f4'))
    with pytest.raises(ValueError, match='as many axes in every file.*v3.npy|v3.npy.*v0.npy'): FeatureDataset(first, items, QS)
    np.save(right/'v3.npy', x['v3'].T.astype('f4'))
    with pytest.raises(ValueError, match=r'one width, got v3.npy \(16, 23\)'): FeatureDataset(right, items, QS)

def test_names_and_formats_of_others(tmp_path):
    "Stems, folders, letters of two systems, four formats; one film a file; the message says what was looked for"
    from tqn.data.batches import FeatureDataset
    x = np.ones((5, 16), 'f4')
    (tmp_path/'day1').mkdir()
    for n in ('v0', 'été', '跳水', 'day1/v1'): np.save(tmp_path/f'{n}.npy', x)
    np.savez(tmp_path/'v2.npz', x); torch.save(torch.ones(5, 16), tmp_path/'v3.pt')
    def ds(*ids): return FeatureDataset(tmp_path, [Item(i, answers={'way': 'left'}) for i in ids], QS)
    ids = ('v0.mp4', 'e\u0301te\u0301', '跳水.mp4', 'day1/v1', 'v2', 'v3')
    assert [tuple(ds(*ids)[i]['features'].shape) for i in range(6)] == [(5, 16)]*6
    assert check_features(FeatureStore(tmp_path), [Item(i) for i in ids]) == []
    with pytest.raises(ValueError, match='gone.*gone.safetensors, .npy, .npz or .pt'): ds('v0', 'gone')
    with pytest.raises(ValueError, match="'v0.mp4' and 'v0.avi' would both read"): ds('v0.mp4', 'v0.avi')
    np.savez(tmp_path/'v2.npz', a=x, b=x)
    with pytest.raises(ValueError, match='expected one array'): ds('v2')[0]
    for bad in (x.astype('i1'), x.astype('c8')):
        np.save(tmp_path/'v0.npy', bad)
        with pytest.raises(ValueError, match='floating point'): ds('v0')[0]

def test_long_names(videos, tmp_path):
    "A title of 36 Chinese characters is 110 bytes, and 330 when quoted"
    from dataclasses import replace
    from tqn.data.items import open_item
    title = '【全程回放】2024巴黎奥运会跳水女子十米台决赛全红婵陈芋汐高清中文解说'
    items = [replace(v, id=f'{title}{t}.mp4') for v,t in zip(videos, ('上', '下', ''))]
    store = extract(small(), items, tmp_path/'f', progress=False)
    assert sorted(store.ids) == sorted(o.id for o in items) and check_features(store, items) == []
    assert extract(small(), items, tmp_path/'f', progress=False).timing(items[0].id).n_frames == len(open_item(items[0]))
    assert all(len(p.name.encode()) < 200 for p in (tmp_path/'f').iterdir())

# How many read, and in which precision ----------------------------------------------------------------------------------

def test_bf16_is_named_and_told_from_float32(videos, tmp_path, monkeypatch):
    "Both ways round; features of earlier days, which say nothing, are float32"
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': True)      # a CPU without it computes the same, slowly
    net = small()
    full,half = (extract(net, videos[:3], tmp_path/p, precision=p, progress=False) for p in ('no', 'bf16'))
    for o in videos[:3]:
        a,b = full.read(o.id),half.read(o.id)
        assert a.shape==b.shape and 0 < float((a-b).abs().max()/a.abs().max()) < .02
    said = [feature_notes(o.folder) for o in (full, half)]
    assert 'precision' not in said[0] and said[1]['precision']=='bf16' and said[0]['digest']!=said[1]['digest']
    assert all(made_by(o.folder, net, Preprocess.of(net)) for o in (full, half))
    kept = {p.name: p.stat().st_mtime_ns for p in half.folder.glob('*.safetensors')}
    with pytest.raises(ValueError, match="computed in bf16, now float32 is asked for: pass precision='bf16'"): extract(net, videos, half.folder, progress=False)
    with pytest.raises(ValueError, match="computed in float32, now bf16 is asked for: pass precision='no'"): extract(net, videos, full.folder, precision='bf16', progress=False)
    extract(net, videos[:3], half.folder, precision='bf16', progress=False)
    assert {p.name: p.stat().st_mtime_ns for p in half.folder.glob('*.safetensors')}==kept

def test_bf16_is_refused_where_it_is_only_slow(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': False)
    for go in (lambda: extract(small(), videos, tmp_path/'f', precision='bf16', progress=False), lambda: list(stream(small(), videos, precision='bf16'))):
        with pytest.raises(ValueError, match="made for it.*pass precision='no'"): go()
    assert not (tmp_path/'f').exists()
    with pytest.raises(ValueError, match="nearest known spelling: 'bf16'"): list(stream(small(), videos, precision='fp16'))
    assert len(list(stream(small(), videos[:1])))==1

@pytest.mark.parametrize('flags, want', [('flags : avx2 avx512_bf16 fma', True), ('flags : amx_bf16', True), ('Features : fp asimd bf16', True), ('flags : avx2 avx512f', False)])
def test_the_processor_is_asked(flags, want, monkeypatch, tmp_path):
    "By torch where it tells, else by the flags that Linux gives"
    real = open
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    monkeypatch.setattr('builtins.open', lambda p, *a, **k: io.StringIO(flags) if p=='/proc/cpuinfo' else real(p, *a, **k))
    monkeypatch.setattr(backbone_room.os.path, 'isfile', lambda p: True)
    assert has_bf16() is want
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(avx2=True, avx512_bf16=want, cpu_name='x'), raising=False)
    assert has_bf16() is want and not has_bf16('meta')

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_gpu_reads_ahead_and_gives_the_same(videos):
    "Pinned pieces, any number of threads; bf16 where it has it"
    want = {r.video.id: r.rows for r in stream(small(), videos, workers=0)}
    for w in (0, 1, 2, None):
        for r in stream(small().cuda(), videos, workers=w): assert_close(r.rows, want[r.video.id], atol=5e-3*float(want[r.video.id].abs().max()), rtol=0)
    if has_bf16('cuda'):
        for r in stream(small().cuda(), videos, precision='bf16'): assert_close(r.rows, want[r.video.id], atol=.02*float(want[r.video.id].abs().max()), rtol=0)

@pytest.fixture(scope='module')
def model_folder(tmp_path_factory):
    torch.manual_seed(0)
    model = TQN(QS, backbone=S3D(width=.0625), d_model=16, n_layers=1, n_heads=2, preprocess=dict(size=32, resize=36))
    model.save_pretrained(folder := tmp_path_factory.mktemp('model'))
    return folder

def typed(*words): return run([str(w) for w in words])

@pytest.mark.parametrize('precision', ['no', 'bf16'])
def test_commands_that_read_films_take_workers_and_precision(videos, model_folder, tmp_path, precision, monkeypatch, capsys):
    "The same answers to the last digit with any number of threads; in bf16 nearly those"
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': True)
    how,films = ['--checkpoint', model_folder],[o.path for o in videos[2:5]]
    said = {}
    for w in (-1, 0, 1, 2):
        assert typed('predict', *films, *how, '--out', tmp_path/f'p{w}', '--workers', w, '--precision', precision)==0
        said[w] = [(tmp_path/f'p{w}'/Path(f).stem/'answers.json').read_text() for f in films] + [(tmp_path/f'p{w}/predictions.csv').read_text()]
        assert typed('moments', *films, *how, '--out', tmp_path/f'm{w}.csv', '--workers', w, '--precision', precision, '--quiet')==0
        said[w] += [(tmp_path/f'm{w}.csv').read_text()]
        assert typed('predict', films[0], *how, '--out', tmp_path/f'o{w}', '--workers', w, '--precision', precision)==0
        said[w] += [(tmp_path/f'o{w}/answers.json').read_text()]
    assert all(v==said[0] for v in said.values())
    assert typed('predict', films[0], *how, '--out', tmp_path/'plain')==0
    (a,b) = (json.loads(t)['answers']['way'] for t in (said[0][-1], (tmp_path/'plain/answers.json').read_text()))
    assert a==b if precision=='no' else 0 <= abs(dict(a)['left']-dict(b)['left']) < .02
    assert typed('view', films[0], *how, '--out', tmp_path/'v.html', '--no-open', '--workers', 1, '--precision', precision)==0 and (tmp_path/'v.html').stat().st_size>1000
    for words in (['predict', films[0], *how, '--out', tmp_path/'n'], ['view', films[0], *how, '--out', tmp_path/'n.html', '--no-open'], ['moments', films[0], *how, '--out', tmp_path/'n.csv']):
        capsys.readouterr()
        assert typed(*words, '--workers', -2)==2 and 'expected --workers of at least 0, or -1' in capsys.readouterr().err
        monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': False)
        assert typed(*words, '--precision', 'bf16')==2 and 'pass --precision no' in capsys.readouterr().err

def test_features_command_in_bf16(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': True)
    (tmp_path/'t.csv').write_text('path,way\n' + ''.join(f'{o.path.name},left\n' for o in videos[3:]))
    how = ['features', tmp_path/'t.csv', tmp_path/'f', '--root', videos[0].path.parent, '--quiet', '--batch-clips', 2]
    assert typed(*how, '--precision', 'bf16', '--workers', 2)==0 and 'computed in bf16' in capsys.readouterr().out
    assert typed(*how)==2 and 'computed in bf16, now float32 is asked for: pass --precision bf16' in capsys.readouterr().err
    assert typed(*how, '--workers', -3)==2

def test_check_and_cut_ask_the_same_rule(videos, tmp_path, monkeypatch):
    "One number for all that reads: what was asked for, else one a core"
    asked = []
    def rule(n, workers=None, decodes=True, threads=False): asked.append((n, workers, threads)); return 2
    monkeypatch.setattr(check_room, 'reading_workers', rule)
    (tmp_path/'t.csv').write_text('path,way,start,end\n' + ''.join(f'{o.path.name},left,0,.4\n' for o in videos[3:]))
    root = ['--root', videos[0].path.parent, '--quiet']
    for flag,want in (([], None), (['--workers', -1], None), (['--workers', 1], 1)):
        assert typed('check', tmp_path/'t.csv', *root, *flag) in (0, 1) and asked[-1]==(3, want, True)
        assert typed('cut', tmp_path/'t.csv', '--out', tmp_path/f'cuts{want}{len(asked)}', *root, *flag)==0 and asked[-1]==(3, want, True)
