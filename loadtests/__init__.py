"""Load tests, started from the repository's root.

Commands, as `python -m loadtests.NAME`: what each measures is in its own first lines.
  compare        variants of a model or service, side by side, by Locust (locustfile)
  limit          the service, its parts and its peers against what the hardware allows
  growth         how the cost of /rank grows with candidates, history, readers and adapters
  lora_kernels   what vLLM's LoRA kernels run fastest with on a GPU, for app/engine/lora_kernels
  replicas       Ray Serve with several replicas: throughput, failures, updates
  capacity       how many GPUs a site needs, and what they cost: arithmetic only
  prepare_scale  time and memory of `training prepare` at MIND-large's size
  training_cost  memory and speed of each training method on Qwen3-8B's shapes
For Locust itself: locustfile.

Started by limit, each in a process of its own: engines (without HTTP), plain_server.

Parts of compare and locustfile: results (figures), traffic (requests from MIND's titles).
Parts of limit and growth: workload and asks (the questions and how each server is asked them),
closed_load and peers (who asks, and whom), processes (the servers), machine (what it allows),
speed (figures). Parts of replicas: deployment, ray_cluster, outcomes. Of all: options, services.
"""
