"""What vLLM and other libraries read when they are imported: to be set before."""

import os

QUIET = {
    # Only its errors: ours say what is loading. Set it to INFO to see all of vLLM's.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # A fork would hand our sockets and threads to the engine's process.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def be_quiet() -> None:
    """Sets QUIET for this process and those it starts; what the operator has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
