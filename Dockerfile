# Targets: cpu and gpu are the service, load holds Locust, and train adds what training needs to the
# image SERVICE (cpu or gpu).
#
#   docker build --target cpu --tag frontpage:cpu .
#   docker build --target gpu --tag frontpage:gpu .
#
# The base may be any Debian or Ubuntu image that has Python 3.11 or newer with venv and pip. The GPU
# image needs no CUDA base: CUDA's libraries come with the packages, and the driver from the host.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG SERVICE=cpu

FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && groupadd --gid 10001 frontpage \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /cache frontpage \
    && install --directory --owner frontpage --group frontpage /cache /models /state
WORKDIR /frontpage
# The service writes only to /state, /tmp and /cache (the caches of vLLM, Triton and Hugging Face are
# below HOME), so the rest of the file system may be read-only.
ENV PATH=/frontpage/.venv/bin:$PATH \
    HOME=/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/frontpage \
    FRONTPAGE_HOST=0.0.0.0 \
    FRONTPAGE_STATE=/state
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["python", "-S", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["python", "-m", "app"]
LABEL org.opencontainers.image.title="Frontpage" \
      org.opencontainers.image.description="Online click prediction for news" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS cpu-packages
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements requirements
RUN requirements/install.sh cpu
# Nothing is compiled in this image, so torch's headers and tests can go.
RUN cd .venv/lib/python3*/site-packages && rm -r torch/include torch/test torch/bin/test_*

# The default model: SmolLM2-135M-Instruct with the shipped adapter merged into it.
FROM cpu-packages AS model
COPY app app
COPY training training
RUN python -m training download smollm2
RUN python -m training download minilm
COPY adapters adapters
RUN python -m training merge --no-check --base models/smollm2-135m-instruct \
        --adapter adapters/news-smollm2 --output models/news-smollm2 \
    && chmod --recursive a+rX models

# The software bill of materials (SBOM, in CycloneDX's format) of the packages in the image. The tool
# that writes it stays outside.
FROM base AS sbom
COPY docker/sbom.txt .
RUN python3 -m venv /sbom && /sbom/bin/pip install --no-cache-dir --no-deps -r sbom.txt

FROM sbom AS cpu-sbom
COPY --from=cpu-packages /frontpage/.venv .venv
RUN /sbom/bin/cyclonedx-py environment --output-reproducible --output-file sbom.cdx.json .venv

FROM base AS cpu
COPY --from=cpu-packages /frontpage/.venv .venv
COPY --from=model /frontpage/models/news-smollm2 models/news-smollm2
COPY --from=model /frontpage/models/all-minilm-l6-v2 models/all-minilm-l6-v2
COPY --from=cpu-sbom /frontpage/sbom.cdx.json .
COPY LICENSE .
COPY requirements requirements
COPY app app
COPY training training
# torch.compile needs a C++ compiler. vLLM applies it to a few small functions even when it runs
# eagerly, and without a compiler the engine would die at the first score.
ENV TORCH_COMPILE_DISABLE=1
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER frontpage

# Locust with the traffic that loadtests/ defines.
FROM cpu AS load
USER root
RUN PIP_NO_CACHE_DIR=1 requirements/install.sh load
COPY loadtests loadtests
COPY examples/mind examples/mind
ENV LOCUST_LOCUSTFILE=loadtests/locustfile.py LOCUST_HOST=http://frontpage:8000
HEALTHCHECK NONE
USER frontpage
EXPOSE 8089
ENTRYPOINT ["locust"]
CMD ["--class-picker"]

FROM base AS gpu-packages
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements requirements
RUN requirements/install.sh gpu

FROM sbom AS gpu-sbom
COPY --from=gpu-packages /frontpage/.venv .venv
RUN /sbom/bin/cyclonedx-py environment --output-reproducible --output-file sbom.cdx.json .venv

FROM base AS gpu
# Triton compiles a launcher for each kernel at its first use, so this image needs a C compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=gpu-packages /frontpage/.venv .venv
COPY --from=model /frontpage/models/news-smollm2 models/news-smollm2
COPY --from=model /frontpage/models/all-minilm-l6-v2 models/all-minilm-l6-v2
COPY --from=gpu-sbom /frontpage/sbom.cdx.json .
COPY LICENSE .
COPY requirements requirements
COPY app app
COPY training training
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER frontpage

# Training. Relative paths are below /work and the same as in the repository.
FROM ${SERVICE} AS train
USER root
RUN PIP_NO_CACHE_DIR=1 requirements/install.sh train
WORKDIR /work
RUN install --directory --owner frontpage --group frontpage data models runs
COPY configs configs
HEALTHCHECK NONE
USER frontpage
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]
