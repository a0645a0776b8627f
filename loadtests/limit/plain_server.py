"""A chat server on transformers that does only what LLaMA-Factory's API does.

`python -m loadtests.limit.plain_server MODEL PORT [--dummy]` answers one call after the other. It
loads no LoRA adapter: LLaMA-Factory merges it for inference, after which it costs nothing. --dummy
uses random weights in the shapes of config.json.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


class Chat:
    """A model that completes chats."""

    def __init__(self, folder: Path, dummy: bool) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if dummy:
            with torch.device(self.device):
                model = AutoModelForCausalLM.from_config(
                    AutoConfig.from_pretrained(folder), dtype=torch.bfloat16
                )
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model: Any = model.to(self.device).eval()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one chat request in OpenAI's shape."""
        inputs = self.tokenizer.apply_chat_template(
            body["messages"],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            **body.get("chat_template_kwargs", {}),
        ).to(self.device)
        prompt_tokens = int(inputs["input_ids"].shape[1])
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=body["max_tokens"],
                do_sample=True,
                temperature=body["temperature"],
            )
        written = output[0, prompt_tokens:]
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        return {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": len(written)},
        }


def create_app(chat: Chat) -> FastAPI:
    app = FastAPI()
    one_at_a_time = asyncio.Semaphore(1)

    @app.get("/health")
    async def health() -> None:
        pass

    @app.post("/v1/chat/completions")
    async def complete(body: dict[str, Any]) -> dict[str, Any]:
        async with one_at_a_time:
            return await asyncio.to_thread(chat.answer, body)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--dummy", action="store_true")
    options = parser.parse_args()
    app = create_app(Chat(options.model, options.dummy))
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
