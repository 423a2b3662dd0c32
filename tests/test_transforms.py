"Transforms against independent computations: colorsys per pixel, PIL per frame, naive loops"
import colorsys, pickle
import numpy as np, pytest, torch
from einops import rearrange
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageEnhance
from torch.testing import assert_close
from tqn.video.transforms import (DIVING48_MEAN, DIVING48_STD, EvalTransform, TrainTransform, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation,
    apply_jitter, center_box, color_jitter, crop_resize, draw_jitter, flip, in_pieces, normalize, random_crop_box, split_transform, to_float)

fast = settings(max_examples=40, deadline=None)
seeds, sides = st.integers(0, 2**31), st.integers(1, 41)
def gen(seed): return torch.Generator().manual_seed(seed)
def some_clips(seed, n=2, t=3, h=17, w=23): return torch.randint(0, 256, (n,3,t,h,w), generator=gen(seed), dtype=torch.uint8)
def smooth_clips(n=2, t=3, h=60, w=80):
    "Neighbouring pixels alike, as in pictures"
    return crop_resize(some_clips(1, n, t, 6, 8), (0,0,6,8), (h,w))
def images(clips): return [[Image.fromarray(rearrange(c[:,i], 'c h w -> h w c').contiguous().numpy()) for i in range(c.shape[1])] for c in clips]
def back(imgs): return rearrange(torch.from_numpy(np.array([[np.array(i) for i in c] for c in imgs])), 'n t h w c -> n c t h w')

# ---------------------------------------------------------------- colour, against others' code
@fast
@given(seed=seeds, turns=st.lists(st.floats(-.5, .5), min_size=2, max_size=2))
def test_hue_is_colorsys(seed, turns):
    clips = torch.rand(2,3,2,3,4, generator=gen(seed), dtype=torch.float64)
    clips[0,:,0,0,0], clips[0,:,0,0,1], clips[0,:,0,0,2], clips[0,:,0,0,3] = .4, torch.tensor([.7,.7,.1]), 0., torch.tensor([.2,.9,.9])   # greys and ties
    slow = clips.clone()
    for n,t,y,x in np.ndindex(2,2,3,4):
        h,s,v = colorsys.rgb_to_hsv(*clips[n,:,t,y,x].tolist())
        slow[n,:,t,y,x] = torch.tensor(colorsys.hsv_to_rgb((h+turns[n])%1, s, v), dtype=torch.float64)
    assert_close(adjust_hue(clips, torch.tensor(turns, dtype=torch.float64)), slow, atol=1e-9, rtol=0)
    assert_close(adjust_hue(clips.float(), torch.tensor(turns)), slow.float(), atol=2e-5, rtol=0)

@pytest.mark.parametrize('ours, pil', [(adjust_brightness, ImageEnhance.Brightness), (adjust_contrast, ImageEnhance.Contrast), (adjust_saturation, ImageEnhance.Color)])
@pytest.mark.parametrize('amounts', [(0.,.3), (.7,1.), (1.4,1.7)])
def test_adjustments_are_pil(ours, pil, amounts):
    clips = some_clips(3)
    theirs = back([[pil(i).enhance(a) for i in c] for c,a in zip(images(clips), amounts)])
    mine = ours(to_float(clips), torch.tensor(amounts))*255
    assert (mine-theirs.float()).abs().max()<2.1     # PIL rounds the grey, then the result

def test_all_pixels_hue_round_trip():
    levels = torch.arange(0, 256, 15)/255
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1,3,1,-1,len(levels))
    assert_close(adjust_hue(adjust_hue(cube, .2), -.2), cube, atol=2e-5, rtol=0)
    turned = adjust_hue(cube, 1/3)
    assert_close(turned, cube.roll(1, 1), atol=2e-5, rtol=0)    # a third of a turn: red to green to blue

@fast
@given(seed=seeds, order=st.permutations(range(4)))
def test_jitter_is_one_adjustment_after_another(seed, order):
    clips = some_clips(seed)
    amounts,_ = draw_jitter(2, gen(seed))
    slow = []
    for c,a in zip(clips, amounts):
        x = c[None]/255
        for i in order: x = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)[i](x, a[i])
        slow.append(x)
    assert_close(apply_jitter(clips, amounts, order), torch.cat(slow))

@fast
@given(seed=seeds, n=st.integers(0, 5), pixels=st.integers(1, 3000))
def test_pieces_do_not_matter(seed, n, pixels):
    clips = some_clips(seed, n=n)
    amounts,order = draw_jitter(n, gen(seed))
    f = lambda c,a,out=None: apply_jitter(c, a, order, out)
    assert_close(in_pieces(f, clips, amounts, pixels), f(clips, amounts))

def test_jitter_range_and_negative_amounts():
    amounts,_ = draw_jitter(5000, gen(0), (2.,2.,2.,.5))
    assert (amounts[:,:3]>=0).all() and (amounts[:,3].abs()<=.5).all()
    out = color_jitter(some_clips(0), gen(1))
    assert out.amin()>=0 and out.amax()<=1 and not out.isnan().any()

@fast
@given(seed=seeds, a=st.floats(0, 2))
def test_adjusting_stays_between_black_and_white(seed, a):
    "Up to 1 nothing is cut off, since nothing can be outside: to the bit what cutting off gives"
    clips = torch.rand(1,3,2,5,6, generator=gen(seed)).round(decimals=1); clips[...,0] = 1.
    for f in (adjust_brightness, adjust_contrast, adjust_saturation):
        out = f(clips, a)
        assert torch.equal(out, out.clamp(0, 1))

def test_input_is_not_changed():
    clips = some_clips(0); floats = to_float(clips)
    before, before_floats = clips.clone(), floats.clone()
    t = TrainTransform(16)
    for s in range(4): t(clips, gen(s)); t(floats, gen(s)); color_jitter(floats, gen(s)); normalize(floats)
    EvalTransform(16)(floats)
    assert_close(clips, before); assert_close(floats, before_floats)

# ---------------------------------------------------------------- crop
@fast
@given(seed=seeds, h=sides, w=sides, stage2=st.booleans())
def test_box_lies_inside(seed, h, w, stage2):
    low = .6 if stage2 else .7
    top,left,height,width = random_crop_box(h, w, gen(seed), (low,1.), p=1.)
    assert 0<=top<=h-height and 0<=left<=w-width and height>=1 and width>=1
    assert round(low*h)<=height or height==1
    if width<w: assert 3/4*height-.51<=width<=4/3*height+.51
    top,left,height,width = center_box(h, w)
    assert 0<=top<=h-height and 0<=left<=w-width and height==width and abs((h-height)-2*top)<=1 and abs((w-width)-2*left)<=1

def test_box_statistics():
    g = gen(0)
    boxes = torch.tensor([random_crop_box(1000, 2000, g) for _ in range(6000)], dtype=torch.float)
    random = boxes[~(boxes==torch.tensor(center_box(1000, 2000))).all(1)]
    assert abs(len(random)/6000-.8)<.02
    top,left,height,width = random.T
    assert abs(height.mean()-850)<8 and height.min()<705 and height.max()>995
    log_ratio = (width/height).log()/np.log(4/3)
    assert abs(log_ratio.mean())<.03 and abs(log_ratio.std()-1/3**.5)<.03 and log_ratio.abs().max()<1.01
    assert abs((top/(1000-height).clamp_min(1))[height<990].mean()-.5)<.02 and abs((left/(2000-width)).mean()-.5)<.02

@pytest.mark.parametrize('box, size', [((5,7,50,61),(24,24)), ((0,0,60,80),(45,33)), ((10,10,20,20),(56,56)), ((3,4,31,47),(224,100))])
def test_crop_resize_is_pil(box, size):
    clips = smooth_clips()
    top,left,height,width = box
    theirs = back([[i.crop((left,top,left+width,top+height)).resize(size[::-1], Image.BILINEAR) for i in c] for c in images(clips)])
    ours = crop_resize(clips, box, size)
    assert ours.dtype==torch.uint8 and (ours.int()-theirs.int()).abs().max()<=1

@pytest.mark.parametrize('layout', ['n c t h w', 'n t h w c', 't n h c w'])
def test_memory_layout_does_not_matter(layout):
    clips = smooth_clips()
    other = rearrange(rearrange(clips, f'n c t h w -> {layout}').contiguous(), f'{layout} -> n c t h w')
    box = (3,5,40,50)
    assert_close(crop_resize(other, box, 32), crop_resize(clips, box, 32))
    assert_close(TrainTransform(32)(other, gen(1)), TrainTransform(32)(clips, gen(1)))
    assert crop_resize(other, box, 32).is_contiguous()

@pytest.mark.parametrize('box', [(-1,0,5,5), (0,-1,5,5), (0,0,0,5), (0,0,18,5), (0,0,5,24), (15,0,5,5)])
def test_box_outside_is_refused(box):
    with pytest.raises(ValueError, match='does not lie in a frame of 17 x 23'): crop_resize(some_clips(0), box, 8)

# ---------------------------------------------------------------- the two transforms
@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=st.integers(0, 3), t=st.integers(1, 9), h=sides, w=sides, size=st.integers(1, 40)|st.tuples(st.integers(1,40), st.integers(1,40)), stage=st.sampled_from([1,2]))
def test_any_size(seed, n, t, h, w, size, stage):
    clips = some_clips(seed, n, t, h, w)
    out = TrainTransform(size, stage)(clips, gen(seed))
    assert out.shape==(n,3,t,*((size,size) if isinstance(size,int) else size)) and out.dtype==torch.float and out.isfinite().all() and out.is_contiguous()
    if isinstance(size, int):
        out = EvalTransform(size)(clips)
        assert out.shape==(n,3,t,size,size) and out.isfinite().all() and out.is_contiguous(memory_format=torch.channels_last_3d)

@fast
@given(seed=seeds)
def test_reproducible_and_global_state_untouched(seed):
    clips, t = some_clips(0), TrainTransform(12)
    torch.manual_seed(5); before = torch.get_rng_state()
    a, b = t(clips, gen(seed)), t(clips, gen(seed))
    assert torch.equal(a, b) and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(pickle.loads(pickle.dumps(t))(clips, gen(seed)), a)       # goes to loader workers

def test_randomness_used_is_the_same_for_every_video():
    states = set()
    for seed_clips in ((1,4,9,9),(3,4,30,11)):
        n,t,h,w = seed_clips
        for recipe in (TrainTransform(8), TrainTransform(8, crop_p=0., flip_p=1.), TrainTransform(8, jitter=(0,0,0,0))):
            g = gen(3); recipe(some_clips(0, 2, t, h, w), g); states.add(bytes(g.get_state().numpy()))
    assert len(states)==1

def test_one_crop_one_flip_but_a_jitter_for_each_clip():
    same = smooth_clips(1).repeat(4,1,1,1,1)
    still = TrainTransform(32, jitter=(0,0,0,0))
    for s in range(20):
        out = still(same, gen(s))
        assert all(torch.equal(out[0], o) for o in out[1:])
    out = TrainTransform(32)(same, gen(0))
    assert all((out[i]-out[j]).abs().max()>.05 for i in range(4) for j in range(i))

def test_frames_of_a_clip_share_the_jitter():
    still = smooth_clips(2, 1).repeat(1,1,5,1,1)
    out = TrainTransform(32)(still, gen(2))
    for f in range(1, 5): assert_close(out[:,:,f], out[:,:,0])

def test_flip_rate_and_columns():
    clips = some_clips(0, 1, 1, 2, 3)
    g = gen(1)
    flipped = sum(torch.equal(flip(clips, g), clips.flip(-1)) for _ in range(1000))
    assert abs(flipped/1000-.5)<.06

def test_train_is_the_sum_of_its_parts():
    clips, t = smooth_clips(3), TrainTransform(32, 2, DIVING48_MEAN, DIVING48_STD)
    g = gen(9)
    x = flip(crop_resize(clips, random_crop_box(60, 80, g, (.6,1.)), 32), g)
    x = normalize(color_jitter(x, g), DIVING48_MEAN, DIVING48_STD)
    assert_close(t(clips, gen(9)), x)

@pytest.mark.parametrize('h, w', [(60,80), (80,60), (33,97), (64,64), (20,20)])
def test_eval_is_pil(h, w):
    clips = smooth_clips(h=h, w=w)
    short = round(32*8/7)
    to = (round(w*short/min(h,w)), round(h*short/min(h,w)))
    left,top = (to[0]-32)//2, (to[1]-32)//2
    theirs = back([[i.resize(to, Image.BILINEAR).crop((left,top,left+32,top+32)) for i in c] for c in images(clips)])
    ours = EvalTransform(32, (0,0,0), (1,1,1))(clips)*255
    assert (ours-theirs.float()).abs().max()<=1.01

def test_published_numbers():
    t = TrainTransform()
    assert (t.size, t.scale, t.crop_p, t.flip_p, t.jitter)==(224, (.7,1.), .8, .5, (.4,.7,.7,.25)) and t.ratio==(3/4,4/3)
    assert TrainTransform(stage=2).scale==(.6,1.)
    assert (DIVING48_MEAN, DIVING48_STD)==((.3381,.5108,.5785), (.2206,.2309,.2615))
    e = EvalTransform()
    assert (e.size, e.resize)==(224, 256)

@pytest.mark.parametrize('make, message', [
    (lambda: TrainTransform(stage=0), 'stage 1 or 2'), (lambda: TrainTransform(scale=(0,1)), 'expected scale'), (lambda: TrainTransform(scale=(.9,.5)), 'expected scale'), (lambda: TrainTransform(ratio=(2,1)), 'expected ratio'),
    (lambda: TrainTransform(crop_p=-1), 'crop_p'), (lambda: TrainTransform(flip_p=1.5), 'flip_p'), (lambda: TrainTransform(jitter=(.4,.7,.7)), 'four strengths'), (lambda: TrainTransform(jitter=(.4,.7,.7,.6)), 'hue at most 0.5'),
    (lambda: TrainTransform(mean=(0,0)), 'three means'), (lambda: EvalTransform(std=(0,1,1)), 'deviations above 0'), (lambda: EvalTransform(0), 'at least 1 pixel'), (lambda: EvalTransform(10, resize=9), 'at least size=10'),
    (lambda: TrainTransform()(torch.zeros(3,8,9,9)), 'colour comes second'), (lambda: TrainTransform()(torch.zeros(1,8,3,9,9)), 'colour comes second'), (lambda: EvalTransform()(torch.zeros(1,3,0,9,9)), 'at least one frame'),
    (lambda: EvalTransform()(torch.zeros(1,3,8,9,9, dtype=torch.int16)), 'got torch.int16')])
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message): make()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device: the same numbers on a GPU are not checked')
def test_gpu_gives_the_same():
    clips = smooth_clips(3)
    for t in (TrainTransform(32), EvalTransform(32)): assert_close(t(clips.cuda(), gen(4)).cpu(), t(clips, gen(4)), atol=.02, rtol=0)

# ---------------------------------------------------------------- two halves
@fast
@given(seed=seeds, n=st.integers(0, 3), first=st.integers(0, 2), stage=st.sampled_from([1,2]))
def test_both_halves_are_the_transform(seed, n, first, stage):
    clips,t = some_clips(seed, n),TrainTransform(16, stage)
    small,colours = t.geometry(clips, gen(seed), first, 5)
    assert small.dtype==torch.uint8 and small.shape==(n,3,3,16,16) and len(colours.amounts)==n
    colours = pickle.loads(pickle.dumps(colours))                                  # it comes from a worker
    assert torch.equal(colours(small), t(clips, gen(seed), first, 5))
    assert_close(colours(small), normalize(apply_jitter(small, torch.tensor(colours.amounts).reshape(-1,4), colours.order)) if n else colours(small))

def test_clean_views_are_what_they_were():
    "Features that are stored were made of these numbers: bytes less the mean, divided by the deviation"
    for size,h,w in ((32,60,80), (224,256,340)):
        clips,t = smooth_clips(2, 8, h, w),EvalTransform(size, DIVING48_MEAN, DIVING48_STD)
        small,_ = t.geometry(clips)
        plain = small.float().sub_(torch.tensor(DIVING48_MEAN).reshape(3,1,1,1)*255).div_(torch.tensor(DIVING48_STD).reshape(3,1,1,1)*255)
        assert torch.equal(t(clips), plain)

def test_a_transform_of_ones_own_is_used_as_it_is():
    class Grey(TrainTransform):
        def __call__(self, clips, generator=None): return super().__call__(clips, generator).mean(1, keepdim=True).expand(-1,3,-1,-1,-1)
    x,colours = split_transform(Grey(16), some_clips(0), gen(1))
    assert colours is None and torch.equal(x[:,0], x[:,2]) and torch.equal(x, Grey(16)(some_clips(0), gen(1)))

@fast
@given(seed=seeds, n=st.integers(1, 4))
def test_in_place_is_the_same(seed, n):
    clips,(amounts,_) = torch.rand(n,3,2,5,6, generator=gen(seed)),draw_jitter(n, gen(seed), (.4,.7,.7,.5))
    for k,f in enumerate((adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)):
        x,apart = clips.clone(),f(clips, amounts[:,k])
        assert f(x, amounts[:,k], inplace=True) is x and torch.equal(x, apart) and not torch.equal(x, clips)
