# For clusters: NVIDIA's PyTorch, with TransformerEngine and apex as NVIDIA built them, and nemo_tabular on top.
#
#   docker build -t nemo-tabular .
#   enroot import -o nemo-tabular.sqsh dockerd://nemo-tabular
#   nemo-tabular submit conf/X.yaml --container-image nemo-tabular.sqsh ...
#
# Why 26.04: programs that ran in it report Python 3.12.3 and torch 2.12.0a0+0291f960b6.nv26.04, which pip counts
# as within pyproject's torch>=2.11,<2.14. The torch 2.11.0a0 of 26.02 and 26.03 comes before 2.11 in pip's order
# (an alpha), so that PyPI's build would be put over NVIDIA's. It holds CUDA 13.2,
# which was seen to run on driver 580.
FROM nvcr.io/nvidia/pytorch:26.04-py3

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/nemo_tabular
COPY pyproject.toml README.md LICENSE ./
COPY nemo_tabular nemo_tabular
COPY conf conf

# The image's own torch must survive: pip is held to it, and whatever goes against it ends the build.
RUN python -c "import torch; print('torch==' + torch.__version__)" >/tmp/torch.txt \
    && pip install --no-cache-dir --constraint /tmp/torch.txt '.[evaluate,loggers]' \
    && python -c "import torch; assert 'torch==' + torch.__version__ == open('/tmp/torch.txt').read().strip()" \
    && rm /tmp/torch.txt

# enroot maps the caller's own user; elsewhere nothing runs as root.
RUN useradd --create-home --uid 10001 nemo
USER nemo
WORKDIR /home/nemo
CMD ["nemo-tabular", "--help"]

# Smoke test: from a table to a synthetic one, on the build machine's processor, as the user that will run it.
RUN folder=$(mktemp -d) && cd "$folder" \
    && python -c "print('a,b'); [print(i % 7, i % 3 * i, sep=',') for i in range(300)]" >table.csv \
    && nemo-tabular prepare table.csv -o store \
    && nemo-tabular train /opt/nemo_tabular/conf/gpt_laptop.yaml data.store=store run.dir=run trainer.max_steps=3 \
    && nemo-tabular generate run --rows 20 -o synthetic.csv \
    && test "$(wc -l <synthetic.csv)" -eq 21 \
    && nemo-tabular preflight "$folder/run" \
    && rm -r "$folder"
