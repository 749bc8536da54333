"""What every described part shares: strict reading of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from routesim.policies.spelling import nearest


def unknown_key(key: object, known: Iterable[object]) -> PydanticCustomError:
    """The error for a key that nobody reads; its context names the key, so that a reader can find the line."""
    return key_error(key, f"unknown key {str(key)!r}{nearest(key, known)}")


def key_error(key: object, message: str) -> PydanticCustomError:
    """An error about one key of the value under validation: pydantic itself would only name the whole value."""
    return PydanticCustomError("key", "{message}", {"message": message, "key": key})


class Description(BaseModel):
    """Inert, immutable parameters, read strictly: no coercion, no unknown keys, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    raise unknown_key(key, known)
        return value

    @model_serializer(mode="wrap")
    def _leave_out_the_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # not exclude_none, which would also empty `when: {bank: null}`
        return {key: value for key, value in handler(self).items() if value is not None}
