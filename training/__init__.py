"""From click logs to adapters that the service serves. Each step reads and writes files.

Commands, each a module that __main__ starts as `python -m training NAME`: download, prepare,
finetune, calibrate, merge, evaluate, report.

Parts of prepare: mind, samples, manifest, texts. Its folders are read by dataset.
Parts of finetune: config, run, packing, objective, methods, bottleneck, trainer, scorer, validation
(and of calibrate), run_folder, run_record.
Parts of merge: lora, merge_check, folders (and of prepare).
Parts of evaluate: comparison, quality, metrics, speed; backends, of which there are
transformers_backend, vllm_backend and service_backend. Of report: charts. Of all: errors, progress,
provenance.
"""
