"Films that tests make"
import av

def uneven(source, out, at=30, seconds=1.7):
    "The same packets, those after frame `at` so many seconds later: a film whose rate is not even"
    with av.open(source) as src, av.open(out, 'w') as made:
        stream,shift = made.add_stream_from_template(src.streams.video[0]),0
        for i,p in enumerate(o for o in src.demux(video=0) if o.size):
            p.pts += shift; p.dts = p.pts if p.dts is None else p.dts + shift
            if i==at: shift = int(seconds/p.time_base)
            p.stream = stream; made.mux(p)
    return out

def later(source, out, seconds):
    "The same packets, so many seconds later: a film whose clock does not begin at zero"
    with av.open(source) as src, av.open(out, 'w') as made:
        stream = made.add_stream_from_template(src.streams.video[0])
        for p in src.demux(video=0):
            if not p.size: continue
            p.pts += int(seconds/p.time_base); p.dts = p.pts if p.dts is None else p.dts + int(seconds/p.time_base)
            p.stream = stream; made.mux(p)
    return out
