"Capture, summaries, and answers about real files"
import math
from dataclasses import replace
from pathlib import Path
import matplotlib; matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.testing import assert_close
from outside import MISSING, VIDEOS
from tqn.attention.answer import Answer, answer, capture, rank, rollout, summarise
from tqn.features.stream import clip_features
from tqn.attention.figure import plot_attention
from tqn.models.backbone import S3D
from tqn.models.tqn import TQN
from tqn.questions.queries import Query, QuerySet
from tqn.video.transforms import Preprocess
from tqn.video.video import Video, write_video

QS = QuerySet([Query('takeoff', ['Back','Forward']), Query('twist', ['0','1','2'], kind='count'), Query('seen', ['board','pool','crowd'], kind='many')],
              classes=[('plain', ['Back','0',None]), ('hard', ['Forward','2',None])])
fast = settings(max_examples=25, deadline=None)

class Mean(nn.Module):
    "Mean colour, twice as features; counts what it was given at a time"
    d_out = 6
    def __init__(self, t=None): super().__init__(); self.t,self.seen = t,[]
    def forward(self, x):
        self.seen.append(len(x))
        f = torch.cat([x.mean((2,3,4)), x[...,::2].mean((2,3,4))], 1)
        return f if self.t is None else f[...,None].repeat(1, 1, self.t)+torch.arange(self.t)

def small(backbone=None, seed=0, **kwargs):
    torch.manual_seed(seed)
    m = TQN(QS, **{**dict(backbone=backbone, d_model=16, n_layers=3, n_heads=2, d_features=6), **kwargs})
    m.preprocess = Preprocess(size=16, resize=16, mean=(0,0,0), std=(1,1,1))
    return m

@pytest.fixture(scope='module')
def mp4(tmp_path_factory):
    path = tmp_path_factory.mktemp('v')/'ramp.mp4'
    t = np.arange(45)[:,None,None,None]
    write_video(path, np.broadcast_to(5*t, (45,32,48,3)).astype('u1'), fps=10.)
    return path

# ---------------------------------------------------------------- maps

def test_capture_gives_what_the_layers_compute_and_changes_nothing():
    m = small().eval()
    x,valid = torch.randn(2, 5, 6),torch.tensor([[1,1,1,1,1],[1,1,0,0,0]]).bool()
    plain = m(x, valid)
    c = capture(m.train(), x, valid)
    assert m.training and c.names==['takeoff','twist','seen','class']
    assert_close(c.attn, plain.attn); assert_close(c.out.classes, plain.classes)
    assert c.self_attn.shape==(2,3,2,4,4) and not c.attn.requires_grad
    assert_close(c.self_attn.sum(-1), torch.ones(2,3,2,4))
    layer,q = m.decoder.layers[0],m.decoder.queries
    h = layer.norm1(q)                                                  # the first layer's self-attention, by hand
    wq,wk,_ = layer.self_attn.in_proj_weight.chunk(3); bq,bk,_ = layer.self_attn.in_proj_bias.chunk(3)
    for i in range(2):
        s = slice(8*i, 8*i+8)
        want = ((h@wq.T+bq)[:,s]@(h@wk.T+bk)[:,s].T/math.sqrt(8)).softmax(-1)
        assert_close(c.self_attn[0,0,i], want.detach())
    assert (c.attn[1,...,2:]==0).all()
    assert not any(mod._forward_hooks or mod._forward_pre_hooks for mod in m.modules())

def test_hooks_go_away_when_the_model_fails():
    m = small()
    with pytest.raises(ValueError): capture(m, torch.randn(1, 5, 7))
    assert m.training and not any(mod._forward_hooks or mod._forward_pre_hooks for mod in m.modules())

@fast
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 40), st.integers(0, 99))
def test_summaries_equal_naive_loops(layers, heads, k, n, seed):
    g = torch.Generator().manual_seed(seed)
    A = torch.rand(layers, heads, k, n, generator=g).softmax(-1); S = torch.rand(layers, heads, k, k, generator=g).softmax(-1)
    assert_close(summarise(A), sum(A[l,h] for l in range(layers) for h in range(heads))/(layers*heads))
    assert_close(summarise(A, layer=-1, head=0), A[-1,0])
    assert_close(summarise(A, head=heads-1), sum(A[l,-1] for l in range(layers))/layers)
    R = [[0.]*n for _ in range(k)]
    for l in range(layers):
        s,a = S[l].mean(0),A[l].mean(0)
        R1 = [[(R[i][c]+sum(float(s[i,j])*R[j][c] for j in range(k)))/2 for c in range(n)] for i in range(k)]
        R = [[(R1[i][c]+float(a[i,c]))/2 for c in range(n)] for i in range(k)]
    want = torch.tensor(R); want = want/want.sum(-1, keepdim=True)
    assert_close(rollout(A, S), want, atol=1e-5, rtol=1e-4)
    for bad in (dict(layer=layers), dict(head=-heads-1)):
        with pytest.raises(ValueError, match='expected'): summarise(A, **bad)

# ---------------------------------------------------------------- answers

def test_a_video_gives_the_same_as_one_big_forward(mp4):
    m = small(Mean()).eval()
    v = Video(mp4)
    a = answer(m, v, batch_clips=2)
    assert max(m.backbone.seen)==2 and sum(m.backbone.seen)==6                # never more than the chunk, every clip once
    clips = v.clips().float()/255
    clips = nn.functional.interpolate(clips.flatten(0,1), (16,24), mode='bilinear', antialias=True).reshape(6,3,8,16,24)[...,4:20]
    assert_close(clip_features(m, v, 5), m.backbone(clips), atol=3e-3, rtol=0)
    with torch.no_grad(): out = m(clip_features(m, v)[None])
    assert_close(a.attn, out.attn[0]); assert_close(a.self_attn, capture(m, out.features).self_attn[0])
    assert a.name=='ramp.mp4' and a.frames.tolist()==[[i,min(i+8,45)] for i in range(0,45,8)]
    np.testing.assert_allclose(a.times, a.frames/10, atol=1e-6)
    p = out.responses['takeoff'][0].softmax(-1)
    assert dict(a.answers['takeoff'])==pytest.approx({'Back': float(p[0]), 'Forward': float(p[1])})
    assert dict(a.answers['seen'])==pytest.approx({n: float(torch.sigmoid(out.responses['seen'][0,i])) for i,n in enumerate(QS['seen'].answers)})
    assert a.said('seen')==[n for n,q in a.answers['seen'] if q>.5] and all(x[1]>=y[1] for ps in a.answers.values() for x,y in zip(ps, ps[1:]))
    assert a.reading=='query' and dict(a.answers['class'])['plain']==pytest.approx(float(out.classes[0].softmax(-1)[0]))
    both = answer(m, mp4, reading='both')
    assert dict(both.answers['class'])['plain']==pytest.approx(float(m.read_classes(out, 'both')[0,0].exp()))
    assert both.name=='ramp.mp4' and 'ramp.mp4: 45 frames, 6 clips, 4.5 s' in str(both)

def test_pictures_stand_where_they_were_taken(mp4):
    a = answer(small(Mean()), mp4, n_thumbs=9)
    assert a.thumbs.shape==(9,32,48,3) and a.thumbs.dtype==torch.uint8
    np.testing.assert_allclose(a.thumbs.float().mean((1,2,3))/5, a.thumb_times*10, atol=1.2)      # the frame's grey value tells its number
    mid = [sum(a.frames[int(x.argmax())])//2 for x in a.maps().values()]
    np.testing.assert_allclose(a.peaks.float().mean((1,2,3))/5, mid, atol=1.2)
    assert answer(small(Mean()), mp4, n_thumbs=0).thumbs is None

def test_preprocessing_comes_from_the_model(mp4):
    m = small(Mean())
    m.preprocess = dict(clip_len=4, stride=2, size=8)
    assert Preprocess.of(m)==Preprocess(4, 2, size=8)
    a = answer(m, mp4)
    assert len(a.frames)==6 and a.frames[1].tolist()==[8,16]
    m.preprocess = dict(clip_len=8, stride=20, size=8)                        # lowered to what 45 frames allow: 6
    assert answer(m, mp4).frames.tolist()==[[0,45]]
    assert Preprocess.of(nn.Identity())==Preprocess()
    m.preprocess = dict(clip_len=4, extra='unknown')
    with pytest.raises(ValueError, match="preprocess has no setting 'extra'"): answer(m, mp4)

def test_features_only_and_several_features_a_clip(mp4):
    m = small(Mean()).eval()
    f = clip_features(m, Video(mp4))
    a = answer(m, f, fps=8.)
    assert a.thumbs is None and a.times[-1].tolist()==[5.,6.] and a.name=='features'
    assert_close(a.attn, answer(m, mp4).attn)
    two = small(Mean(t=2)).eval()
    b = answer(two, mp4)
    assert b.attn.shape[-1]==12 and b.frames[:3].tolist()==[[0,4],[4,8],[8,12]] and b.times.shape==(12,2)
    one = answer(small(Mean()), f[:1])
    assert one.attn.shape[-1]==1 and one.maps()['twist'].tolist()==pytest.approx([1.])

def test_s3d_is_fused_for_reading_and_left_alone(mp4):
    torch.manual_seed(0)
    s3d = S3D(width=1/16)
    m = small(s3d, d_features=None)
    m.preprocess = replace(m.preprocess, size=32, resize=32)
    before = {k: v.clone() for k,v in m.state_dict().items()}
    f = clip_features(m.eval(), Video(mp4), 3)
    from tqn.video.transforms import EvalTransform
    with torch.no_grad(): want = s3d(EvalTransform(32, (0,0,0), (1,1,1), 32)(Video(mp4).clips()))
    assert_close(f, want, atol=1e-4, rtol=1e-3)
    assert all(torch.equal(v, m.state_dict()[k]) for k,v in before.items())
    answer(m.train(), mp4)
    assert m.training and all(torch.equal(v, m.state_dict()[k]) for k,v in before.items())     # no batch norm statistic moved

def test_no_class_no_lane():
    qs = QuerySet({'a': ['x','y'], 'b': ['z']})
    m = TQN(qs, d_model=8, n_layers=1, n_heads=1)
    a = answer(m, torch.randn(3, 8))
    assert a.names==['a','b'] and 'class' not in a.answers and a.reading is None
    plot_attention(a)
    m = TQN(QS, d_model=8, n_layers=1, n_heads=1, class_query=False)
    a = answer(m, torch.randn(3, 8), reading='product')
    assert a.names==['takeoff','twist','seen'] and len(a.answers['class'])==2
    assert 'class' not in answer(m, torch.randn(3, 8)).answers

def test_bad_input_is_named(tmp_path, mp4):
    m = small(Mean())
    (tmp_path/'empty.mp4').touch(); (tmp_path/'text.mp4').write_text('not a video')
    short = tmp_path/'short.mp4'; write_video(short, np.zeros((3,16,16,3), 'u1'))
    for bad,message in [(tmp_path/'none.mp4','no such file'), (tmp_path/'empty.mp4','empty'), (tmp_path/'text.mp4','not a video'),
                        (short,'fewer than one clip'), (torch.zeros(0,6),'n ≥ 1'), (torch.zeros(1,2,6),'of one video')]:
        with pytest.raises(ValueError, match=message): answer(m, bad)
        assert m.training
    with pytest.raises(ValueError, match='pass features'): answer(small(), mp4)
    with pytest.raises(ValueError, match='class reading'): answer(m, mp4, reading='votes')

def test_real_files_of_every_kind():
    files = sorted(VIDEOS.glob('*.mp4'))[:2] + sorted(VIDEOS.glob('*.webm'))[:1]
    if not files: pytest.skip(MISSING)
    m = small(Mean())
    for f in files:
        a = answer(m, f)
        assert a.frames[-1,1]==len(Video(f)) and a.attn.shape[-1]==len(a.frames) and (np.diff(a.times[:,0])>0).all()
        plt.close(plot_attention(a))

def test_rank_is_stable(): assert [n for n,_ in rank(torch.tensor([.3,.3,.4]), ['a','b','c'])]==['c','a','b']

# ---------------------------------------------------------------- what is not a number is no answer

def spoiled(what):
    m = small(Mean() if what=='backbone' else None)
    with torch.no_grad():
        if what=='decoder': m.decoder.queries.fill_(math.nan)
        if what=='backbone': m.backbone.forward = lambda x: torch.full((len(x), 6), math.nan)
    return m

def test_nan_is_refused_by_name(mp4, tmp_path):
    "From the backbone, the decoder or stored features; by tqn.answer, features, scores and records"
    from tqn.attention.records import record
    from tqn.attention.scores import score_videos
    from tqn.data.items import Item
    from tqn.features.store import FeatureStore, extract
    from tqn.attention.answer import answer_features
    from safetensors.torch import save_file
    with pytest.raises(ValueError, match=r"features: the answer to 'takeoff' is not a number"): answer(spoiled('decoder'), torch.ones(3, 6))
    with pytest.raises(ValueError, match=r"'features': feature 1 is not finite"): answer(small(), torch.tensor([[1.]*6, [math.inf]*6]))
    with pytest.raises(ValueError, match=r"'ramp.mp4': feature 0 is not finite"): answer(spoiled('backbone'), mp4)
    with pytest.raises(ValueError, match=r"'v': feature 0 is not finite"): score_videos(spoiled('backbone'), [Item('v', mp4)], progress=False)
    m = spoiled('decoder'); m.backbone = Mean()
    with pytest.raises(ValueError, match=r"ramp.mp4: the answer to 'takeoff'"): answer(m, mp4)
    with pytest.raises(ValueError, match=r"takeoff: .* NaN for video 'v'"): score_videos(m, [Item('v', mp4, {'takeoff': 'Back'})], progress=False)
    batch = dict(id=['u','v'], x=torch.ones(2, 3, 6), valid=torch.ones(2, 3).bool(), answers={'takeoff': torch.zeros(2).long(), 'twist': torch.zeros(2).long(), 'seen': torch.zeros(2, 3)}, **{'class': torch.zeros(2).long()})
    with pytest.raises(ValueError, match=r"takeoff: .* NaN for video 'u'"): record(spoiled('decoder'), [batch], progress=False)
    backbone = spoiled('backbone').backbone.eval(); backbone.preprocess = small().preprocess
    with pytest.raises(ValueError, match=r"'v': feature 0 is not finite"): extract(backbone, [Item('v', mp4)], tmp_path/'f', progress=False)
    backbone = Mean().eval(); backbone.forward = lambda x: torch.full((len(x), 6), 1e6); backbone.preprocess = small().preprocess
    with pytest.raises(ValueError, match=r"'v': feature 0 .* too large for float16"): extract(backbone, [Item('v', mp4)], tmp_path/'g', dtype=torch.float16, progress=False)
    assert not list(tmp_path.glob('[fg]/*.safetensors'))
    (tmp_path/'s').mkdir(); save_file({'features': torch.tensor([[1.]*6, [math.nan]*6])}, tmp_path/'s'/'v.safetensors')
    with pytest.raises(ValueError, match=r"'v': feature 1 is not finite"): answer_features(small(), FeatureStore(tmp_path/'s', hop=8, fps=10), 'v')

def test_predict_of_a_diverged_model_is_an_error(mp4, tmp_path, capsys):
    from tqn.cli.main import run
    from tqn.models.adapters import small_backbone
    m = TQN(QS, backbone=small_backbone(), d_model=16, n_layers=1, n_heads=2, preprocess=dict(size=16, resize=16))
    with torch.no_grad(): m.decoder.queries.fill_(math.nan)
    m.save_pretrained(tmp_path/'m')
    assert run(['predict', str(mp4), '--checkpoint', str(tmp_path/'m'), '--out', str(tmp_path/'out')])==2
    assert 'not a number' in capsys.readouterr().err and not (tmp_path/'out').exists()
