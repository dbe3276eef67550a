"""A JupyterLab on copies of notebooks, and Chromium to drive it. What was seen and measured lands in build/browser."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from interp_utils.lab import SETTINGS

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "browser"
AXE = OUT / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
ALL_CELLS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}  # all cells stay in the page
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
FAILED = """() => window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === 'code')
  .flatMap(cell => cell.model.outputs.toJSON().filter(output => output.output_type === 'error')
    .map(output => `${cell.model.id}: ${output.ename}: ${output.evalue}`))"""
RAN = f"""() => {{ const panel = window.jupyterapp.shell.currentWidget;
  const code = panel.content.widgets.filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());
  const ran = code.filter(cell => cell.model.executionCount !== null).length;
  window.ran = `${{ran}} of ${{code.length}} cells`;
  return panel.sessionContext.session?.kernel?.status === 'idle' && (({FAILED})().length > 0 || ran === code.length);
}}"""
ERRORS = "[data-mime-type='application/vnd.jupyter.stderr']"  # where JupyterLab shows tracebacks, too


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.fail("no Chromium: apt-get install chromium")
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def serving(folder: Path, notebooks: dict[str, nbformat.NotebookNode], without: tuple[str, ...] = (), **variables: str):
    """Serve notebooks, by name, with the course's settings; gives the address of one, in a workspace of its own, with its token.

    without: extensions of JupyterLab to leave out; variables: of the environment, which the kernels have too.
    """
    root, settings = folder / "notebooks", folder / "settings"
    root.mkdir()
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            if cell.cell_type == "code":  # or a count that was saved would look like one of this run
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, root / name)
    settings.mkdir()
    ours = json.loads((SETTINGS / "overrides.json").read_text())
    (settings / "overrides.json").write_text(json.dumps(ours | ALL_CELLS))
    disabled = {"disabledExtensions": dict.fromkeys(without, True)}
    (settings / "page_config.json").write_text(json.dumps(disabled))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    env = dict(os.environ, PYTHONPATH=str(ROOT), JUPYTERLAB_WORKSPACES_DIR=f"{folder}/workspaces")
    env |= {"JUPYTERLAB_SETTINGS_DIR": f"{folder}/user"} | variables
    env |= {f"JUPYTER_{name}": f"{folder}/{part}" for name, part in folders.items()}
    with (OUT / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
             "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}",
             "--LabApp.expose_app_in_browser=True", f"--LabApp.app_settings_dir={settings}"],
            env=env, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for _ in range(120):
                if server.poll() is not None:
                    pytest.fail((OUT / "lab.log").read_text())
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=2)
                    break
                except OSError:
                    time.sleep(0.5)
            yield lambda name: f"http://127.0.0.1:{port}/lab/workspaces/{Path(name).stem}/tree/{name}?token={token}"
        finally:
            server.terminate()  # its kernels with it
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def watched(context):
    """A new page that keeps its errors, and the hosts it asks."""
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.errors, page.hosts = [], set()
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    return page


def run_all(page, address: str):
    """Open a notebook and have all its cells run, up to the first error; returns its part of the page at once."""
    page.goto(address)
    page.wait_for_function(IDLE, timeout=300_000)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")


def ran_all(page, address: str, seconds: int = 300):
    """As `run_all`, once all have run."""
    import playwright.sync_api

    cells = run_all(page, address)
    try:
        page.wait_for_function(RAN, timeout=1000 * seconds)
    except playwright.sync_api.TimeoutError:
        pytest.fail(f"after {seconds} s {page.evaluate('window.ran')} had run")
    return cells


def serious_faults(page, within: str | None = None) -> list[str]:
    """What axe-core calls serious or critical, within an element or on the whole page."""
    if not AXE.exists():
        pytest.skip(f"no axe-core at {AXE}: npm install --prefix build/browser axe-core@4")
    page.add_script_tag(path=AXE)
    found = page.evaluate("(within) => axe.run(within ?? document)", within)
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]} ({len(fault['nodes'])} places)"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
