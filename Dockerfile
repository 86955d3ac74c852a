# `streamvlm serve` on CPUs. An index with CPU wheels of torch makes the image a good deal smaller:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=… -t streamvlm .
#   docker run --stop-timeout 40 -p 8000:8000 -v "$PWD/keys.toml:/run/secrets/keys.toml:ro" -v streamvlm:/data streamvlm
FROM python:3.11-slim AS build
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
RUN python -m venv /opt/streamvlm
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY streamvlm streamvlm
COPY server server
COPY kernels kernels
COPY demos demos
RUN /opt/streamvlm/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home streamvlm && install -d -o streamvlm /data
COPY --from=build /opt/streamvlm /opt/streamvlm
ENV PATH=/opt/streamvlm/bin:$PATH \
    STREAMVLM_HOST=0.0.0.0 \
    STREAMVLM_HOME=/data \
    STREAMVLM_KEYS_FILE=/run/secrets/keys.toml
USER streamvlm
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["streamvlm", "serve"]
