# The Hello server (target `server`) and the one-shot that runs suites (target `chaos`), on one base.
#
#   docker build --target server -t stormproof-server .
#   docker build --target chaos -t stormproof-chaos .
#
# BASE is any image with Python 3.11 or newer, its `venv` and a C library that wheels are made for; give yours by digest to
# pin it to the byte. Wheels that lie in ./wheels are taken first; with PIP_NO_INDEX=1 nothing else is, so that a build
# needs no network.
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS needs
ARG PIP_NO_INDEX=
ENV PIP_FIND_LINKS=/src/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /src
RUN python3 -m venv /opt/stormproof && mkdir -p /src/wheels /home/stormproof /var/lib/stormproof
COPY pyproject.toml constraints.txt wheel[s] ./wheels/
# What a server imports, and no more: the statistics of the guarantees alone are four times as large.
RUN /opt/stormproof/bin/pip install -q -c wheels/constraints.txt grpcio grpcio-health-checking msgspec protobuf uvloop

# 65532 is nobody's number on any distribution. The volume is all that a server writes to: its root may be read-only.
FROM ${BASE} AS base
ENV PATH=/opt/stormproof/bin:$PATH HOME=/home/stormproof PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=needs --chown=65532:65532 /home/stormproof /home/stormproof
COPY --from=needs --chown=65532:65532 /var/lib/stormproof /var/lib/stormproof
USER 65532:65532
WORKDIR /home/stormproof

FROM base AS server
COPY --from=needs /opt/stormproof /opt/stormproof
ENV PYTHONPATH=/opt/stormproof/src
COPY protos /opt/stormproof/src/protos
COPY faults /opt/stormproof/src/faults
COPY stormproof /opt/stormproof/src/stormproof
COPY harness /opt/stormproof/src/harness
VOLUME /var/lib/stormproof
EXPOSE 50051 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-m", "harness.node.probe", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "harness.node", "--host", "0.0.0.0", "--control-port", "50052", "--settings", "/var/lib/stormproof/settings.json", "--journal", "/var/lib/stormproof/journal.jsonl"]

FROM needs AS everything
ARG PIP_NO_INDEX=
RUN /opt/stormproof/bin/python -c "import tomllib; print(*tomllib.load(open('wheels/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needs.txt \
    && /opt/stormproof/bin/pip install -q -c wheels/constraints.txt -r needs.txt
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY faults faults
COPY stormproof stormproof
COPY harness harness
RUN /opt/stormproof/bin/pip install -q --no-deps .

FROM base AS chaos
COPY --from=everything /opt/stormproof /opt/stormproof
COPY suites suites
ENTRYPOINT ["stormproof"]
CMD ["run", "suites", "-m", "docker", "--fleet=docker", "--report=/report"]
