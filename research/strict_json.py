"""Values that strict JSON can hold, which has no NaN and no infinity."""

import math
from typing import Any


def strict(value: Any) -> Any:
    """Replace numbers that are not finite by None, and tuples by lists, as JSON returns them."""
    if isinstance(value, dict):
        return {name: strict(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
