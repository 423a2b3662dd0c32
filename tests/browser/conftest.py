"""A real JupyterLab in a real Chromium. Where a browser is missing the tests are skipped with the reason, or fail under TQN_REQUIRE_BROWSER=1.

TQN_SHOTS names a folder for the screenshots (else a temporary one); TQN_CHROMIUM another browser than Debian's.
"""
import json, os, re, shutil, signal, socket, subprocess, sys, time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener
import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
         '--disable-sync', '--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']  # nothing outside can be reached
NAMES = 'chromium', 'chromium-browser', 'google-chrome'
NEWS = '@jupyterlab/apputils-extension:announcements'  # the pop-up that asks whether to fetch news


def unavailable(reason):
    "Skip, or fail where a browser is required"
    if os.environ.get('TQN_REQUIRE_BROWSER') == '1': pytest.fail(f'{reason} (and TQN_REQUIRE_BROWSER=1 forbids a skip)')
    pytest.skip(reason)

def chromium():
    "The browser's path, or None"
    return os.environ.get('TQN_CHROMIUM') or next(filter(None, map(shutil.which, ['/usr/bin/chromium', *NAMES])), None)

@pytest.fixture(scope='session')
def browser():
    "Headless Chromium"
    try: from playwright.sync_api import Error, sync_playwright
    except ImportError: unavailable("playwright is not installed; run python -m pip install -c constraints.txt -e '.[dev]'")
    if not chromium(): unavailable('Chromium is missing; run apt-get install chromium, or name a browser in TQN_CHROMIUM')
    with sync_playwright() as p:
        try: found = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        except Error as e: unavailable(f'{chromium()} does not start: {str(e).splitlines()[0]}')
        yield found
        found.close()

@pytest.fixture(scope='session')
def shots(tmp_path_factory):
    "The folder for screenshots"
    folder = Path(os.environ.get('TQN_SHOTS') or tmp_path_factory.mktemp('shots'))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Lab:
    "A JupyterLab server of our own on a copy of the notebooks"
    def __init__(self, folder):
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); self.port = s.getsockname()[1]
        self.url, self.notebooks, self.log = f'http://127.0.0.1:{self.port}', folder/'nbs', folder/'lab.log'
        shutil.copytree(ROOT/'nbs', self.notebooks, ignore=shutil.ignore_patterns('.ipynb_checkpoints', 'runs'))
        config = folder/'config'
        (config/'labconfig').mkdir(parents=True)
        (config/'labconfig/page_config.json').write_text(json.dumps({'disabledExtensions': {NEWS: True}}))
        env = {**os.environ, 'JUPYTER_CONFIG_DIR': str(config), 'JUPYTER_DATA_DIR': str(folder/'data'), 'JUPYTER_RUNTIME_DIR': str(folder/'runtime'),
               'JUPYTERLAB_SETTINGS_DIR': str(folder/'settings'), 'JUPYTERLAB_WORKSPACES_DIR': str(folder/'workspaces'), 'IPYTHONDIR': str(folder/'ipython')}
        env.pop('MPLBACKEND', None)  # figures belong into the page
        command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--ip=127.0.0.1', f'--port={self.port}', '--allow-root',
                   '--IdentityProvider.token=', '--ServerApp.password=', '--LabApp.collaborative=False', f'--ServerApp.root_dir={self.notebooks}']
        self.process = subprocess.Popen(command, cwd=self.notebooks, env=env, stdin=subprocess.DEVNULL, stdout=self.log.open('w'),
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, seconds=120):
        "Until the server answers"
        opener, end = build_opener(ProxyHandler({})), time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try: return opener.open(f'{self.url}/api/status', timeout=5).close()
            except (URLError, OSError): time.sleep(.3)
        raise RuntimeError(f'JupyterLab did not start in {seconds} s:\n{self.log.read_text()[-3000:]}')

    def stop(self):
        "End the server, which ends its kernels; then whatever is left of its own process group"
        self.process.terminate()
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: pass
        try: os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        self.process.wait()

@pytest.fixture(scope='session')
def lab(browser, tmp_path_factory):
    "JupyterLab, running for as long as the browser tests do"
    server = Lab(tmp_path_factory.mktemp('lab'))
    try:
        server.wait()
        yield server
    finally: server.stop()


class Notebook:
    "One notebook open in JupyterLab: run it, look at it, and know what its page asked for and complained about"
    def __init__(self, browser, lab, path):
        self.lab, self.path = lab, path
        self.context = browser.new_context(viewport=dict(width=1400, height=1000), base_url=lab.url)
        self.page = self.context.new_page()
        self.requests, self.errors = [], []
        self.page.on('request', lambda r: self.requests.append(r.url))
        self.page.on('websocket', lambda w: self.requests.append(w.url))
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: self.errors.append(f'{m.text} ({m.location.get("url", "")})') if m.type == 'error' else None)
        self.open()

    def open(self):
        name = re.sub(r'\W', '-', self.path)
        self.page.goto(f'/lab/workspaces/{name}/tree/{self.path}?reset', wait_until='domcontentloaded')
        self.page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
        self.idle()

    def kernel(self):
        "What the server says the notebook's kernel does: starting, idle, busy; or None while no page is connected to one"
        sessions = self.page.request.get('/api/sessions').json()
        kernels = [s['kernel'] for s in sessions if s['path'] == self.path and s['kernel'] and s['kernel']['connections']]
        return kernels[0]['execution_state'] if kernels else None

    def idle(self, seconds=120):
        "Until the kernel has had nothing to do for a second, and the page knows it"
        end, quiet = time.monotonic() + seconds, 0
        while quiet < 3:
            if time.monotonic() > end: raise TimeoutError(f'{self.path}: the kernel is not idle after {seconds} s but {self.kernel()}')
            quiet = quiet + 1 if self.kernel() == 'idle' else 0
            self.page.wait_for_timeout(500)
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state='attached', timeout=20_000)

    def until(self, true, why='it did not happen', seconds=60):
        "Wait for what a page or its kernel will say; `why` may be a function, asked when it did not come. A page knows before its kernel does: what a kernel says is waited for, too"
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end: raise AssertionError(f'{why() if callable(why) else why}; the page says {self.errors}')
            self.page.wait_for_timeout(30)

    def menu(self, *names):
        "Choose from the menu bar"
        self.page.locator('.lm-MenuBar-itemLabel', has_text=re.compile(f'^{names[0]}$')).click()
        for name in names[1:]: self.page.locator('.lm-Menu-itemLabel', has_text=re.compile(f'^{name}$')).last.click()

    def code_cells(self):
        "(prompt number or None, has an error) of every code cell, as the saved notebook has them"
        saved = json.loads((self.lab.notebooks/self.path).read_text())
        return [(c['execution_count'], any(o['output_type'] == 'error' for o in c['outputs'])) for c in saved['cells']
                if c['cell_type'] == 'code' and ''.join(c['source']).strip()]

    def run_all(self, seconds=300):
        "Run every cell and save, once more where the first click was lost; what `code_cells` then says"
        for _ in range(2):
            self.menu('Run', 'Run All Cells')
            self.idle(seconds)
            self.menu('File', 'Save Notebook')
            self.page.wait_for_timeout(1500)
            if any(error or n for n, error in self.code_cells()): break
        return self.code_cells()

    def strangers(self):
        "Requests that left the page's own origin"
        own = re.compile(rf'(https?|wss?)://127\.0\.0\.1:{self.lab.port}/|data:|blob:')
        return [r for r in self.requests if not own.match(r)]

    def shot(self, path, element=None):
        "A picture of the page, or of one element"
        (self.page.locator(element).first if element else self.page).screenshot(path=str(path))

    def close(self): self.context.close()

class Kernel:
    "The kernel behind an open notebook, asked directly"
    def __init__(self, notebook):
        from jupyter_client import BlockingKernelClient
        sessions = notebook.page.request.get('/api/sessions').json()
        self.id = next(o['kernel']['id'] for o in sessions if o['path'] == notebook.path)
        self.client = BlockingKernelClient(connection_file=str(notebook.lab.notebooks.parent/'runtime'/f'kernel-{self.id}.json'))
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(30)

    def run(self, code, seconds=60):
        "Run code where the notebook runs its cells"
        reply = self.client.execute_interactive(code, silent=False, store_history=False, timeout=seconds, output_hook=lambda m: None)['content']
        if reply['status'] != 'ok': raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")

    def get(self, expression, seconds=60):
        "The value of a Python expression, through JSON"
        id = self.client.execute('import json as _json', silent=True, store_history=False, user_expressions={'v': f'_json.dumps({expression})'})
        while (m := self.client.get_shell_msg(timeout=seconds))['parent_header'].get('msg_id') != id: pass
        found = m['content']['user_expressions']['v']
        if found['status'] != 'ok': raise RuntimeError(f"{found.get('ename')}: {found.get('evalue')}")
        return json.loads(found['data']['text/plain'][1:-1].encode().decode('unicode_escape'))

    def send(self, code): self.client.execute(code, silent=True, store_history=False)
    def close(self): self.client.stop_channels()


def _opens(browser, lab, shots):
    "Opens notebooks by their path under nbs/; how a page looked at the end is kept as `NAME_end.png`"
    opened = []
    def open_one(path):
        opened.append(Notebook(browser, lab, path))
        return opened[-1]
    open_one.kernel = Kernel
    yield open_one
    for n in opened:
        n.shot(shots/f'{Path(n.path).stem}_end.png')
        n.close()

@pytest.fixture
def notebook(browser, lab, shots): yield from _opens(browser, lab, shots)

@pytest.fixture(scope='module')
def notebooks(browser, lab, shots): yield from _opens(browser, lab, shots)  # the same, for all tests of a file


def pytest_runtest_protocol(item, nextitem):
    "A test that fails is tried once more, and says so: under load headless Chromium now and then loses a seek or the notice of a frame"
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in (1, 2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if attempt == 2 or not any(r.failed for r in reports): break
        item.warn(pytest.PytestWarning(f'{item.name} failed and was tried again: {str(next(r for r in reports if r.failed).longrepr)[-300:]}'))
        item._initrequest()
    for r in reports: item.ihook.pytest_runtest_logreport(report=r)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
