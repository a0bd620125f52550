# The images of Raftwright: `--target node` and `--target operator`.
#
# A base image needs Python 3.11 or later with its module venv, as `python3`. Whatever is needed to build stays in the
# stages before: the images get an environment without pip, whose code is compiled. What changes seldom comes first.

ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS base
USER root
RUN python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the base image needs Python 3.11 or later")' \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/raftwright
ENV PATH=/opt/raftwright/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# What builds: pip and hatchling in an environment of their own, beside an empty one that is to be filled.
FROM ${BASE_IMAGE} AS tools
USER root
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir hatchling \
    && python3 -m venv --without-pip /opt/raftwright

# The lists of what is depended upon: only a change of theirs makes that be installed again.
FROM tools AS requirements
COPY pyproject.toml /build/
RUN ["python3", "-c", "\
import pathlib, tomllib \n\
project = tomllib.loads(pathlib.Path('/build/pyproject.toml').read_text())['project'] \n\
extras = project['optional-dependencies'] \n\
pathlib.Path('/build/node.txt').write_text('\\n'.join(project['dependencies'] + extras['zstd'])) \n\
pathlib.Path('/build/operator.txt').write_text('\\n'.join(project['dependencies'] + extras['operator'])) \n\
"]

FROM tools AS node-dependencies
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
COPY --from=requirements /build/node.txt /build/
RUN /opt/tools/bin/pip --python /opt/raftwright/bin/python install --quiet --disable-pip-version-check \
        --no-cache-dir --no-compile --only-binary :all: -r /build/node.txt \
    && /opt/raftwright/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/raftwright/lib

# The client of Kubernetes has a module for each of its objects, of which the operator uses none: they stay uncompiled.
FROM tools AS operator-dependencies
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
COPY --from=requirements /build/operator.txt /build/
RUN /opt/tools/bin/pip --python /opt/raftwright/bin/python install --quiet --disable-pip-version-check \
        --no-cache-dir --no-compile --only-binary :all: -r /build/operator.txt \
    && /opt/raftwright/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/kubernetes/.*/(api|models)/' /opt/raftwright/lib

# The project by itself, under /staged as it will lie in the images.
FROM tools AS project
COPY . /build/
RUN cd /build \
    && /opt/tools/bin/pip wheel --quiet --disable-pip-version-check --no-cache-dir --no-build-isolation --no-deps \
        --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/raftwright/bin/python install --quiet --disable-pip-version-check \
        --no-index --no-deps --no-compile --root /staged /wheels/*.whl \
    && /opt/raftwright/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /staged /staged \
    && install -D -m 0644 deploy/single-node.toml /staged/etc/raftwright/single-node.toml

FROM base AS operator
COPY --from=operator-dependencies /opt/raftwright /opt/raftwright
COPY --from=project /staged/opt /opt
USER 65532:65532
WORKDIR /
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "raftwright_operator"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Raftwright operator" \
      org.opencontainers.image.description="Runs Raftwright clusters on Kubernetes." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"

FROM base AS node
COPY --from=node-dependencies /opt/raftwright /opt/raftwright
COPY --from=project /staged /
USER 65532:65532
WORKDIR /
VOLUME ["/var/lib/raftwright"]
EXPOSE 7001 8001
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["raftwright", "health"]
ENTRYPOINT ["raftwright"]
# One node alone. Nothing of it is in the environment, so that other arguments start from nothing.
CMD ["node", "--config", "/etc/raftwright/single-node.toml"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Raftwright node" \
      org.opencontainers.image.description="A node of a replicated, durable key-value store by the Raft algorithm." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
