"""Environment variables that vLLM and other libraries read at import, so they are set before it."""

import os

QUIET = {
    # vLLM logs its errors only; our own lines say what is loading. INFO shows everything.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # A forked engine process would inherit our sockets and threads.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # At vLLM's end Python's resource tracker removes what vLLM has left of its shared memory, and
    # would call that a leak.
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore:resource_tracker:UserWarning",
    # PyTorch's own log, in which vLLM says as a warning that memory is taken from the nearest node.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # On a CPU nothing uses Triton, which is not installed there.
    "TORCH_LOGS": "-torch._library.triton",
}


def be_quiet() -> None:
    """Set QUIET for this process and its children, except variables that the operator has set."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
