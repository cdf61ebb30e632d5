# syntax=docker/dockerfile:1
# The explorer as one image, for a CPU (default) or for CUDA: docs/hosting.md, "In a container".
#
#   docker build --target cpu  --tag sae-explorer:cpu  .
#   docker build --target cuda --tag sae-explorer:cuda .

FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Packages are installed before the explorer is copied, so that a new version of it reuses them.
FROM python AS packages-cpu
COPY deploy/requirements-cpu.lock /tmp/packages.lock
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --require-hashes --requirement /tmp/packages.lock

FROM python AS packages-cuda
COPY deploy/requirements-cuda.lock /tmp/packages.lock
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --require-hashes --requirement /tmp/packages.lock

FROM python AS explorer
RUN groupadd --gid 10001 explorer \
    && useradd --uid 10001 --gid explorer --home-dir /data/home --no-create-home explorer \
    && install --directory --owner=explorer --group=explorer /data /saes
WORKDIR /app
COPY app.py hosted.py ./
COPY .streamlit .streamlit
COPY core core
COPY pages pages
COPY demo demo
COPY deploy/start deploy/healthy deploy/
# What is written goes to /data (kept) and /tmp; the rest can be mounted read-only.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/data/home \
    HF_HOME=/data/models \
    SAE_EXPLORER_CACHE=/data/cache \
    SAE_EXPLORER_SAES=/saes \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib
VOLUME ["/data"]
EXPOSE 8501
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "deploy/healthy"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sh", "deploy/start"]

FROM explorer AS cuda
COPY --from=packages-cuda /opt/venv /opt/venv

FROM explorer AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
