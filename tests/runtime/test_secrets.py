"""Keys stay out of commands, journals and what is shown."""

from pathlib import Path

import pytest

from backstay.chaos import call, message, response
from backstay.runtime.config import load
from backstay.runtime.settings import settings
from tests.runtime.bench import Bench
from tests.runtime.test_session import outputs_in, prompt


def test_no_command_sees_the_key_of_any_provider(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that hold keys are left out of what a command inherits."""
    script = [response(call("exec_command", {"cmd": "env"})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    for name, value in {"OPENAI_API_KEY": "k-one", "MINE": "k-two", "OTHER": "kept"}.items():
        monkeypatch.setenv(name, value)
    bench.run(prompt(), hidden=("MINE",))
    (printed,) = outputs_in(bench.inputs()[1])
    assert "k-one" not in printed
    assert "k-two" not in printed
    assert "OTHER=kept" in printed
    assert "k-one" not in str(bench.records())


def test_settings_name_every_variable_that_holds_a_key(tmp_path: Path, home: Path) -> None:
    """`env_key` and `env_http_headers` of all providers are hidden, whichever is chosen."""
    (home / "config.toml").write_text(
        'model = "m"\n[model_providers.a]\nbase_url = "http://localhost/v1"\nenv_key = "A_KEY"\n'
        '[model_providers.b]\nbase_url = "http://localhost/v1"\n'
        'env_http_headers = { "X-Key" = "B_KEY" }\n'
    )
    loaded = load(str(home), str(tmp_path), [])
    found = settings(loaded, {"OPENAI_API_KEY": "x"}, home=str(home), cwd=str(tmp_path))
    assert {"A_KEY", "B_KEY"} <= set(found.hidden)
