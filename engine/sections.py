"""What every section of `runtime.yaml` is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Percentage = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Frozen, strict about types and about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
