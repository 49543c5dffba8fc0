"""The keys of `config.toml`: names, types, defaults, and which of them a project may set.

Names are Codex's where Codex has them. Owns no reading: that is `config`.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from backstay.core.dialect import Dialect
from backstay.core.usage import Price

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Text = Annotated[str, Meta(min_length=1)]


class ProviderTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[model_providers.NAME]`; where NAME is built in, it overrides single keys of that."""

    base_url: str = ""
    name: str = ""
    env_key: str = ""
    """The environment variable that holds the key."""
    env_key_instructions: str = ""
    """How to get a key: said where the variable is not set."""
    requires_openai_auth: bool = False
    """Without an `env_key`: the key of the provider `openai` is sent."""
    wire_api: Literal["responses"] = "responses"
    http_headers: dict[str, str] = {}
    env_http_headers: dict[str, str] = {}
    query_params: dict[str, str] = {}
    request_max_retries: Count | None = None
    stream_max_retries: Count | None = None
    stream_idle_timeout_ms: Positive | None = None
    connect_timeout_ms: Positive | None = None
    reasoning: bool = False
    dialect: Dialect = Dialect()
    """Ours: what the provider understands, one flag per known difference."""


class SandboxTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[sandbox_workspace_write]`."""

    writable_roots: list[str] = []
    network_access: bool = True


class ShellTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[shell_environment_policy]`: what commands inherit. Patterns are globs, case is nothing."""

    inherit: Literal["all", "core", "none"] = "all"
    ignore_default_excludes: bool = True
    """Without it, variables with KEY, SECRET or TOKEN in their name are left out."""
    exclude: list[str] = []
    set: dict[str, str] = {}
    include_only: list[str] = []


class Configuration(msgspec.Struct, kw_only=True):
    """The keys of `config.toml`, all optional."""

    model: Text = ""
    model_provider: Text = "openai"
    model_providers: dict[str, Any] = {}
    model_reasoning_effort: Text = ""
    model_reasoning_summary: Literal["auto", "concise", "detailed", "none"] = "auto"
    model_verbosity: Literal["", "low", "medium", "high"] = ""
    model_context_window: Positive | None = None
    model_auto_compact_token_limit: Count | None = None
    hide_agent_reasoning: bool = False
    project_doc_max_bytes: Count = 32 * 1024
    project_doc_fallback_filenames: list[Text] = []
    model_instructions_file: Text = ""
    openai_base_url: str = ""
    oss_provider: Text = ""
    """The local provider that `--oss` means."""
    profile: Text = ""
    profiles: dict[str, dict[str, Any]] = {}
    approval_policy: str | dict[str, Any] = "never"
    sandbox_mode: Literal["", "read-only", "workspace-write", "danger-full-access"] = ""
    sandbox_workspace_write: SandboxTable = SandboxTable()
    shell_environment_policy: ShellTable = ShellTable()
    web_search: Literal["disabled", "cached", "live"] = "disabled"
    mcp_servers: dict[str, Any] = {}
    command_grace_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Ours: how long commands outlive an agent that died."""
    max_steps: Positive | None = None
    max_tokens: Positive | None = None
    max_cost: Annotated[float, Meta(gt=0)] | None = None
    """Ours: the budget of a turn, in steps, tokens and US dollars."""
    prices: dict[str, Price] = {}
    """Ours: what a model costs, before what is known of it."""


FROM_A_PROJECT: Final = frozenset(
    {
        "model",
        "model_reasoning_effort",
        "model_reasoning_summary",
        "model_verbosity",
        "model_context_window",
        "model_auto_compact_token_limit",
        "hide_agent_reasoning",
        "web_search",
    }
)
"""What a project's file may set: nothing that sends the key or the text elsewhere, runs a program,
widens what commands may do or what a turn may cost."""

TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "sandbox_workspace_write": SandboxTable,
    "shell_environment_policy": ShellTable,
}

OF_CODEX: Final = frozenset(
    {
        "agents",
        "analytics",
        "apps",
        "chatgpt_base_url",
        "check_for_update_on_startup",
        "cli_auth_credentials_store",
        "compact_prompt",
        "default_permissions",
        "developer_instructions",
        "disable_paste_burst",
        "experimental_bearer_token",
        "experimental_compact_prompt_file",
        "experimental_use_profile",
        "features",
        "feedback",
        "file_opener",
        "forced_chatgpt_workspace_id",
        "forced_login_method",
        "history",
        "hooks",
        "instructions",
        "log_dir",
        "mcp_oauth_credentials_store",
        "model_supports_reasoning_summaries",
        "notice",
        "notify",
        "otel",
        "permissions",
        "personality",
        "plugins",
        "preferred_auth_method",
        "project_root_markers",
        "projects",
        "review_model",
        "service_tier",
        "show_raw_agent_reasoning",
        "skills",
        "sqlite_home",
        "supports_websockets",
        "suppress_unstable_features_warning",
        "tool_output_token_limit",
        "tools",
        "tui",
        "websocket_connect_timeout_ms",
        "windows",
    }
)
"""Keys of Codex that mean nothing here: taken, and named in one line."""
