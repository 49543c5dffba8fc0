"""The providers that are built in: where each is, its key, its dialect. Data, and nothing else.

Each is a `[model_providers.NAME]` block as it would stand in `config.toml`; a block of the same name
there overrides single keys. docs/providers.md says where each fact comes from.
"""

from typing import Any, Final

_FUNCTIONS_ONLY: Final[dict[str, Any]] = {
    "custom_tools": False,
    "encrypted_reasoning": False,
    "unknown_items": False,
    "developer_role": False,
    "web_search": False,
    "images": False,
    "output_images": False,
}
"""What local servers have in common: function tools, plain roles, nothing hosted, no images.

Some of their models do see: `dialect.images = true` is for these."""

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "openai": {
        "name": "OpenAI",
        "dialect": {"compact_endpoint": True},
    },
    "azure": {
        "name": "Azure OpenAI",
        "env_key": "AZURE_OPENAI_API_KEY",
        "env_key_instructions": "it is under Keys and Endpoint of your resource",
        "dialect": {"web_search": False},
    },
    "openrouter": {
        "name": "OpenRouter",
        "base_url": "https://openrouter.ai/api/v1",
        "env_key": "OPENROUTER_API_KEY",
        "dialect": {"custom_tools": False, "unknown_items": False, "web_search": False},
    },
    "deepseek": {
        "name": "DeepSeek",
        "base_url": "https://api.deepseek.com",
        "env_key": "DEEPSEEK_API_KEY",
        "dialect": {
            "calls_together": True,
            "encrypted_reasoning": False,
            "unknown_items": False,
            "web_search": False,
            "images": False,
        },
    },
    "xai": {
        "name": "xAI",
        "base_url": "https://api.x.ai/v1",
        "env_key": "XAI_API_KEY",
        "dialect": {"custom_tools": False, "unknown_items": False},
    },
    "ollama": {
        "name": "Ollama",
        "base_url": "http://127.0.0.1:11434/v1",
        "dialect": _FUNCTIONS_ONLY,
    },
    "lmstudio": {
        "name": "LM Studio",
        "base_url": "http://127.0.0.1:1234/v1",
        "dialect": _FUNCTIONS_ONLY,
    },
    "llamacpp": {
        "name": "llama.cpp",
        "base_url": "http://127.0.0.1:8080/v1",
        "dialect": _FUNCTIONS_ONLY,
    },
    "vllm": {
        "name": "vLLM",
        "base_url": "http://127.0.0.1:8000/v1",
        "dialect": _FUNCTIONS_ONLY,
    },
}

LOCAL: Final = {
    "ollama": "gpt-oss:20b",
    "lmstudio": "openai/gpt-oss-20b",
    "llamacpp": "",
    "vllm": "",
}
"""Those that run on one's own machine, and the model that `--oss` means there, as in Codex."""

ADDRESSES: Final = {"azure": "https://RESOURCE.openai.azure.com/openai/v1"}
"""Those whose address is the user's own, and what it looks like."""
