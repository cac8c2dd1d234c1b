# Two commands are all a newcomer needs: `make demo` and `make test`. Both first make the virtual environment.
#
#   make demo    from MovieLens-100k to trained, compared and served models, with a report page
#   make test    the everyday test suite
#   make check   what a change must pass: lint, format, types, then `make test`
#   make wide    the same tests on more models, logs and documents; CI runs `make check`, then `make wide`
#   make clean   removes the environment, the caches and what the demo wrote
#
# Another interpreter: make test PYTHON=/path/to/python3.12. More test processes: make test WORKERS=8.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check wide clean

PYTHON ?= $(shell for python in python3.11 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
WORKERS ?= 2

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/.installed
	.venv/bin/clickscale demo

# One torch thread per process: more threads than cores wait for each other far longer than they compute.
test: .venv/.installed
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal --durations 5

check: .venv/.installed
	scripts/check

wide: .venv/.installed
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal --durations 5 \
		-m "wide and not slow and not benchmark"

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist clickscale-demo
	find clickscale tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation is taken up again by the next make.
.venv/.installed: pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "clickscale needs Python 3.11 or newer, and neither python3.11 nor python3 is one." \
		"Install it, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "clickscale needs Python 3.11 or newer; $(PYTHON) is not." >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install -c constraints.txt -e '.[trees,tensorboard,content,serve,dev]'
	.venv/bin/python -m pip check
	touch .venv/.installed
