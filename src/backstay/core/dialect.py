"""What a provider's Responses API understands, as far as the prompt view and the request need it.

Owns the flags and their meaning. Which provider has which is configuration (`model.provider`).
"""

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One flag per known difference; the defaults are those of api.openai.com."""

    store: bool = False
    """The provider keeps responses: `store` is sent true, and items carry the ids that it gave.

    Where it doesn't, an id is "not found" there and must not be sent (FACTS 9)."""

    custom_tools: bool = True
    """Tools of type `custom` are understood. llama.cpp drops them silently (FACTS 15)."""

    encrypted_reasoning: bool = True
    """Reasoning comes with `encrypted_content`, is asked for by `include` and sent back."""

    calls_together: bool = False
    """No item may stand between the calls of a step, nor between its outputs (DeepSeek)."""

    unknown_items: bool = True
    """Items of types that the view doesn't know may be sent. llama.cpp answers 400 (FACTS 15)."""

    developer_role: bool = True
    """Messages may have the role `developer`; elsewhere they are sent as `system`."""

    compact_endpoint: bool = False
    """There is `POST /responses/compact`, which shortens a conversation on the provider's side."""

    background: bool = False
    """A cut stream may be taken up again: requests are sent with `background` (FACTS 11)."""

    web_search: bool = True
    """The tool `web_search` is run by the provider."""

    images: bool = True
    """The provider takes images; elsewhere `view_image` isn't offered, and a text stands for each."""

    output_images: bool = True
    """The output of a call may hold an image; elsewhere it follows in a message of the user."""
