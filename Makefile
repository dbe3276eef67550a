# make lab    open the notebooks in JupyterLab
# make test   everything that CI runs: lint, unit tests, every notebook
# make rehearse    every notebook under the presets for real models, on stand-ins of their downloads
# make student / make solutions    write copies of the notebooks for a class, without and with the answers
# make grader        an environment with nbgrader, in build/nbgrader, whose kernel is this course's
# make grade-test    hand out, fill in, mark and give back copies of every chapter with it
# make slides        slides of the chapters, from cells that are tagged so, in build/slides
# make notebooks / make book    execute the notebooks in place / render them as HTML into build/book
PYTHON ?= python3
BIN := .venv/bin

.PHONY: lab test rehearse student solutions grader grade-test slides notebooks book benchmarks clean

lab: .venv/.lab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

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
	$(BIN)/jupyter nbconvert --to html --output-dir build/book notebooks/*.ipynb

benchmarks: .venv/.test
	for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# A stamp per extra: nothing is installed again until pyproject.toml changes.
.venv/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv build
