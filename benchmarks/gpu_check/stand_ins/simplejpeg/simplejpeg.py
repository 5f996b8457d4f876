"""For machines without simplejpeg: refuse every JPEG, whereupon the stream decodes it with Pillow."""

from __future__ import annotations

from typing import Any


def decode_jpeg(data: bytes, *arguments: Any, **options: Any) -> Any:
    """Raise ValueError, as for an unusual JPEG."""
    raise ValueError("simplejpeg is not installed")
