# The app in a container, at home or on a Space (`sdk: docker`). The code is root's and read-only, the process is not
# root's, and all that it keeps is below /data:
#   docker build -t gcr . && docker run --read-only --tmpfs /tmp -p 7860:7860 -v gcr:/data gcr
# `sudo python scripts/check_dockerfile.py EMPTY_FOLDER` runs these steps without Docker.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 1000 user && install --directory --owner=user /data

# The largest layer comes first: only another torch makes it anew. It is the locked one, which `make lock` writes here.
# For a GPU give the index of its CUDA.
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} torch==${TORCH_VERSION}
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/requirements.txt

WORKDIR /home/user/app
COPY --chmod=755 . .
RUN python -m compileall -q app.py gcr_core

USER user
ENV HOME=/home/user \
    GCR_HOME=/data/gcr \
    HF_HOME=/data/huggingface \
    PYTHONUNBUFFERED=1
EXPOSE 7860
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
