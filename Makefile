# make lab    open the notebooks in JupyterLab, as copies in my_notebooks/ that are yours
# make test   lint, unit tests, every notebook
# make test-browser    run every notebook in JupyterLab, and drive its explorers and the atlas in Chromium, as a reader would
# make check-views    the form of the JavaScript in interp_utils/widgets/views; test-browser begins with it
# make bench    time and memory beside the published ways, in build/bench.json
# make soak     kill passes over a dataset 200 times at random moments, and compare what they end with
# make rehearse    every notebook under the presets for real models, on stand-ins of their downloads
# make student / make solutions    write copies of the notebooks for a class, without and with the answers
# make grader        an environment with nbgrader, in build/nbgrader, whose kernel is this course's
# make grade-test    hand out, fill in, mark and give back copies of every chapter with it
# make slides        slides of the chapters, from cells that are tagged so, in build/slides
# make notebooks / make book    execute the notebooks in place / write them as pages into build/book, with an atlas of the sandbox
PYTHON ?= python3
BIN := .venv/bin

.PHONY: lab test test-browser check-views rehearse student solutions grader grade-test slides notebooks book bench soak clean

# glibc shall keep freed memory instead of giving it back and asking again at each layer: a twentieth of the time.
lab test rehearse notebooks: export MALLOC_MMAP_THRESHOLD_ := 33554432
lab test rehearse notebooks: export MALLOC_TRIM_THRESHOLD_ := 536870912

# What was compiled is kept: half a second less for each of many processes.
test rehearse notebooks: export PYTHONDONTWRITEBYTECODE :=

lab: .venv/.lab
	$(BIN)/python -m interp_utils.lab $(if $(filter 0,$(shell id -u)),--allow-root)

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Chromium is the system's, or Debian's where we may install it; axe-core, which judges accessibility, comes from npm's registry.
test-browser: .venv/.browser check-views
	command -v chromium || command -v chromium-browser || command -v google-chrome || { apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; }
	test -e build/browser/node_modules/axe-core || npm install --silent --prefix build/browser axe-core@4 || true
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser tests/browser

# Biome, from npm's registry, formats the views (make check-views BIOME=--write) and looks for mistakes in them.
BIOME :=
check-views:
	@command -v npx >/dev/null || echo "no npm here: the JavaScript of the views is not checked"
	mkdir -p build/browser
	! command -v npx >/dev/null || npx --yes --prefix build/browser @biomejs/biome@2.6.8 check --indent-style=space --line-width=132 $(BIOME) interp_utils/widgets/views/*.js

rehearse: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/rehearsal/rehearse.py

student solutions: .venv/.test
	$(BIN)/python notebooks/copies.py $@

grader: build/nbgrader/.ready

build/nbgrader/.ready: .venv/.test
	$(BIN)/python -m venv build/nbgrader
	build/nbgrader/bin/pip install --quiet nbgrader==0.9.6
	$(BIN)/python -m ipykernel install --prefix build/nbgrader --name python3
	touch $@

grade-test: build/nbgrader/.ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -s tests/exercises/nbgrader_loop.py

slides: .venv/.test
	$(BIN)/python notebooks/slides.py

notebooks: .venv/.test
	$(BIN)/python notebooks/execute.py

book: .venv/.test
	$(BIN)/python -m interp_utils.atlas --out build/book/atlas --notebooks ..
	$(BIN)/python -m interp_utils.book --out build/book

bench: .venv/.test
	$(BIN)/python tests/benchmarks/bench.py

soak: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py

# Most of torch's Linux build on PyPI is CUDA. Without an NVIDIA card its own index has a pair for the CPU; where that cannot be had whole, PyPI's will do.
CPU_TORCH := $(if $(shell command -v nvidia-smi),,$(filter Linux,$(shell uname -s)))
PAIR := torch torchvision

# A stamp per extra: nothing is installed again until pyproject.toml changes.
.venv/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(CPU_TORCH),$(BIN)/python -c "import torch" 2>/dev/null || { PIP_CONFIG_FILE=/dev/null $(BIN)/python -m pip --isolated install --quiet --retries 0 \
		--timeout 10 --index-url https://download.pytorch.org/whl/cpu $(PAIR) && $(BIN)/python -c "import torchvision"; } \
		|| $(BIN)/python -m pip uninstall --quiet --yes $(PAIR))
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv build
