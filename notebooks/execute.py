"""Execute notebooks in place, top to bottom, and write them so that two runs give identical bytes.

Prints how long each took: its first cell says so to the reader, and README repeats that.

python notebooks/execute.py [NAME.ipynb ...]
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import address

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"  # its ids are random; the picture beside it stays


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    kept = {key: value for key, value in notebook.metadata.items() if key in ("accelerator", "colab")}
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        **kept,
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"c{number:03d}"
        outputs = []
        for output in cell.get("outputs", []):
            was_widget = output.get("data", {}).pop(WIDGET, None)
            progress_bar = output.get("name") == "stderr" or (was_widget and "image/png" not in output.data)
            if progress_bar:
                continue
            if output.output_type == "stream" and outputs and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text  # prints arrive in one piece or in several, as the machine is busy
            else:
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    nbformat.write(notebook, path)


if __name__ == "__main__":
    paths = [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    address.write(paths)
    for path in paths:
        print(path.name, end=": ", flush=True)
        started = time.monotonic()
        execute(path)
        print(f"{(time.monotonic() - started) / 60:.1f} minutes", flush=True)
