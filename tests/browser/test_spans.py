"Moments in the viewer, in a real JupyterLab: their ends are dragged and moved with keys, numbers follow, Python knows, and they are put back"
import pytest
from test_viewer import F, SETUP, Seen, write_notebook

MOMENTS = """
import pandas as pd
counting('film.mp4')
found = pd.DataFrame([dict(film='film.mp4', question='twist', answer='one', probability=.9, start=1.6, end=3.2, first=40, last=80, peak=60, score=3., needed=.25, elsewhere=.1, remark=''),
                      dict(film='film.mp4', question='entry', answer='feet', probability=.8, start=4., end=6., first=100, last=150, peak=120, score=2., needed=None, elsewhere=None, remark='')])
viewer = tqn.view(model, 'film.mp4', extents={'twist': (48, 88)}, features=features, moments=found)
viewer
"""

@pytest.fixture(scope='module')
def seen(notebooks, lab):
    write_notebook(lab.notebooks/'spans.ipynb', SETUP, MOMENTS)
    nb = notebooks('spans.ipynb')
    assert not any(e for _, e in nb.run_all())
    nb.page.locator('.tqn-viewer').first.scroll_into_view_if_needed()
    s = Seen(nb, notebooks.kernel(nb)).wait()
    yield s
    s.kernel.close()

def grip(seen, name): return seen.root.get_by_role('slider', name=name)
def numbers(seen): return seen.root.locator('.tqn-spans').inner_text()
def value(seen, name): return int(grip(seen, name).get_attribute('aria-valuenow'))

def test_ends_are_named_and_stand_at_their_frames(seen):
    "Two sliders a moment, under their names for screen readers, where the stroke ends; numbers beside the answers of the chosen lane"
    assert seen.root.get_by_role('slider', name='moment').count() == 4
    assert (value(seen, 'twist: start of the moment'), value(seen, 'twist: end of the moment')) == (40, 80)
    track = seen.canvas('twist').bounding_box()
    for name, frame, side in (('start', 40, 1), ('end', 80, 0)):
        b = grip(seen, f'twist: {name} of the moment').bounding_box()
        assert abs(b['x'] + side*b['width'] - (track['x'] + frame/F*track['width'])) < 1.5 and abs(b['y'] - track['y']) < 1.5
    seen.lane('twist').focus()
    seen.until(lambda: '1.60 s – 3.20 s' in numbers(seen) and 'needed 0.25' in numbers(seen), why=lambda: numbers(seen))
    assert 'frames 40–79' in numbers(seen) and '% of the attention' in numbers(seen) and 'Put back' not in numbers(seen)

def test_an_end_is_moved_with_keys(seen):
    "E goes to the start, arrows move it frame by frame and the film shows the frame; Python has it, asks the model anew, and Backspace puts it back"
    seen.lane('twist').focus()
    seen.page.keyboard.press('e')
    assert grip(seen, 'twist: start of the moment').evaluate('e => e === document.activeElement')
    for k in ('ArrowRight', 'ArrowRight', 'ArrowLeft', 'Shift+ArrowRight'): seen.page.keyboard.press(k)
    seen.until(lambda: value(seen, 'twist: start of the moment') == 49 and seen.data('frame') == '49')
    seen.until(lambda: seen.get('viewer.moved'.split('.')[1]) == {'twist': [[49, 80]]})
    table = lambda c: seen.kernel.get(f'viewer.moments().{c}.tolist()')
    assert seen.kernel.get("[int(f) for f in viewer.moments()['first']]") == [49, 100] and abs(table('start')[0] - 49/25) < 1e-6
    assert table('remark')[0].startswith('moved by hand') and table('remark')[1] == ''
    needed = table('needed')[0]
    told = f'needed {needed:.2f}'.replace('-0.00', '0.00')
    seen.until(lambda: told in numbers(seen).replace('-0.00', '0.00'), why=f'{numbers(seen)}, but {told}')
    assert grip(seen, 'twist: start of the moment').get_attribute('aria-valuetext') == '1.96 s, frame 49'
    seen.page.keyboard.press('e')
    assert grip(seen, 'twist: end of the moment').evaluate('e => e === document.activeElement')
    seen.page.keyboard.press('Home')                                        # as far as there is room
    seen.until(lambda: value(seen, 'twist: end of the moment') == 50)
    seen.page.keyboard.press('Backspace')
    seen.until(lambda: (value(seen, 'twist: start of the moment'), value(seen, 'twist: end of the moment')) == (40, 80) and seen.get('moved') == {})
    assert 'needed 0.25' in numbers(seen)
    seen.page.keyboard.press('Escape')
    assert seen.lane('twist').evaluate('e => e === document.activeElement')

def test_an_end_is_dragged(seen, shots):
    "With the mouse, in a lane that is not the chosen one, which it becomes; a button puts it back"
    seen.lane('takeoff').focus()
    end, track = grip(seen, 'entry: end of the moment').bounding_box(), seen.canvas('entry').bounding_box()
    x, y = end['x'] + 2, end['y'] + end['height']/2
    seen.page.mouse.move(x, y); seen.page.mouse.down()
    for share in (.3, .7, 1): seen.page.mouse.move(x + share*20/F*track['width'], y)
    seen.until(lambda: abs(value(seen, 'entry: end of the moment') - 170) <= 1)
    seen.page.mouse.up()
    at = value(seen, 'entry: end of the moment')
    seen.until(lambda: seen.get('moved') == {'entry': [[100, at]]} and seen.get('lane') == 2 and seen.get('frame') == at-1)
    assert not seen.root.locator('.tqn-pop').is_visible(), 'a handle that is dragged chooses no range'
    for theme in ('light', 'dark'):
        seen.set(theme=theme)
        seen.until(lambda: ('is-dark' in seen.root.get_attribute('class')) == (theme == 'dark'))
        seen.nb.shot(shots/f'viewer_spans_{theme}.png', '.tqn-viewer')
    seen.set(theme='light')
    seen.root.get_by_role('button', name='Put back').click()
    seen.until(lambda: value(seen, 'entry: end of the moment') == 150 and seen.get('moved') == {})

def test_what_python_moves_is_shown_and_out_of_sight_is_hidden(seen):
    "The trait moves handles; zoomed in, an end that is out of sight has none"
    seen.set(moved={'twist': [[20, 64]]})
    seen.until(lambda: (value(seen, 'twist: start of the moment'), value(seen, 'twist: end of the moment')) == (20, 64))
    seen.root.focus()
    seen.key('End', '+', '+')
    seen.until(lambda: not grip(seen, 'twist: end of the moment').is_visible())
    seen.key('0')
    seen.until(lambda: grip(seen, 'twist: end of the moment').is_visible())
    seen.set(moved={})
    assert not seen.nb.strangers()
