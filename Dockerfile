# One image for every component: `worker`, `respond`, `export`, `topics` are commands of it.
# Two stages: the first builds an environment from the hashed lock, the second carries only that.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

# The tools stay here; the environment that ships has no pip.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && python -m venv --without-pip /opt/sluicegate \
    && /build/tools/bin/pip --python /opt/sluicegate/bin/python install \
        --require-hashes --only-binary :all: -r requirements/runtime.txt

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY detectors detectors
COPY alerts alerts
COPY response response
COPY exporter exporter
COPY stream stream
COPY sluicegate sluicegate
RUN /build/tools/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /build/wheel . \
    && /build/tools/bin/pip --python /opt/sluicegate/bin/python install --no-deps --no-index /build/wheel/*.whl
# The engine's loops as machine code, so that a start does not compile: see detectors/kernels/compiled.py.
RUN cd / && /opt/sluicegate/bin/python -m detectors.warm

FROM python:3.11-slim-bookworm
# The same base as above: an environment is bound to the interpreter it was made with.
COPY --from=build /opt/sluicegate /opt/sluicegate
# PYTHONSAFEPATH: our package names are generic, so the working directory must never be on the path.
ENV PATH=/opt/sluicegate/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Empty, and not writable by the user below.
WORKDIR /var/lib/sluicegate
USER 65532:65532
ENTRYPOINT ["sluicegate"]
CMD ["--help"]
