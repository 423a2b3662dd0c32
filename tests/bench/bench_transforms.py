"""How much faster whole-tensor augmentation is than frame by frame with PIL, both timed in turns in one run, one thread.

    python tests/bench/bench_transforms.py [--clips 8] [--size 224] [--rounds 5]
"""
import argparse, random, time
import numpy as np, torch
from einops import rearrange
from PIL import Image, ImageEnhance
from tqn.video.transforms import (IMAGENET_MEAN, IMAGENET_STD, EvalTransform, TrainTransform, apply_jitter, crop_resize, draw_jitter, in_pieces, normalize, random_crop_box)

MEAN, STD = (np.array(o, dtype=np.float32) for o in (IMAGENET_MEAN, IMAGENET_STD))

def pil_hue(img, turns):
    h,s,v = img.convert('HSV').split()
    h = (np.array(h, dtype=np.int16)+int(turns*255)).astype(np.uint8)
    return Image.merge('HSV', (Image.fromarray(h),s,v)).convert('RGB')

def pil_jitter(img, amounts, order):
    steps = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for i in order: img = pil_hue(img, amounts[3]) if i==3 else steps[i](img).enhance(amounts[i])
    return img

def pil_recipe(frames, size, n, generator):
    "The same recipe, one image after another: frames (t, h, w, 3) to (n, 3, 8, size, size)"
    top,left,height,width = random_crop_box(*frames.shape[1:3], generator)
    mirror = random.random()<.5
    amounts,order = draw_jitter(n, generator)
    out = []
    for i,f in enumerate(frames):
        img = Image.fromarray(f).crop((left,top,left+width,top+height)).resize((size,size), Image.BILINEAR)
        if mirror: img = img.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        img = pil_jitter(img, amounts[i//8].tolist(), order)
        out.append(torch.from_numpy((np.asarray(img, dtype=np.float32)/255-MEAN)/STD))
    return rearrange(torch.stack(out), '(n t) h w c -> n c t h w', n=n).contiguous()

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clips', type=int, default=8); p.add_argument('--size', type=int, default=224); p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args(args)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (a.clips*8,8,11,3), dtype=np.uint8)
    frames = np.stack([np.asarray(Image.fromarray(f).resize((340,256), Image.BICUBIC)) for f in small])   # decoded frames, short side 256
    clips = rearrange(torch.from_numpy(frames), '(n t) h w c -> n c t h w', t=8)
    train, evaluate = TrainTransform(a.size), EvalTransform(a.size)
    cropped = crop_resize(clips, (20,30,200,240), a.size)
    amounts,order = draw_jitter(a.clips, torch.Generator().manual_seed(0))
    imgs = [Image.fromarray(f.numpy()) for f in rearrange(cropped, 'n c t h w -> (n t) h w c')]
    jitter = lambda c,m,out=None: apply_jitter(c, m, order, out)
    gens = [torch.Generator().manual_seed(0) for _ in range(2)]
    runs = {'whole recipe, PIL': lambda: pil_recipe(frames, a.size, a.clips, gens[0]), 'whole recipe, tqn': lambda: train(clips, gens[1]),
            'crop and resize, PIL': lambda: [np.asarray(Image.fromarray(f).crop((30,20,270,220)).resize((a.size,a.size), Image.BILINEAR)) for f in frames],
            'crop and resize, tqn': lambda: crop_resize(clips, (20,30,200,240), a.size),
            'jitter, PIL': lambda: [pil_jitter(f, amounts[i//8].tolist(), order) for i,f in enumerate(imgs)], 'jitter, tqn': lambda: in_pieces(jitter, cropped, amounts),
            'jitter in one piece, tqn': lambda: jitter(cropped, amounts), 'normalise, tqn': lambda: normalize(cropped), 'evaluation, tqn': lambda: evaluate(clips)}
    times = {k:[] for k in runs}
    for _ in range(a.rounds):          # in turns, so that a busy moment of the machine hits all of them
        for k,f in runs.items():
            start = time.process_time(); f(); times[k].append((time.process_time()-start)/len(frames)*1e3)
    best = {k:min(v) for k,v in times.items()}
    for k,v in best.items(): print(f'{k:26s} {v:6.2f} ms of CPU a frame')
    for what in ('whole recipe','crop and resize','jitter'): print(f'{what}: {best[what+", PIL"]/best[what+", tqn"]:.1f} times faster than PIL')
    print(f'jitter, in pieces: {best["jitter in one piece, tqn"]/best["jitter, tqn"]:.1f} times faster than in one piece')
    return {f'{what}, times as fast as PIL': best[what+', PIL']/best[what+', tqn'] for what in ('whole recipe','crop and resize','jitter')}

if __name__=='__main__': main()
