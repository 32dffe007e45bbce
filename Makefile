# make run   set up, break a fleet on purpose, and leave a report in report/
# make test  set up, and run every test and every suite
# make check style and types
# make bench what a call, a pick and a commit cost, and who is ejected wrongly: ours and theirs side by side
# make bench-sim what a client does on bad days, in virtual time: ours, others' and what must be reached, in one table
# make bench-proxy what the built-in proxy costs beside the real Toxiproxy
# make hunt  ten defects planted into the library: does stormproof explore find each within a minute?
# make parity  virtual time against real processes, twenty times, and twenty times beside two busy loops (about 40 minutes)
# make images, make docker  the images of --fleet=docker, and all that runs in containers (needs an engine)
# make kills thousands of SIGKILLs of clients with a checkpoint, at random moments
# make fuzz  an hour of anything at all thrown at the built-in proxy
# make differential 2,500 generated sequences of requests and 800 lines of bytes, to the built-in proxy and to the real one
.PHONY: run test check bench bench-sim bench-proxy hunt kills fuzz differential parity images docker clean setup toxiproxy

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stormproof

run: setup toxiproxy
	$(BIN)/stormproof run suites --report=report

test: setup toxiproxy
	$(BIN)/python -m pytest suites --fleet=sim
	$(BIN)/python -m pytest tests suites --report=report/test

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/client_cost.py
	$(BIN)/python benchmarks/ejection.py
	$(BIN)/python benchmarks/simulator.py

bench-sim: setup
	$(BIN)/python benchmarks/table.py
	$(BIN)/python benchmarks/simulator.py --rounds=1

hunt: setup
	$(BIN)/python benchmarks/planted_defects.py

kills: setup
	$(BIN)/python benchmarks/kill_points.py

parity: setup toxiproxy
	$(BIN)/python benchmarks/parity.py

bench-proxy: setup toxiproxy
	$(BIN)/python benchmarks/proxy.py

fuzz: setup
	$(BIN)/python benchmarks/fuzz_proxy.py

differential: setup toxiproxy
	STORMPROOF_RANDOM=1 STORMPROOF_SEQUENCES=2500 STORMPROOF_LINES=40 $(BIN)/python -m pytest -s \
		tests/harness/proxy/test_proxy_differential.py tests/harness/proxy/test_proxy_lines.py tests/harness/proxy/test_proxy_timing.py

# BASE is the image that both are built on (Dockerfile has a default); ARGS are further arguments of `docker build`.
images:
	docker build --target server -t stormproof-server $(if $(BASE),--build-arg BASE=$(BASE)) $(ARGS) .
	docker build --target chaos -t stormproof-chaos $(if $(BASE),--build-arg BASE=$(BASE)) $(ARGS) .

COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) -p stormproof-chaos
docker: export STORMPROOF_DOCKER_GROUP = $(shell stat -c %g /var/run/docker.sock)
docker: export STORMPROOF_REPORT = ./report/chaos
docker: setup
	$(BIN)/python -m pytest tests/harness/fleet/docker
	$(BIN)/python -m pytest suites examples/shop -m docker --fleet=docker --report=report/docker
	mkdir -p report/chaos && chmod a+rwx report/chaos
	$(COMPOSE) up --abort-on-container-exit --exit-code-from chaos --scale hello=2 chaos || { $(COMPOSE) down -v; exit 1; }
	$(COMPOSE) down -v

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The real Toxiproxy, where Go is there to build it; the built-in proxy serves otherwise.
toxiproxy: setup
	@if command -v go >/dev/null 2>&1 && [ -z "$$STORMPROOF_TOXIPROXY" ]; then $(BIN)/stormproof toxiproxy install; fi

clean:
	rm -rf .venv report .pytest_cache .mypy_cache .ruff_cache
